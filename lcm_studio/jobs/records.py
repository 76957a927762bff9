"""What a job is and how its state may change.

queued -> starting -> running -> (stopping) -> succeeded | failed | cancelled | interrupted

The last four are final: within one attempt they never change. Resuming is a new attempt of the same
job, which begins at queued again and keeps the folder and its checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lcm_studio.spec.errors import BadRequest


class State(str, Enum):
    """Where a job is; the value is what the database holds and the page shows."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class Reason(str, Enum):
    """Why a job failed or was cut short."""

    NONE = ""
    OOM = "oom"
    DISK = "disk"
    NAN = "nan"
    DATA = "data"
    MISSING_WEIGHTS = "missing_weights"
    CONFIG = "config"
    CRASH = "crash"


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.INTERRUPTED})
ACTIVE = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
RESUMABLE = frozenset({State.FAILED, State.CANCELLED, State.INTERRUPTED})

REMEDIES = {
    Reason.OOM: "use a smaller batch, gradient checkpointing or a smaller picture size, then resume",
    Reason.DISK: "free space or keep fewer checkpoints, then resume; the last good checkpoint is intact",
    Reason.NAN: "lower the learning rate or turn mixed precision off, then resume",
    Reason.DATA: "run `python -m lcm_studio data doctor FOLDER` and repair what it names",
    Reason.MISSING_WEIGHTS: "check the teacher's folder, or go online once to fetch it",
    Reason.CONFIG: "correct the value that is named and submit again",
    Reason.CRASH: "read the end of the log; resume goes on from the last checkpoint",
}

_NEXT = {
    State.QUEUED: {State.STARTING, State.CANCELLED, State.FAILED},
    State.STARTING: {State.RUNNING, State.STOPPING, *FINAL},
    State.RUNNING: {State.STOPPING, *FINAL},
    State.STOPPING: set(FINAL),
}


def allowed(old: State, new: State) -> bool:
    """Whether a job may go from `old` to `new` within one attempt."""
    return new in _NEXT.get(old, set())


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same pid.

    `started`: the kernel's start time of the process, in clock ticks since boot. `boot`: the boot's id.
    """

    pid: int
    started: int
    boot: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of the job table. Times are seconds since the epoch, 0 when it has not happened.

    `owner`: the signed-in user who started it; empty for the shell and where nobody signs in.
    """

    id: str
    name: str
    recipe: str
    device: str
    backend: str = "local"
    address: str = ""
    reference: str = ""
    state: State = State.QUEUED
    reason: Reason = Reason.NONE
    message: str = ""
    attempt: int = 1
    created: float = 0.0
    queued: float = 0.0
    started: float = 0.0
    stop_asked: float = 0.0
    ended: float = 0.0
    identity: Identity | None = None
    owner: str = ""

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


class NoSuchJob(BadRequest):
    """An id that no job has."""

    def __init__(self, job_id: str):
        super().__init__(f"there is no job {job_id[:60]!r}; `lcm_studio jobs list` shows them all")


class JobsUnavailable(BadRequest):
    """The job table or its folder cannot be used: damaged, full, or not writable."""


class JobConflict(BadRequest):
    """An action that does not fit the job's state."""
