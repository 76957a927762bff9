"""A keeper in this process whose trainer is `fake_trainer.py`, driven tick by tick."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lcm_studio.jobs import keeper
from lcm_studio.jobs.identity import signal_group
from lcm_studio.jobs.layout import JobFolder
from lcm_studio.jobs.records import Job, State
from lcm_studio.jobs.service import Jobs

FAKE = Path(__file__).parent / "fake_trainer.py"


def fake_command(recipe: str, folder: JobFolder, *, resume: bool) -> tuple[str, ...]:
    paths = ("--config", str(folder.config), "--output", str(folder.path))
    return (sys.executable, str(FAKE), recipe, *paths, *(("--resume",) if resume else ()))


@dataclass
class Bench:
    """Jobs, and a keeper to tick."""

    jobs: Jobs
    keeper: keeper.Keeper

    def until(self, job_id: str, *states: State, seconds: float = 20) -> Job:
        """Ticks until the job is in one of the states."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.keeper.tick()
            job = self.jobs.get(job_id)
            if job.state in states:
                return job
            time.sleep(0.02)
        raise AssertionError(f"{job} after {seconds} s\n{self.jobs.folder(job_id).log_tail()}")

    def until_true(self, what: Callable[[], bool], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "it did not happen"
            self.keeper.tick()
            time.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(keeper, "command", fake_command)
    jobs = Jobs(tmp_path / "jobs", awake=False)
    yield Bench(jobs=jobs, keeper=keeper.Keeper(jobs.home, grace=1.0))
    for job in jobs.list():
        if job.identity is not None:
            signal_group(job.identity, keeper.signal.SIGKILL)
