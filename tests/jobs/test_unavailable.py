"""A damaged, full or unwritable home: one sentence with the remedy, nothing overwritten; plans are swept."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from lcm_studio.jobs import service
from lcm_studio.jobs.identity import alive, identify
from lcm_studio.jobs.keeper import store_path
from lcm_studio.jobs.planning import run_recorded, scratch_folder, sweep
from lcm_studio.jobs.records import JobsUnavailable
from lcm_studio.jobs.service import Jobs

CONFIG: dict[str, Any] = {"steps": 1}


def test_a_damaged_table_is_named_and_left_alone(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(JobsUnavailable, match=r"cannot be used .*move it away"):
        Jobs(tmp_path, awake=False)
    assert path.read_bytes() == b"no database at all" * 1000


def test_a_folder_in_the_tables_place(tmp_path: Path) -> None:
    (store_path(tmp_path) / "inside").mkdir(parents=True)
    with pytest.raises(JobsUnavailable, match="cannot be used"):
        Jobs(tmp_path, awake=False)
    assert (store_path(tmp_path) / "inside").is_dir()


def test_a_file_in_the_homes_place(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("x")
    with pytest.raises(JobsUnavailable, match="LCM_STUDIO_HOME"):
        Jobs(tmp_path / "jobs", awake=False)


def test_a_full_disk_leaves_no_half_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(tmp_path, awake=False)

    def full(*_: Any, **__: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(JobsUnavailable, match="free some space"):
        jobs.submit("lcd", CONFIG)
    assert jobs.list() == () and not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_an_id_that_another_job_has_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter(["20300102-030405-aaaaaa"] * 3 + ["20300102-030405-bbbbbb"])
    monkeypatch.setattr(service, "_new_id", lambda: next(drawn))
    jobs = Jobs(tmp_path, awake=False)
    first = jobs.submit("lcd", {"steps": 1})
    weights = jobs.folder(first.id).output / "weights"
    weights.write_bytes(b"hours of work")
    second = jobs.submit("lcd", {"steps": 2})
    assert (first.id[-6:], second.id[-6:]) == ("aaaaaa", "bbbbbb")
    assert weights.read_bytes() == b"hours of work"
    assert jobs.config(first.id) == {"steps": 1} and jobs.config(second.id) == {"steps": 2}


def test_a_full_table_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(tmp_path, awake=False)

    def full(*_: Any, **__: Any) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(jobs.store, "_note", full)
    with pytest.raises(JobsUnavailable, match="free some space on this disk"):
        jobs.submit("lcd", CONFIG)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_a_table_of_before_runs_had_owners_is_taken_up(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, awake=False)
    mine = jobs.submit("lcd", CONFIG, owner="ada")
    with sqlite3.connect(store_path(tmp_path)) as db:
        db.execute("ALTER TABLE jobs DROP COLUMN owner")
    assert [(job.id, job.owner) for job in Jobs(tmp_path, awake=False).list()] == [(mine.id, "")]


def test_owners_are_kept_and_inherited(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, awake=False)
    job = jobs.submit("lcd", CONFIG, owner="ada")
    assert job.owner == "ada" and jobs.duplicate(job.id).owner == "ada"


def test_plans_of_a_killed_studio_are_swept(tmp_path: Path) -> None:
    """Its folder goes and its process ends; a plan that is being made stays."""
    left = tmp_path / ".plan-left"
    left.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    identity = identify(child.pid)
    assert identity is not None
    (left / "process.json").write_text(json.dumps(asdict(identity)))
    with scratch_folder(tmp_path) as busy:
        assert sweep(tmp_path) == 1
        assert busy.path.is_dir() and not left.exists()
    child.wait(20)
    assert not alive(identity) and not list(tmp_path.glob(".plan-*"))


def test_a_recycled_process_number_is_not_signalled(tmp_path: Path) -> None:
    left = tmp_path / ".plan-left"
    left.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    identity = identify(child.pid)
    assert identity is not None
    other = {**asdict(identity), "started": identity.started - 1}
    (left / "process.json").write_text(json.dumps(other))
    assert sweep(tmp_path) == 1 and child.poll() is None
    child.kill()
    child.wait()


def test_a_plan_that_takes_too_long_ends_with_its_children(tmp_path: Path) -> None:
    started = time.monotonic()
    with scratch_folder(tmp_path) as scratch, pytest.raises(subprocess.TimeoutExpired):
        run_recorded([sys.executable, "-c", "import time; time.sleep(600)"], scratch, seconds=0.2)
    assert time.monotonic() - started < 60


def test_a_plan_is_compared_with_the_free_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Jobs(tmp_path, awake=False)
    text = "steps       10\ndisk        900 MB: 300 MB a checkpoint, and the model"
    monkeypatch.setattr(
        service, "run_recorded",
        lambda argv, scratch, seconds: subprocess.CompletedProcess(argv, 0, text, ""),
    )  # fmt: skip
    assert jobs.plan("lcd", CONFIG).ok
    usage = service.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(service.shutil, "disk_usage", lambda _: usage._replace(free=800 * 2**20))
    plan = jobs.plan("lcd", CONFIG)
    assert not plan.ok and "900 MB and 800 MB are free" in plan.text
