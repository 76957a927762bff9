"""Finished pictures and animations: a JPEG for the eye at once, files off the critical path.

A picture is reached by a random id, never by a name or path. Without ``--outputs`` the files live in a private
folder of this run, which the next start sweeps.
"""

from __future__ import annotations

import base64
import io
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels

PREVIEW_QUALITY = 85
FINAL_QUALITY = 93
THUMB = 112
MEDIA = {".png": "image/png", ".gif": "image/gif", ".mp4": "video/mp4"}


def jpeg(pixels: Pixels, *, quality: int = PREVIEW_QUALITY, largest: int | None = None) -> str:
    """A data URL of uint8 `(H, W, 3 or 4)` pixels; alpha is laid over white; `largest` shrinks the long side."""
    from PIL import Image

    image = Image.fromarray(pixels)
    if image.mode != "RGB":
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image.convert("RGBA"))
        image = ground.convert("RGB")
    if largest is not None and max(image.size) > largest:
        image.thumbnail((largest, largest), Image.Resampling.BILINEAR, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def png(pixels: Pixels) -> str:
    """A data URL of uint8 `(H, W)` or `(H, W, 3 or 4)` pixels, exact."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """`path`: its PNG (of frames a GIF or MP4), written when `written` is done."""

    id: str
    path: Path
    written: Future[Any]

    @property
    def url(self) -> str:
        return f"studio/picture/{self.id}{self.path.suffix}"


def folder_of(root: Path, user: str) -> Path:
    """Where a user's pictures lie; those of nobody in particular lie in the root itself."""
    return root / f"user-{quote(user, safe='')}" if user else root


@dataclass(frozen=True, kw_only=True)
class Album:
    """A store that keeps the pictures of one user apart."""

    store: PictureStore
    user: str

    def add(self, pixels: Pixels, settings: Mapping[str, Any]) -> Picture:
        return self.store.add(pixels, settings, self.user)

    def add_video(
        self, frames: Sequence[Pixels], settings: Mapping[str, Any], kind: str
    ) -> Picture:
        return self.store.add_video(frames, settings, kind, self.user)


class PictureStore:
    """Writes files in one background thread and finds them again by id; forgets the oldest above `limit`."""

    def __init__(self, folder: Path, *, keep: bool, limit: int = 2000) -> None:
        self.folder, self._keep, self._limit = folder, keep, limit
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.Lock()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="png")

    def add(self, pixels: Pixels, settings: Mapping[str, Any], user: str = "") -> Picture:
        """Register a picture of a signed-in `user` (or of nobody in particular) and start writing it."""
        return self._keep_as(
            ".png", settings, lambda path: self._write(path, pixels, settings), user
        )

    def add_video(
        self, frames: Sequence[Pixels], settings: Mapping[str, Any], kind: str, user: str = ""
    ) -> Picture:
        """Register frames as an animation, `kind` gif or mp4, and start writing it."""
        from lcm_studio.edits.video import write_video

        def write(path: Path) -> None:
            write_video(path, frames, settings=settings)

        return self._keep_as(f".{kind}", settings, write, user)

    def adopt(self, path: Path) -> Picture:
        """A file that lies here already, found by an id again."""
        written: Future[Any] = Future()
        written.set_result(path)
        picture = Picture(id=secrets.token_urlsafe(16), path=path, written=written)
        with self._lock:
            self._pictures[picture.id] = picture
        return picture

    def album(self, user: str) -> Album:
        """Where the pictures of one user go."""
        return Album(store=self, user=user)

    def _keep_as(
        self, suffix: str, settings: Mapping[str, Any], write: Callable[[Path], Any], user: str
    ) -> Picture:
        id_ = secrets.token_urlsafe(16)
        now = datetime.now()
        folder = folder_of(self.folder, user)
        folder = folder / f"{now:%Y-%m-%d}" if self._keep else folder
        path = folder / f"{now:%H%M%S}-{settings.get('seed', 0)}-{id_[:6]}{suffix}"
        picture = Picture(id=id_, path=path, written=self._writer.submit(write, path))
        with self._lock:
            self._pictures[id_] = picture
            old = [
                self._pictures.popitem(last=False)[1]
                for _ in range(len(self._pictures) - self._limit)
            ]
        if not self._keep:
            for gone in old:
                self._writer.submit(gone.path.unlink, missing_ok=True)
        return picture

    def find(self, id_: str) -> Picture | None:
        with self._lock:
            return self._pictures.get(id_)

    @staticmethod
    def _write(path: Path, pixels: Pixels, settings: Mapping[str, Any]) -> None:
        from lcm_studio.images import write_png

        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, pixels, settings)
