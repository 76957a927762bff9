"""Where jobs run. `Backend` is all that the keeper knows of them; see `local` (default) and `ray`.

Slurm and SkyPilot only get files written for them (`files`): the user submits those, and the scheduler there
is the one that keeps the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lcm_studio.jobs.layout import JobFolder
from lcm_studio.jobs.records import Job
from lcm_studio.jobs.store import JobStore
from lcm_studio.spec.errors import StudioError


class BackendError(StudioError):
    """A backend that cannot be reached or refuses."""


@dataclass(frozen=True, kw_only=True)
class Exit:
    """A job's process is gone. `code`: its exit status, -N for signal N, None when nobody saw it."""

    code: int | None
    message: str = ""


class Backend(Protocol):
    """Starts, watches and stops one job; every method may be called again after a restart."""

    def start(self, store: JobStore, job: Job, folder: JobFolder, argv: tuple[str, ...]) -> bool:
        """Starts a claimed job and records what identifies it; False when it was stopped meanwhile."""

    def poll(self, job: Job) -> Exit | None:
        """None while the job runs."""

    def stop(self, job: Job, *, firm: bool) -> None:
        """Asks the job to save and stop, or ends it at once."""
