"""Files that clients of the named endpoints download: one copy on the disk, gone after an hour."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections import deque
from pathlib import Path

KEPT_SECONDS = 3600
KEPT_FILES = 2000


class Handouts:
    """Lies inside Gradio's own cache folder, so that Gradio hands the files out without another copy."""

    def __init__(
        self, folder: Path, *, seconds: float = KEPT_SECONDS, most: int = KEPT_FILES
    ) -> None:
        self.folder, self.seconds, self.most = folder, seconds, most
        self._lock = threading.Lock()
        self._kept: deque[tuple[float, Path]] = deque()

    def add(self, source: Path, name: str) -> Path:
        """`source` under `name` in a folder that nobody can guess: a second name of the same file where possible."""
        self.sweep()
        place = self.folder / secrets.token_urlsafe(16)
        place.mkdir(parents=True, mode=0o700)
        with self._lock:
            self._kept.append((time.monotonic(), place))
        target = place / name
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, target)
        return target

    def sweep(self) -> int:
        """Removes what is too old or too many; returns how many files that were."""
        gone = []
        with self._lock:
            end = time.monotonic() - self.seconds
            while self._kept and (self._kept[0][0] < end or len(self._kept) >= self.most):
                gone.append(self._kept.popleft()[1])
        for place in gone:
            shutil.rmtree(place, ignore_errors=True)
        return len(gone)
