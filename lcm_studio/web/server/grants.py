"""Folders that the user of this machine lets runs read by a click on the page; `--data-dir` names the others. No Gradio here.

A click counts only where nobody else can press it (`possible`), and until the studio ends. It never opens a whole home, a
folder of the system or anything hidden, such as `~/.ssh`.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    from lcm_studio.web.options import Options

SYSTEM = tuple(
    Path(name)
    for name in (
        "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/var",
        "/Library", "/System", "/private/etc",
    )
)  # fmt: skip


def possible(options: Options) -> bool:
    """Whether a click may allow a folder: the page is this machine's alone, with no proxy or sign-in in front."""
    return options.local and not (options.users or options.trusted_proxies or options.allow_origins)


def refusal(folder: Path) -> str:
    """Why a resolved folder is none that a click may allow; empty where it may."""
    if any(part.startswith(".") for part in folder.parts):
        return "it is hidden"
    if Path.home().resolve().is_relative_to(folder):
        return "it holds a whole home; choose a folder in it"
    if any(folder.is_relative_to(place) for place in SYSTEM):
        return "it belongs to the system"
    if not folder.is_dir():
        return "it is no folder"
    if not os.access(folder, os.R_OK | os.X_OK):
        return "it cannot be read"
    return ""


class Grants:
    """What has been allowed since the studio started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: tuple[Path, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """In the order of the clicks, resolved."""
        return self._folders

    def allow(self, folder: Path, options: Options) -> Path:
        """Allows `folder` and what lies in it, but for what is hidden; raises BadRequest where that may not be."""
        if not possible(options):
            raise BadRequest(
                "folders are allowed by a click only where the page is this machine's alone; start the studio "
                "with --data-dir FOLDER"
            )
        place = folder.resolve()
        if why := refusal(place):
            raise BadRequest(f"{place} cannot be allowed by a click: {why}")
        with self._lock:
            if place not in self._folders:
                self._folders = (*self._folders, place)
        return place
