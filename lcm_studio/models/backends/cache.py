"""A folder of converted networks: whole entries or none, the oldest dropped first."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

log = logging.getLogger(__name__)

ENTRY = "entry.json"
UNFINISHED = ".unfinished-"
DAY = 24 * 3600.0


def default_folder() -> Path:
    """LCM_STUDIO_CACHE, or lcm-studio in the user's folder for caches."""
    given = os.environ.get("LCM_STUDIO_CACHE")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lcm-studio"


def default_limit() -> int:
    """Bytes: LCM_STUDIO_CACHE_GB (default 20) times 2^30."""
    try:
        return int(float(os.environ.get("LCM_STUDIO_CACHE_GB", "20")) * 2**30)
    except (ValueError, OverflowError):
        log.warning("LCM_STUDIO_CACHE_GB is no number; 20 is used")
        return 20 * 2**30


class Cache:
    """Entries are folders `KEY/` with the files of one network and `entry.json`: versions, and each file's size.

    An entry is written beside its place and moved there when it is whole. Deleting takes an entry out of sight
    first, and touches nothing that is no entry.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        self.folder = (folder or default_folder()) / "networks"
        self.limit = default_limit() if limit is None else limit

    def find(self, key: str, versions: Mapping[str, str]) -> Path | None:
        """The folder of a whole entry of these versions; another is dropped, with one line in the log."""
        place = self.folder / key
        if not place.is_dir():
            return None
        fault = self._fault(place, versions)
        if fault:
            log.warning("%s is built again: %s", place, fault)
            self._drop(place)
            return None
        try:
            os.utime(place / ENTRY)
        except OSError:  # somebody else's cache, read-only: its age then stays
            log.debug("%s cannot be marked as used", place)
        return place

    def store(self, key: str, versions: Mapping[str, str], write: Callable[[Path], None]) -> Path:
        """Fills an entry by `write(folder)` and returns its place. Raises OSError where the disk does not take it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.sweep()
        work = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.folder))
        try:
            write(work)
            files = {file.name: _mark(file) for file in sorted(work.iterdir())}
            (work / ENTRY).write_text(json.dumps({"versions": dict(versions), "files": files}))
            place = self.folder / key
            if place.exists():
                self._drop(place)
            try:
                work.rename(place)
            except OSError:
                if self._fault(place, versions):  # else: another process was quicker
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self.sweep(keep=place)
        return place

    def sweep(self, keep: Path | None = None) -> None:
        """Deletes what was left unfinished a day ago, then the entries used longest ago, down to the limit."""
        if not self.folder.is_dir():
            return
        entries: list[tuple[float, int, Path]] = []
        for place in self.folder.iterdir():
            if place.is_symlink() or not place.is_dir():
                continue
            try:
                if place.name.startswith(UNFINISHED):
                    if time.time() - place.stat().st_mtime > DAY:
                        shutil.rmtree(place, ignore_errors=True)
                elif (place / ENTRY).is_file():
                    size = sum(file.stat().st_size for file in place.iterdir())
                    entries.append(((place / ENTRY).stat().st_mtime, size, place))
            except OSError:  # another process was deleting it
                continue
        total = sum(size for _, size, _ in entries)
        for _, size, place in sorted(entries):
            if total <= self.limit:
                return
            if place != keep:
                self._drop(place)
                total -= size

    def bytes(self) -> int:
        """Bytes of all files in the folder."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())

    def _drop(self, place: Path) -> None:
        gone = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.folder))
        try:
            place.rename(gone / place.name)
        except OSError as error:
            log.warning("%s cannot be deleted (%s)", place, error.strerror)
        shutil.rmtree(gone, ignore_errors=True)

    def _fault(self, place: Path, versions: Mapping[str, str]) -> str:
        """Why an entry cannot be used, or nothing."""
        try:
            entry = json.loads((place / ENTRY).read_text())
            files = dict(entry["files"])
            if dict(entry["versions"]) != dict(versions):
                return "it is of another version"
            for name, mark in files.items():
                if Path(name).name != name or _mark(place / name) != mark:
                    return f"{name} is not what was written"
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return "it was cut off"
        return ""


def _mark(file: Path) -> list[object]:
    """Size, and of a small file its digest (weights are checked by what the network answers)."""
    size = file.stat().st_size
    small = size < 64 * 2**20
    return [size, hashlib.sha256(file.read_bytes()).hexdigest() if small else ""]
