"""A private folder per run for uploads and pictures, swept after it; and the folder of models that stays."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lcm_studio import bundled

if TYPE_CHECKING:
    from lcm_studio.web.options import Options

NAME = "lcm-studio"


def private_folder(base: Path | None = None) -> tuple[Path, IO[str]]:
    """(folder of this run, its lock). The lock is held until the process ends, however it ends."""
    root = (base or Path(tempfile.gettempdir())) / f"{NAME}-{os.getuid()}"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = root.lstat()
    if not root.is_dir() or root.is_symlink() or info.st_uid != os.getuid():
        raise PermissionError(f"{root} belongs to somebody else; remove it or set TMPDIR")
    root.chmod(0o700)
    with (root / "starting").open("a") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        sweep(root)
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=root))
        lock = (folder / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return folder, lock


def sweep(root: Path) -> int:
    """Remove the folders of runs that are over; returns how many."""
    gone = 0
    for folder in root.glob("run-*"):
        try:
            with (folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                gone += 1
        except (BlockingIOError, FileNotFoundError):
            continue
    return gone


def models_folder(options: Options) -> Path | None:
    """Where users put models that stay: --models-dir, LCM_STUDIO_MODELS, or that of a checkout.

    None where engines elsewhere have their own, and where the bundled models lie in an installed package.
    """
    if options.engine:
        return None
    first = os.environ.get("LCM_STUDIO_MODELS", "").split(os.pathsep)[0]
    if options.models_dirs:
        return options.models_dirs[0].expanduser().resolve()
    if first:
        return Path(first).expanduser().resolve()
    return bundled.MODELS if bundled.IS_CHECKOUT else None
