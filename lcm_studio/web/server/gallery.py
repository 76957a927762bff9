"""The pictures and animations in the output folder, of all days: found by what their files say, starred, deleted, downloaded. No Gradio here.

Who signs in sees a folder of one's own. Where nobody does, only this machine's user sees pictures (`allowed`).
"""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lcm_studio.images.animation import SUFFIXES, first_frame, read_animation
from lcm_studio.images.png import read_settings
from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.spec.regular import open_regular
from lcm_studio.web.server.picture_store import folder_of

if TYPE_CHECKING:
    from PIL import Image

    from lcm_studio.web.options import Options

ID = re.compile(r"(\d{4}-\d{2}-\d{2}/)?\w[\w.-]{0,120}\.(png|gif|mp4)")
HEAD = 512 * 1024  # of a file, where its settings are
KINDS = (".png", *SUFFIXES)
STARS = ".stars.json"
MOST = 500  # pictures of one download or deletion
PAGE = 120
THUMB = 256
KEPT_THUMBS = 1024


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A picture. `id`: its place in the folder; `day`: when it was made, as 2026-01-31."""

    id: str
    day: str
    changed: int
    settings: Mapping[str, Any]

    def matches(self, words: Iterable[str]) -> bool:
        text = " ".join((self.id, self.day, *(f"{k}={v}" for k, v in self.settings.items())))
        return all(word in text.lower() for word in words)


def allowed(options: Options) -> bool:
    """Whether there is a gallery: its visitors sign in, or nobody but this machine's user can come."""
    return options.local or bool(options.users)


class Gallery:
    """Reads `root` anew at every question; what a file says is read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._read: dict[Path, Entry] = {}
        self._thumbs: OrderedDict[tuple[Path, int], bytes] = OrderedDict()

    def entries(self, user: str, search: str = "", *, stars: bool = False) -> list[Entry]:
        """The newest first; of those with all words of `search`, or with a star, where that is asked for."""
        folder = folder_of(self.root, user)
        files = [file for kind in KINDS for file in folder.glob(f"*{kind}")]
        files += [file for kind in KINDS for file in folder.glob(f"[0-9]*/*{kind}")]
        found = [entry for file in files if (entry := self._entry(folder, file)) is not None]
        words = search.lower().split()
        starred = self.stars(user) if stars else set()
        found = [e for e in found if e.matches(words) and (not stars or e.id in starred)]
        return sorted(found, key=lambda e: (e.day, e.changed, e.id), reverse=True)

    def _entry(self, folder: Path, file: Path) -> Entry | None:
        name = file.relative_to(folder).as_posix()
        try:
            info = file.lstat()
        except OSError:
            return None
        with self._lock:
            known = self._read.get(file)
        if not ID.fullmatch(name):
            return None
        if known is not None and known.changed == info.st_mtime_ns:
            return known
        try:
            with open_regular(file) as opened:
                if file.suffix == ".png":
                    settings = read_settings(opened.read(HEAD)) or {}
                else:
                    settings = read_animation(opened, file.suffix)
        except (OSError, ValueError, StudioError):
            return None
        day = name[:10] if "/" in name else f"{datetime.fromtimestamp(info.st_mtime):%Y-%m-%d}"
        entry = Entry(id=name, day=day, changed=info.st_mtime_ns, settings=settings)
        with self._lock:
            self._read[file] = entry
        return entry

    def path(self, user: str, id_: object) -> Path:
        """The file of a picture. Raises BadRequest where there is none."""
        file = folder_of(self.root, user) / str(id_)
        if not ID.fullmatch(str(id_)) or file.is_symlink() or not file.is_file():
            raise BadRequest("this picture is no longer there; it was deleted or moved")
        return file

    def stars(self, user: str) -> set[str]:
        try:
            said = json.loads((folder_of(self.root, user) / STARS).read_text())
        except (OSError, ValueError):
            return set()
        return {one for one in said if isinstance(one, str)} if isinstance(said, list) else set()

    def star(self, user: str, ids: Iterable[object], *, on: bool) -> None:
        """Raises BadRequest for a picture that is not there."""
        names = {self.path(user, id_) and str(id_) for id_ in several(ids)}
        self._change_stars(user, lambda stars: stars | names if on else stars - names)

    def _change_stars(self, user: str, change: Any) -> None:
        file = folder_of(self.root, user) / STARS
        with self._lock:
            changed = sorted(change(self.stars(user)))
            fd, name = tempfile.mkstemp(dir=file.parent, prefix=".stars-")
            with os.fdopen(fd, "w") as out:
                json.dump(changed, out)
            Path(name).replace(file)

    def delete(self, user: str, ids: Iterable[object]) -> int:
        """Removes files for good; returns how many. One that is gone already is no error."""
        gone = 0
        names = {str(id_) for id_ in several(ids)}
        for name in names:
            try:
                self.path(user, name).unlink()
                gone += 1
            except (BadRequest, FileNotFoundError):
                continue
        if names & self.stars(user):
            self._change_stars(user, lambda stars: stars - names)
        return gone

    @staticmethod
    def _opened(file: Path, opened: IO[bytes]) -> Image.Image:
        """A picture, or the first frame of an animation."""
        from PIL import Image

        if file.suffix == ".png":
            return Image.open(opened, formats=("PNG",))
        return Image.fromarray(first_frame(str(file), file.suffix))

    def thumb(self, user: str, id_: object) -> bytes:
        """A small JPEG of a picture. Raises BadRequest where it cannot be read."""
        from PIL import Image

        file = self.path(user, id_)
        key = (file, file.stat().st_mtime_ns)
        with self._lock:
            if key in self._thumbs:
                self._thumbs.move_to_end(key)
                return self._thumbs[key]
        try:
            with open_regular(file) as opened, self._opened(file, opened) as image:
                image.thumbnail((THUMB, THUMB), Image.Resampling.BILINEAR)
                buffer = io.BytesIO()
                image.convert("RGB").save(buffer, "JPEG", quality=85)
        except (OSError, ValueError, SyntaxError) as error:
            raise BadRequest("this picture is damaged") from error
        with self._lock:
            self._thumbs[key] = buffer.getvalue()
            while len(self._thumbs) > KEPT_THUMBS:
                self._thumbs.popitem(last=False)
        return buffer.getvalue()

    def bundle(self, user: str, ids: Iterable[object]) -> IO[bytes]:
        """A zip of pictures, at its beginning; gone when it is closed. Raises BadRequest for one that is not there."""
        files = [self.path(user, id_) for id_ in several(ids)]
        out = tempfile.TemporaryFile()  # noqa: SIM115  whoever sends it closes it
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            for file in files:
                archive.write(file, file.relative_to(folder_of(self.root, user)).as_posix())
        out.seek(0)
        return out


def several(ids: Iterable[object]) -> list[object]:
    """Raises BadRequest for none, and for more than may be meant."""
    chosen = list(ids)
    if not 0 < len(chosen) <= MOST:
        raise BadRequest(f"choose 1 to {MOST} pictures")
    return chosen
