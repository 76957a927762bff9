"""Where a plan is made: a scratch folder and a process that both go away, even after the studio was killed."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from lcm_studio.jobs.config import environment, project_root
from lcm_studio.jobs.identity import identify, signal_group
from lcm_studio.jobs.layout import JobFolder
from lcm_studio.jobs.records import Identity, JobsUnavailable

PREFIX = ".plan-"
LOCK, PROCESS = "lock", "process.json"


@contextmanager
def writing(home: Path) -> Iterator[None]:
    """JobsUnavailable, with the remedy, where the folder of runs cannot be written."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise JobsUnavailable(
            f"The folder of runs, {home}, cannot be written ({why}): free some space, make it writable, "
            "or set LCM_STUDIO_HOME to a folder that is."
        ) from error


@contextmanager
def scratch_folder(home: Path) -> Iterator[JobFolder]:
    """A folder for one plan; its lock is held until it is removed, however this process ends."""
    folder = JobFolder(home / f"{PREFIX}{secrets.token_hex(6)}")
    try:
        with writing(home):
            folder.create()
            lock = (folder.path / LOCK).open("w")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)


def run_recorded(
    argv: Sequence[str], scratch: JobFolder, *, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Runs `argv` in a session of its own, with its identity in the folder. Raises TimeoutExpired."""
    child = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace", cwd=project_root(), start_new_session=True,
        env=environment() | {"TMPDIR": str(scratch.path)},
    )  # fmt: skip
    identity = identify(child.pid)
    if identity is not None:
        with writing(scratch.path.parent):
            (scratch.path / PROCESS).write_text(json.dumps(asdict(identity)), encoding="ascii")
    try:
        out, err = child.communicate(timeout=seconds)
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        raise
    return subprocess.CompletedProcess(argv, child.returncode, out, err)


def sweep(home: Path) -> int:
    """Ends the plans of studios that were killed, and removes their folders; returns how many there were."""
    gone = 0
    for folder in home.glob(f"{PREFIX}*"):
        try:
            with (folder / LOCK).open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # its studio is alive
        except OSError:
            pass  # one of before folders were locked, or half removed
        try:
            identity = Identity(**json.loads((folder / PROCESS).read_text(encoding="ascii")))
            signal_group(identity, signal.SIGKILL)
        except (OSError, ValueError, TypeError):
            pass  # no process was recorded
        shutil.rmtree(folder, ignore_errors=True)
        gone += 1
    return gone
