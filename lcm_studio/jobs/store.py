"""The job table: SQLite in WAL mode, synchronous=FULL, every change a compare-and-set.

Any number of processes may use one store. The database itself refuses a second active job on a local
device (a partial unique index) and any change of a final state within an attempt (a trigger).
"""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lcm_studio.jobs.records import (
    RESUMABLE,
    Identity,
    Job,
    JobConflict,
    JobsUnavailable,
    NoSuchJob,
    Reason,
    State,
    allowed,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, recipe TEXT NOT NULL, device TEXT NOT NULL,
    backend TEXT NOT NULL, address TEXT NOT NULL DEFAULT '', reference TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
    attempt INTEGER NOT NULL DEFAULT 1, created REAL NOT NULL, queued REAL NOT NULL,
    started REAL NOT NULL DEFAULT 0, stop_asked REAL NOT NULL DEFAULT 0,
    ended REAL NOT NULL DEFAULT 0,
    pid INTEGER NOT NULL DEFAULT 0, pid_started INTEGER NOT NULL DEFAULT 0,
    boot TEXT NOT NULL DEFAULT '');
CREATE UNIQUE INDEX IF NOT EXISTS one_per_device ON jobs(device)
    WHERE backend = 'local' AND state IN ('starting', 'running', 'stopping');
CREATE TRIGGER IF NOT EXISTS final_states_stay BEFORE UPDATE OF state ON jobs
    WHEN OLD.state IN ('succeeded', 'failed', 'cancelled', 'interrupted')
        AND NEW.state <> OLD.state
        AND NOT (NEW.state = 'queued' AND NEW.attempt = OLD.attempt + 1)
    BEGIN SELECT RAISE(ABORT, 'a final state never changes'); END;
CREATE TABLE IF NOT EXISTS history (
    id TEXT NOT NULL, attempt INTEGER NOT NULL, at REAL NOT NULL,
    old TEXT NOT NULL, new TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL);
"""
_FIELDS = (
    "id", "name", "recipe", "device", "backend", "address", "reference", "state", "reason", "message",
    "attempt", "created", "queued", "started", "stop_asked", "ended", "owner",
)  # fmt: skip


def _job(row: sqlite3.Row) -> Job:
    values = {name: row[name] for name in _FIELDS}
    values["state"] = State(values["state"])
    values["reason"] = Reason(values["reason"])
    if row["pid"]:
        values["identity"] = Identity(pid=row["pid"], started=row["pid_started"], boot=row["boot"])
    return Job(**values)


class JobStore:
    """The table in `path`; opened per call, so one store serves threads and forks alike."""

    def __init__(self, path: Path):
        self.path = Path(path)
        with self._open() as db:
            db.executescript(_SCHEMA)
            columns = {row["name"] for row in db.execute("PRAGMA table_info(jobs)")}
            if "owner" not in columns:  # a table of before runs had owners
                with suppress(sqlite3.OperationalError):  # another process was faster
                    db.execute("ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT ''")

    @contextmanager
    def _open(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from error
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            if write:
                db.execute("BEGIN IMMEDIATE")
            yield db
            if write:
                db.execute("COMMIT")
        except sqlite3.IntegrityError:
            raise  # the table keeps its rules: the caller's own affair
        except sqlite3.DatabaseError as error:
            raise self._unavailable(error) from error
        finally:
            db.close()  # an open transaction rolls back

    def _unavailable(self, error: Exception) -> JobsUnavailable:
        """What is wrong with the table, and what to do. Nothing is overwritten: the runs' folders stay."""
        why = str(error) or type(error).__name__
        if "full" in why or getattr(error, "errno", None) == errno.ENOSPC:
            remedy = "free some space on this disk"
        elif isinstance(error, OSError) or "readonly" in why or "locked" in why:
            remedy = "make its folder writable, or set LCM_STUDIO_HOME to one that is"
        else:
            remedy = "move it away and start again; the runs' folders beside it stay as they are"
        return JobsUnavailable(f"The table of runs, {self.path}, cannot be used ({why}): {remedy}.")

    def add(self, job: Job) -> Job:
        """Records a new job as queued."""
        now = time.time()
        with self._open(write=True) as db:
            db.execute(
                "INSERT INTO jobs (id, name, recipe, device, backend, address, owner,"
                " state, created, queued) VALUES (?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?)",
                (
                    job.id,
                    job.name,
                    job.recipe,
                    job.device,
                    job.backend,
                    job.address,
                    job.owner,
                    now,
                    now,
                ),
            )
            self._note(db, job.id, 1, "", State.QUEUED)
        return self.get(job.id)

    def get(self, job_id: str) -> Job:
        """The job of this id; raises NoSuchJob."""
        if not isinstance(job_id, str) or not job_id.isascii():
            raise NoSuchJob(ascii(job_id))
        with self._open() as db:
            row = db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            raise NoSuchJob(job_id)
        return _job(row)

    def list(self, states: Collection[State] | None = None) -> tuple[Job, ...]:
        """All jobs, oldest first, or those in one of `states`."""
        with self._open() as db:
            rows = db.execute("SELECT * FROM jobs ORDER BY number").fetchall()
        jobs = (_job(row) for row in rows)
        return tuple(job for job in jobs if states is None or job.state in states)

    def move(
        self,
        job: Job,
        new: State,
        *,
        reason: Reason = Reason.NONE,
        message: str = "",
    ) -> bool:
        """Takes `job` from the state it was read in to `new`; False when someone else was faster.

        Raises ValueError for a change that the states do not allow.
        """
        if not allowed(job.state, new):
            raise ValueError(f"a job cannot go from {job.state.value} to {new.value}")
        values: dict[str, Any] = {
            "state": new.value,
            "reason": reason.value,
            "message": message[:2000],
        }
        stamp = {State.STARTING: "started", State.STOPPING: "stop_asked"}.get(new)
        if new in (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.INTERRUPTED):
            stamp = "ended"
        if stamp:
            values[stamp] = time.time()
        with self._open(write=True) as db:
            return self._set(db, job, values)

    def _set(self, db: sqlite3.Connection, job: Job, values: Mapping[str, Any]) -> bool:
        columns = ", ".join(f"{name} = ?" for name in values)
        changed = db.execute(
            f"UPDATE jobs SET {columns} WHERE id = ? AND state = ? AND attempt = ?",
            (*values.values(), job.id, job.state.value, job.attempt),
        ).rowcount
        if changed:
            new = State(values["state"])
            attempt = values.get("attempt", job.attempt)
            about = (values.get("reason", ""), values.get("message", ""))
            self._note(db, job.id, attempt, job.state.value, new, *about)
        return bool(changed)

    @staticmethod
    def _note(
        db: sqlite3.Connection, job_id: str, attempt: int, old: str, new: State,
        reason: str = "", message: str = "",
    ) -> None:  # fmt: skip
        db.execute(
            "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?)",
            (job_id, attempt, time.time(), old, new.value, reason, message),
        )

    def identify(self, job: Job, identity: Identity) -> bool:
        """Writes down the process of a job that is starting, before that process is let go."""
        with self._open(write=True) as db:
            return bool(
                db.execute(
                    "UPDATE jobs SET pid = ?, pid_started = ?, boot = ?"
                    " WHERE id = ? AND attempt = ? AND state = 'starting'",
                    (identity.pid, identity.started, identity.boot, job.id, job.attempt),
                ).rowcount
            )

    def refer(self, job: Job, reference: str) -> bool:
        """Writes down what a backend knows a starting job by, before it is handed over."""
        with self._open(write=True) as db:
            return bool(
                db.execute(
                    "UPDATE jobs SET reference = ? WHERE id = ? AND attempt = ?"
                    " AND state = 'starting'",
                    (reference, job.id, job.attempt),
                ).rowcount
            )

    def claim(self, device: str | None = None) -> Job | None:
        """The oldest queued job whose device is free (or of this device), now starting and the caller's."""
        with self._open(write=True) as db:
            row = db.execute(
                "SELECT * FROM jobs AS j WHERE state = 'queued' AND (? IS NULL OR device = ?)"
                " AND (backend <> 'local' OR NOT EXISTS (SELECT 1 FROM jobs AS k"
                "   WHERE k.device = j.device AND k.backend = 'local'"
                "   AND k.state IN ('starting', 'running', 'stopping')))"
                " ORDER BY queued, number LIMIT 1",
                (device, device),
            ).fetchone()
            if row is None:
                return None
            values = {"state": State.STARTING.value, "started": time.time()}
            self._set(db, _job(row), values)
        return self.get(row["id"])

    def requeue(self, job: Job) -> Job:
        """A further attempt of a job that failed, was stopped or was interrupted.

        Raises JobConflict when it is in another state, or someone else was faster.
        """
        if job.state not in RESUMABLE:
            raise JobConflict(
                f"job {job.id} is {job.state.value}; only a failed, cancelled or interrupted job resumes"
            )
        fresh = {
            "state": State.QUEUED.value, "attempt": job.attempt + 1, "reason": "", "message": "",
            "queued": time.time(), "started": 0, "stop_asked": 0, "ended": 0,
            "pid": 0, "pid_started": 0, "boot": "", "reference": "",
        }  # fmt: skip
        with self._open(write=True) as db:
            if not self._set(db, job, fresh):
                raise JobConflict(f"job {job.id} was resumed or deleted meanwhile; look again")
        return self.get(job.id)

    def delete(self, job: Job) -> None:
        """Forgets a job that has ended; raises JobConflict while it is queued or active."""
        with self._open(write=True) as db:
            gone = db.execute(
                "DELETE FROM jobs WHERE id = ? AND attempt = ?"
                " AND state IN ('succeeded', 'failed', 'cancelled', 'interrupted')",
                (job.id, job.attempt),
            ).rowcount
            if gone:
                db.execute("DELETE FROM history WHERE id = ?", (job.id,))
        if not gone:
            raise JobConflict(f"job {job.id} has not ended; stop it first, then delete it")

    def history(self, job_id: str) -> tuple[dict[str, Any], ...]:
        """Every change of state of a job, oldest first."""
        with self._open() as db:
            rows = db.execute(
                "SELECT attempt, at, old, new, reason, message FROM history WHERE id = ?"
                " ORDER BY rowid",
                (job_id,),
            ).fetchall()
        return tuple(dict(row) for row in rows)
