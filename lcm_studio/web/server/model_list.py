"""What the list of models shows beside their facts: a picture of each, and when it was last used."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.requests import Request as Http
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.kept import data_folder, read_kept, write_kept
from lcm_studio.web.server.stops import user_of

if TYPE_CHECKING:
    from lcm_studio.spec.models import ModelInfo
    from lcm_studio.web.server.gallery import Entry, Gallery
    from lcm_studio.web.studio import Studio

PREVIEWS = (".preview.png", ".preview.jpg", ".png", ".jpg", ".jpeg", ".webp")  # after its name
INSIDE = ("preview.png", "preview.jpg")  # in its folder
LARGEST = 256  # pixels of a preview's longer side
EVERY = 60.0  # seconds between two notes of one model
MOST = 1000


class ModelUse:
    """When each model last made a picture, in one JSON file; what cannot be read or written is no answer, and no error."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or data_folder() / "models.json"
        self._lock = threading.Lock()
        self._noted: dict[str, float] = {}

    def note(self, model: str) -> None:
        """This model has made a picture now."""
        now = time.time()
        with self._lock:
            if now - self._noted.get(model, 0.0) < EVERY:
                return
            self._noted[model] = now
            times = {**self.times(), model: now}
            while len(times) > MOST:
                times.pop(min(times, key=lambda name: times[name]))
            write_kept(self.file, times)

    def times(self) -> dict[str, float]:
        """{model: seconds since 1970}."""
        return {
            name: float(when)
            for name, when in read_kept(self.file).items()
            if isinstance(when, int | float) and not isinstance(when, bool)
        }


def preview_file(info: ModelInfo) -> Path | None:
    """The picture that lies beside a model: NAME.preview.png or NAME.png, or preview.png in its folder."""
    path = Path(info.path)
    names = [*path.parts[-1:], *([path.stem] if path.suffix.lower() == ".safetensors" else [])]
    beside = (path.with_name(f"{name}{ending}") for name in names for ending in PREVIEWS)
    inside = (path / name for name in INSIDE)
    return next((file for file in (*beside, *inside) if file.is_file()), None)


@dataclass(frozen=True, kw_only=True)
class ModelList:
    """`gallery`: of the pictures that were made; None where strangers could come without signing in."""

    studio: Studio
    gallery: Gallery | None

    def routes(self) -> list[BaseRoute]:
        """Under /studio; static/models.js asks them."""
        return [Route("/models", self.all), Route("/model-preview", self.preview)]

    async def all(self, http: Http) -> Response:
        """GET: {id: {used: seconds since 1970 or null, picture: address under /studio or null}} of every model."""
        user = user_of(http) if self.studio.options.users else ""
        said = await asyncio.to_thread(lambda: dict(self._rows(user)))
        return JSONResponse(said, headers={"Cache-Control": "no-store"})

    def _rows(self, user: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        times = self.studio.used.times()
        newest: dict[str, Entry] = {}
        for entry in self.gallery.entries(user) if self.gallery else ():
            newest.setdefault(str(entry.settings.get("model")), entry)
        for info in self.studio.engine.catalog():
            names = (info.id, info.path)  # a request may name it by its path
            made = next((newest[name] for name in names if name in newest), None)
            used = max((times.get(name, 0.0) for name in names), default=0.0)
            if made is not None:
                used = max(used, made.changed / 1e9)
                picture = f"gallery/thumb/{quote(made.id)}?v={made.changed}"
            elif (file := preview_file(info)) is not None:
                picture = f"model-preview?id={quote(info.id, safe='')}&v={file.stat().st_mtime_ns}"
            else:
                picture = ""
            yield info.id, {"used": used or None, "picture": picture or None}

    async def preview(self, http: Http) -> Response:
        """GET ?id=: a small JPEG of the picture that lies beside a model of the list."""
        wanted = http.query_params.get("id", "")
        data = await asyncio.to_thread(self._preview, wanted)
        if data is None:
            return JSONResponse({"detail": "There is no picture of this model."}, 404)
        headers = {"Cache-Control": "private, max-age=86400"}
        return Response(data, media_type="image/jpeg", headers=headers)

    def _preview(self, wanted: str) -> bytes | None:
        from PIL import Image

        from lcm_studio.images import read_image

        info = next((one for one in self.studio.engine.catalog() if one.id == wanted), None)
        file = None if info is None else preview_file(info)
        if file is None:
            return None
        try:
            image = Image.fromarray(read_image(file))
        except StudioError:
            return None
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=85)
        return buffer.getvalue()
