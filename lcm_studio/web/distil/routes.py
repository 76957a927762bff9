"""A job's pictures and its finished model over HTTP, by job id; the guard in front authorises as everywhere."""

from __future__ import annotations

import re
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as Http
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from lcm_studio.spec.errors import StudioError
from lcm_studio.web.distil.watch import jobs

if TYPE_CHECKING:
    from lcm_studio.jobs.layout import JobFolder

_SAMPLE = re.compile(r"(step-\d{1,9}|teacher|comparison)\.png")


def job_routes() -> list[BaseRoute]:
    """To be mounted under /studio."""
    return [
        Route("/jobs/{id}/samples/{name}", sample),
        Route("/jobs/{id}/output.zip", output),
    ]


def _folder(http: Http) -> JobFolder | None:
    try:
        return jobs().folder(http.path_params["id"])
    except StudioError:
        return None


def _missing() -> Response:
    return JSONResponse({"detail": "There is no such job or file; look at the list of runs."}, 404)


async def sample(http: Http) -> Response:
    """One validation picture."""
    folder, name = _folder(http), http.path_params["name"]
    if folder is None or not _SAMPLE.fullmatch(name):
        return _missing()
    path = folder.samples / name
    if not path.is_file() or path.is_symlink():
        return _missing()
    return FileResponse(
        path, media_type="image/png", headers={"Cache-Control": "private, max-age=60"}
    )


async def output(http: Http) -> Response:
    """The finished model folder as one uncompressed zip (weights do not shrink)."""
    folder = _folder(http)
    if folder is None or not any(folder.output.glob("*")):
        return _missing()
    made = await run_in_threadpool(_zip, folder)
    name = f"{folder.path.name}.zip"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    remove = BackgroundTask(made.unlink, missing_ok=True)
    return FileResponse(made, media_type="application/zip", headers=headers, background=remove)


def _zip(folder: JobFolder) -> Path:
    with tempfile.NamedTemporaryFile(suffix=".zip", dir=folder.path, delete=False) as made:
        path = Path(made.name)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.output.rglob("*")):
            if file.is_file() and not file.is_symlink():
                archive.write(file, Path(folder.path.name) / file.relative_to(folder.output))
    return path
