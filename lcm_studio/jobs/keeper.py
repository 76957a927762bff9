"""The keeper: starts queued jobs, watches running ones, carries out stops. `python -m lcm_studio.jobs.keeper HOME`.

One process per job folder holds a lock and does this, whoever asked for the jobs; it is started on demand in a
session of its own and leaves when nothing is queued or running. Pages and shells only read and write the
table. When the keeper dies, jobs run on, and the next one adopts them by identity.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from lcm_studio.jobs.backends import Backend, BackendError, Exit
from lcm_studio.jobs.backends.local import LocalBackend
from lcm_studio.jobs.backends.ray import RayBackend
from lcm_studio.jobs.config import command, environment, project_root
from lcm_studio.jobs.layout import JobFolder
from lcm_studio.jobs.records import ACTIVE, Job, Reason, State
from lcm_studio.jobs.store import JobStore
from lcm_studio.jobs.verdict import judge

log = logging.getLogger(__name__)
STOP_GRACE = 30.0
_POLL = 0.3
_LINGER = 3.0


def store_path(home: Path) -> Path:
    """The table of the jobs below `home`."""
    return home / "jobs.sqlite3"


@dataclass
class Keeper:
    """`tick()` does everything that is due, once.

    `grace`: seconds between SIGTERM and SIGKILL. `patience`: seconds that a backend may be out of reach
    before its jobs count as interrupted.
    """

    home: Path
    grace: float = STOP_GRACE
    patience: float = 120.0
    backends: Mapping[str, Backend] = field(
        default_factory=lambda: {"local": LocalBackend(), "ray": RayBackend()}
    )
    _asked: set[tuple[str, int]] = field(default_factory=set)
    _silent: dict[str, float] = field(default_factory=dict)
    _oom_kills: int = field(default_factory=lambda: _oom_kills())

    def __post_init__(self) -> None:
        self.store = JobStore(store_path(self.home))

    def folder(self, job: Job) -> JobFolder:
        return JobFolder(self.home / job.id)

    def tick(self) -> bool:
        """Watches what runs, starts what can; whether anything is left to watch."""
        for job in self.store.list(ACTIVE):
            self._watch(job)
        while (claimed := self.store.claim()) is not None:
            self._start(claimed)
        self._oom_kills = _oom_kills()
        return bool(self.store.list(ACTIVE | {State.QUEUED}))

    def _start(self, job: Job) -> None:
        folder = self.folder(job)
        try:
            folder.result.unlink(missing_ok=True)
            folder.clear_requests()
            argv = command(job.recipe, folder, resume=job.attempt > 1 and folder.has_checkpoint())
            started = self.backends[job.backend].start(self.store, job, folder, argv)
        except (OSError, BackendError, KeyError) as error:
            text = f"it could not be started: {error}"
            self.store.move(self.store.get(job.id), State.FAILED, reason=Reason.CRASH, message=text)
            return
        if started:  # a stop that came meanwhile wins
            self.store.move(job, State.RUNNING)

    def _watch(self, job: Job) -> None:
        backend = self.backends[job.backend]
        try:
            ended = self._gone(job, backend)
            if ended is None:
                self._silent.pop(job.id, None)
                if job.state is State.STARTING:
                    self.store.move(job, State.RUNNING)
                elif job.state is State.STOPPING:
                    self._stop(job, backend)
                return
        except BackendError as error:
            since = self._silent.setdefault(job.id, time.monotonic())
            if time.monotonic() - since < self.patience:
                log.warning("job %s: %s", job.id, error)
                return
            ended = Exit(code=None, message=str(error))
        self._silent.pop(job.id, None)
        oom = _oom_kills() > self._oom_kills
        found = judge(job, self.folder(job), ended, ran_out_of_memory=oom)
        self.store.move(job, found.state, reason=found.reason, message=found.message)

    @staticmethod
    def _gone(job: Job, backend: Backend) -> Exit | None:
        if job.identity is None and not job.reference:
            return Exit(code=None, message="the studio went away before the job began")
        return backend.poll(job)

    def _stop(self, job: Job, backend: Backend) -> None:
        key = (job.id, job.attempt)
        if time.time() - job.stop_asked > self.grace:
            backend.stop(job, firm=True)
        elif key not in self._asked:
            self._asked.add(key)
            backend.stop(job, firm=False)


def _oom_kills() -> int:
    """How many processes the kernel has ended for want of memory since boot."""
    try:
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def acquire(home: Path, *, tries: int = 20) -> IO[str] | None:
    """The lock that makes one process the keeper; None when another holds it."""
    import fcntl

    lock = (home / "keeper.lock").open("a+")
    for _ in range(tries):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return lock
    lock.close()
    return None


def wake(home: Path) -> None:
    """Sees to it that a keeper is at work: starts one, unless one holds the lock."""
    lock = acquire(home, tries=1)
    if lock is None:
        return
    lock.close()
    with (home / "keeper.log").open("ab") as out:
        subprocess.Popen(
            [sys.executable, "-m", "lcm_studio.jobs.keeper", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=project_root(),
            env=environment(),
            start_new_session=True,
        )


def _serve(home: Path, grace: float) -> None:
    while (lock := acquire(home)) is not None:
        keeper = Keeper(home, grace=grace)
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < _LINGER:
            if keeper.tick():
                idle_since = time.monotonic()
            time.sleep(_POLL)
        lock.close()
        # a job that came between the last look and the letting go found the lock held
        if not keeper.store.list(ACTIVE | {State.QUEUED}):
            return


def main() -> None:
    """Serves one job folder until nothing is left to do."""
    parser = argparse.ArgumentParser(prog="python -m lcm_studio.jobs.keeper", description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--grace", type=float, default=STOP_GRACE, help="seconds from TERM to KILL")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with suppress(KeyboardInterrupt):
        os.chdir(project_root())
        _serve(args.home, args.grace)


if __name__ == "__main__":
    main()
