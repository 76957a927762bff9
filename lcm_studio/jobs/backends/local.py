"""This machine: a process in a session of its own, known by pid, start time and boot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field

from lcm_studio.jobs.backends import Exit
from lcm_studio.jobs.config import environment, project_root
from lcm_studio.jobs.identity import alive, identify, signal_group
from lcm_studio.jobs.layout import JobFolder
from lcm_studio.jobs.records import Job
from lcm_studio.jobs.store import JobStore


@dataclass
class LocalBackend:
    """Children of this process are reaped; jobs of an earlier process are watched by identity alone."""

    _children: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, store: JobStore, job: Job, folder: JobFolder, argv: tuple[str, ...]) -> bool:
        """The trainer behind its gate; let go once its identity is on disk."""
        with folder.log.open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "lcm_studio.jobs.gate", *argv],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=project_root(),
                env=environment(),
                start_new_session=True,
                close_fds=True,
            )
        assert child.stdin is not None
        identity = identify(child.pid)
        recorded = identity is not None and store.identify(job, identity)
        self._children[child.pid] = child
        try:
            if recorded:
                child.stdin.write(b"g")
            child.stdin.close()
        except BrokenPipeError:
            pass  # it died at the gate: poll() tells
        return recorded

    def poll(self, job: Job) -> Exit | None:
        """Reaps our own child, else looks whether the recorded process still is that process."""
        if job.identity is None:
            return Exit(code=None, message="its process was never recorded")
        child = self._children.get(job.identity.pid)
        if child is not None:
            if not _ended(child.pid):
                return None
            self._sweep(child.pid)
            del self._children[child.pid]
            return Exit(code=child.wait())
        if alive(job.identity):
            return None
        return Exit(code=None)

    def stop(self, job: Job, *, firm: bool) -> None:
        """SIGTERM or SIGKILL to the job's whole group, if it still is ours."""
        if job.identity is not None:
            signal_group(job.identity, signal.SIGKILL if firm else signal.SIGTERM)

    @staticmethod
    def _sweep(pgid: int) -> None:
        """Ends what a trainer left behind in its group: data workers, torchrun's children.

        Called while the leader is a zombie of ours, so that its number cannot belong to anyone else.
        """
        try:
            os.killpg(pgid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def _ended(pid: int) -> bool:
    """Whether our child has exited, leaving it unreaped."""
    options = os.WEXITED | os.WNOWAIT | os.WNOHANG
    try:
        return os.waitid(os.P_PID, pid, options) is not None
    except ChildProcessError:
        return True
