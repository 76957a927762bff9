"""Pictures for ControlNets and IP-Adapters, by a key that a form holds: it travels with Live, and comes back with settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lcm_studio.spec import limits
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.settings import fingerprint

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels

KEY = re.compile(r"[0-9a-f]{16}")
KEPT = 64  # the oldest make room
GONE = "the picture of a ControlNet or an IP-Adapter is no longer kept; open it again"


class ControlPictures:
    """Those of this run. `free_paths`: whether a form may name a ControlNet or an IP-Adapter by its path."""

    def __init__(self, folder: Path, *, free_paths: bool) -> None:
        self.folder, self.free_paths = folder, free_paths

    def add(self, pixels: Pixels) -> str:
        """Keeps uint8 `(H, W, 3)` pixels, made smaller where a side is longer than any picture's; its key."""
        import numpy as np
        from PIL import Image

        image = Image.fromarray(pixels).convert("RGB")
        image.thumbnail((limits.MAX_SIDE, limits.MAX_SIDE), Image.Resampling.LANCZOS)
        key = fingerprint(np.asarray(image))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.folder / f"{key}.part"
        image.save(part, "PNG", compress_level=1)
        part.replace(self.folder / f"{key}.png")
        files = sorted(self.folder.glob("*.png"), key=lambda file: file.stat().st_mtime_ns)
        for file in files[:-KEPT]:
            file.unlink(missing_ok=True)
        return key

    def has(self, key: str) -> bool:
        """Whether the picture is kept."""
        return KEY.fullmatch(key) is not None and (self.folder / f"{key}.png").is_file()

    def find(self, key: str) -> Pixels:
        """The pixels. Raises BadRequest where they are no longer kept."""
        import numpy as np
        from PIL import Image

        if not self.has(key):
            raise BadRequest(GONE)
        try:
            with Image.open(self.folder / f"{key}.png") as image:
                return np.asarray(image.convert("RGB"))
        except OSError as error:
            raise BadRequest(GONE) from error

    def allowed(self, name: str) -> str:
        """The ControlNet or IP-Adapter that a form names. Raises BadRequest for a path of a user who is not known."""
        if not self.free_paths and Path(name).name != name:
            raise BadRequest(
                "ControlNets and IP-Adapters are not chosen by path here; choose one from the list"
            )
        return name
