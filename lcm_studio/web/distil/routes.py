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
from lcm_studio.web.distil.watch import jobs, viewer_of

if TYPE_CHECKING:
    from lcm_studio.jobs.layout import JobFolder
    from lcm_studio.web.studio import Studio

_SAMPLE = re.compile(r"(step-\d{1,9}|teacher|comparison)\.png")


def job_routes(studio: Studio) -> list[BaseRoute]:
    """To be mounted under /studio."""
    routes = JobRoutes(studio)
    return [
        Route("/jobs/{id}/samples/{name}", routes.sample),
        Route("/jobs/{id}/output.zip", routes.output),
    ]


def _missing() -> Response:
    return JSONResponse({"detail": "There is no such job or file; look at the list of runs."}, 404)


class JobRoutes:
    """What a run has made, for those who may see it."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def _folder(self, http: Http) -> JobFolder | None:
        try:
            job = viewer_of(self.studio, http).job(http.path_params["id"])
            return jobs().folder(job.id)
        except StudioError:
            return None

    async def sample(self, http: Http) -> Response:
        """One validation picture."""
        folder, name = self._folder(http), http.path_params["name"]
        if folder is None or not _SAMPLE.fullmatch(name):
            return _missing()
        path = folder.samples / name
        if not path.is_file() or path.is_symlink():
            return _missing()
        return FileResponse(
            path, media_type="image/png", headers={"Cache-Control": "private, max-age=60"}
        )

    async def output(self, http: Http) -> Response:
        """The finished model folder as one uncompressed zip (weights do not shrink)."""
        folder = self._folder(http)
        if folder is None or not any(folder.output.glob("*")):
            return _missing()
        jobs().model(folder.path.name)  # it bears the run's name elsewhere, too
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
