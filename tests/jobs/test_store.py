"""The table under contention: every item claimed once, cancels race claims, final states stay."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import pytest

from lcm_studio.jobs.records import FINAL, Identity, Job, JobConflict, NoSuchJob, State
from lcm_studio.jobs.store import JobStore

WORKERS, ITEMS = 8, 50


def add(store: JobStore, name: str, device: str = "cpu", backend: str = "local") -> Job:
    return store.add(Job(id=name, name=name, recipe="lcd", device=device, backend=backend))


def _work(path: Path, device: str, results: multiprocessing.Queue) -> None:
    store, mine = JobStore(path), []
    while (job := store.claim(device)) is not None:
        mine.append(job.id)
        assert store.move(job, State.RUNNING)
        assert store.move(store.get(job.id), State.SUCCEEDED)
    results.put(mine)


@pytest.mark.parametrize("one_device", [False, True])
def test_eight_workers_claim_each_of_fifty_items_once(tmp_path: Path, one_device: bool) -> None:
    """8 processes; a device each with 50 jobs, or all at the 50 jobs of one device."""
    store = JobStore(tmp_path / "jobs.sqlite3")
    devices = ["cpu"] if one_device else [f"cuda:{n}" for n in range(WORKERS)]
    for item in range(ITEMS):
        for device in devices:
            add(store, f"{device}-{item}", device)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [
        context.Process(target=_work, args=(store.path, devices[n % len(devices)], results))
        for n in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    claimed = Counter(job for _ in workers for job in results.get(timeout=120))
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    # a worker that finds the one device busy leaves; whoever holds it goes on to the end
    assert claimed == Counter(job.id for job in store.list())
    assert {job.state for job in store.list()} == {State.SUCCEEDED}


def test_one_active_job_per_device_even_against_the_database_itself(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite3")
    first, second = add(store, "a"), add(store, "b")
    other = add(store, "c", "cuda:0")
    claimed = store.claim()
    assert claimed is not None and claimed.id == first.id
    after = store.claim()
    assert after is not None and after.id == other.id
    assert store.claim() is None
    with pytest.raises(sqlite3.IntegrityError):
        store.move(second, State.STARTING)


def test_remote_jobs_do_not_wait_for_this_machines_device(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite3")
    for name in "ab":
        add(store, name, backend="ray")
    assert [store.claim().id, store.claim().id] == ["a", "b"]


def test_a_cancel_and_a_claim_race_and_exactly_one_wins(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite3")
    outcomes = Counter()
    for round_ in range(60):
        job = add(store, f"job-{round_}", f"cuda:{round_}")
        barrier = threading.Barrier(2)
        won: list[str] = []

        def cancel(job=job, barrier=barrier, won=won) -> None:
            barrier.wait()
            if store.move(job, State.CANCELLED):
                won.append("cancel")

        def claim(job=job, barrier=barrier, won=won) -> None:
            barrier.wait()
            if store.claim(job.device) is not None:
                won.append("claim")

        threads = [threading.Thread(target=cancel), threading.Thread(target=claim)]
        for thread in threads[:: 1 if round_ % 2 else -1]:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        state = store.get(job.id).state
        assert state is (State.CANCELLED if won == ["cancel"] else State.STARTING)
        outcomes.update(won)
    assert sum(outcomes.values()) == 60


def test_final_states_never_change(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite3")
    for final in FINAL:
        job = add(store, final.value, f"cuda:{len(final.value)}")
        claimed = store.claim(job.device)
        assert store.move(claimed, final)
        for new in State:
            with pytest.raises(ValueError, match="cannot go"):
                store.move(store.get(job.id), new)
        assert not store.move(claimed, State.RUNNING), "a stale view changes nothing"
        with sqlite3.connect(store.path) as db, pytest.raises(sqlite3.IntegrityError):
            db.execute("UPDATE jobs SET state = 'running' WHERE id = ?", (job.id,))


def test_a_stale_view_of_an_earlier_attempt_changes_nothing(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite3")
    add(store, "a")
    old = store.claim()
    store.move(old, State.INTERRUPTED)
    store.requeue(store.get("a"))
    again = store.claim()
    assert (again.attempt, again.identity) == (2, None)
    assert not store.move(old, State.FAILED)
    assert not store.identify(old, Identity(pid=1, started=1, boot="x"))
    with pytest.raises(JobConflict):
        store.requeue(again)
    assert [row["new"] for row in store.history("a")] == [
        "queued", "starting", "interrupted", "queued", "starting"
    ]  # fmt: skip


def test_records_outlive_the_process_and_ids_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    add(JobStore(path), "kept")
    assert JobStore(path).get("kept").state is State.QUEUED
    for bad in ("", "no", "../kept", "kept' OR 1=1 --", "kept\0"):
        with pytest.raises(NoSuchJob, match="jobs list"):
            JobStore(path).get(bad)
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_only_ended_jobs_are_deleted(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite3")
    job = add(store, "a")
    with pytest.raises(JobConflict, match="stop it first"):
        store.delete(job)
    store.move(job, State.CANCELLED)
    store.delete(store.get("a"))
    assert store.list() == ()
    assert store.history("a") == ()
