"""Is this process still the one we started? A pid alone is never trusted and never signalled."""

from __future__ import annotations

import os
import signal
from functools import cache
from pathlib import Path

import psutil

from lcm_studio.jobs.records import Identity


@cache
def boot_id() -> str:
    """An id that changes at every boot; the boot time where the kernel offers no id."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"boot-{psutil.boot_time():.0f}"


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process, from field 3 and 22 of /proc/PID/stat."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except (ProcessLookupError, PermissionError):
        return None
    else:
        fields = text.rsplit(")", 1)[1].split()
        return fields[0], int(fields[19])
    try:  # systems without /proc
        process = psutil.Process(pid)
        letter = "Z" if process.status() == psutil.STATUS_ZOMBIE else "R"
        return letter, round(process.create_time() * 100)
    except psutil.Error:
        return None


def identify(pid: int) -> Identity | None:
    """The identity of a live process, None when there is none with this pid."""
    found = _stat(pid)
    return None if found is None else Identity(pid=pid, started=found[1], boot=boot_id())


def alive(identity: Identity) -> bool:
    """Whether exactly this process still runs; a zombie does not."""
    if identity.boot != boot_id() or identity.pid <= 1:
        return False
    found = _stat(identity.pid)
    return found is not None and found[0] not in "ZX" and found[1] == identity.started


def signal_group(identity: Identity, number: signal.Signals) -> bool:
    """Signals the process group that `identity` leads; False, and no signal, when it is not ours any more."""
    if not alive(identity):
        return False
    try:
        if os.getpgid(identity.pid) != identity.pid:
            return False
        os.killpg(identity.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
