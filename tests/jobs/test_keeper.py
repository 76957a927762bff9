"""Jobs as processes: they end as they should, survive their keeper, and no foreign pid is signalled."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lcm_studio.jobs.identity import alive, identify, signal_group
from lcm_studio.jobs.keeper import Keeper, acquire
from lcm_studio.jobs.records import FINAL, JobConflict, Reason, State
from lcm_studio.jobs.service import Jobs
from tests.jobs.conftest import FAKE, Bench


def test_a_job_runs_to_its_end(bench: Bench) -> None:
    job = bench.jobs.submit("lcd", {"steps": 5})
    done = bench.until(job.id, *FINAL)
    folder = bench.jobs.folder(job.id)
    assert (done.state, done.message) == (State.SUCCEEDED, "done")
    assert [event["step"] for event in folder.read_events()] == [1, 2, 3, 4, 5]
    states = [row["new"] for row in bench.jobs.store.history(job.id)]
    assert states == ["queued", "starting", "running", "succeeded"]


@pytest.mark.parametrize(
    ("end", "reason", "words"),
    [
        ("nan", Reason.NAN, "the loss is NaN at step 3; lower the learning rate"),
        (
            "crash",
            Reason.CRASH,
            "ZeroDivisionError: a fault of the trainer; read the end of the log",
        ),
        ("memory", Reason.OOM, "can't allocate memory: 9 GB; use a smaller batch"),
    ],
)
def test_a_failure_has_its_reason_and_a_remedy(
    bench: Bench, end: str, reason: Reason, words: str
) -> None:
    job = bench.jobs.submit("lcd", {"end": end})
    done = bench.until(job.id, *FINAL)
    assert (done.state, done.reason) == (State.FAILED, reason)
    assert words in done.message


def test_a_broken_config_fails_with_a_reason(bench: Bench) -> None:
    job = bench.jobs.submit("lcd", {"steps": 1})
    bench.jobs.folder(job.id).config.write_text("steps: [1")
    done = bench.until(job.id, *FINAL)
    assert (done.state, done.reason) == (State.FAILED, Reason.CRASH)
    assert done.message


def test_stop_saves_first_and_the_state_changes_after_the_exit(bench: Bench) -> None:
    job = bench.jobs.submit("lcd", {"steps": 1000})
    bench.until(job.id, State.RUNNING)
    folder = bench.jobs.folder(job.id)
    bench.until_true(lambda: any(folder.read_events()))
    identity = bench.jobs.get(job.id).identity
    assert bench.jobs.stop(job.id).state is State.STOPPING
    assert alive(identity)
    assert bench.jobs.stop(job.id).state is State.STOPPING, "a second stop changes nothing"
    done = bench.until(job.id, *FINAL)
    assert done.state is State.CANCELLED
    assert done.message.startswith("saved at step")
    assert not alive(identity)
    resumed = bench.jobs.resume(job.id)
    assert (resumed.state, resumed.attempt) == (State.QUEUED, 2)
    before = len(list(folder.read_events()))
    bench.until(job.id, State.RUNNING)
    bench.until_true(lambda: len(list(folder.read_events())) > before + 2)
    bench.jobs.stop(job.id)
    bench.until(job.id, State.CANCELLED)
    steps = [event["step"] for event in folder.read_events()]
    assert steps == list(range(1, len(steps) + 1)), "it went on where it had stopped"


def test_a_deaf_job_is_ended_firmly(bench: Bench) -> None:
    job = bench.jobs.submit("lcd", {"steps": 1000, "end": "deaf"})
    bench.until(job.id, State.RUNNING)
    bench.until_true(lambda: any(bench.jobs.folder(job.id).read_events()))
    identity = bench.jobs.stop(job.id).identity
    done = bench.until(job.id, *FINAL)
    assert done.state is State.CANCELLED
    assert done.ended - done.stop_asked >= bench.keeper.grace
    assert not alive(identity)


def test_stop_of_a_queued_job_and_of_one_at_the_gate(bench: Bench) -> None:
    first = bench.jobs.submit("lcd", {"steps": 1000})
    second = bench.jobs.submit("lcd", {"steps": 5})
    bench.until(first.id, State.RUNNING)
    assert bench.jobs.get(second.id).state is State.QUEUED, "one running job per device"
    assert bench.jobs.stop(second.id).state is State.CANCELLED
    bench.jobs.stop(first.id)
    bench.until(first.id, State.CANCELLED)
    third = bench.jobs.submit("lcd", {"steps": 5})
    claimed = bench.jobs.store.claim()
    bench.jobs.stop(third.id)
    bench.keeper._start(claimed)
    assert bench.until(third.id, *FINAL).state is State.CANCELLED
    assert not any(bench.jobs.folder(third.id).read_events()), "it never became the trainer"


def test_the_queue_goes_on_in_order(bench: Bench) -> None:
    ids = [bench.jobs.submit("lcd", {"steps": 2}).id for _ in range(3)]
    for job_id in ids:
        bench.until(job_id, State.SUCCEEDED)
    started = [bench.jobs.get(job_id).started for job_id in ids]
    ended = [bench.jobs.get(job_id).ended for job_id in ids]
    assert all(begin >= end for begin, end in zip(started[1:], ended, strict=False))


def test_save_and_sample_now(bench: Bench) -> None:
    job = bench.jobs.submit("lcd", {"steps": 1000})
    with pytest.raises(JobConflict, match="only a running job"):
        bench.jobs.ask(job.id, "sample")
    bench.until(job.id, State.RUNNING)
    folder = bench.jobs.folder(job.id)
    for request in ("save", "sample"):
        bench.jobs.ask(job.id, request)
        bench.until_true(lambda request=request: f"did {request}" in folder.log_tail())
    assert folder.has_checkpoint()


def test_kill_9_of_the_trainer_is_an_interruption_that_resumes(bench: Bench) -> None:
    job = bench.jobs.submit("lcd", {"steps": 1000})
    bench.until(job.id, State.RUNNING)
    os.kill(bench.jobs.get(job.id).identity.pid, signal.SIGKILL)
    done = bench.until(job.id, *FINAL)
    assert done.state is State.INTERRUPTED
    assert "SIGKILL" in done.message and "resume begins anew" in done.message
    bench.jobs.resume(job.id)
    bench.until(job.id, State.RUNNING)


def test_delete_and_duplicate(bench: Bench) -> None:
    job = bench.jobs.submit("lcd", {"steps": 3, "name": "x"}, name="first")
    with pytest.raises(JobConflict, match="stop it first"):
        bench.jobs.delete(job.id)
    bench.until(job.id, State.SUCCEEDED)
    twin = bench.jobs.duplicate(job.id, {"steps": 4})
    assert (twin.name, twin.recipe) == ("first", "lcd")
    assert bench.jobs.config(twin.id) == {"steps": 4, "name": "x"}
    folder = bench.jobs.folder(job.id)
    bench.jobs.delete(job.id)
    assert not folder.path.exists()
    assert [left.id for left in bench.jobs.list()] == [twin.id]


KEEPER = f"""
import sys
sys.path.insert(0, {str(FAKE.parents[2])!r})
from lcm_studio.jobs import keeper
from tests.jobs.conftest import fake_command
keeper.command = fake_command
keeper.main()
"""


def _keeper(home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", KEEPER, str(home)], start_new_session=True)


def _wait(what, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_kill_9_of_the_studio_leaves_the_job_running_and_the_next_one_adopts_it(
    tmp_path: Path,
) -> None:
    jobs = Jobs(tmp_path / "jobs", awake=False)
    job = jobs.submit("lcd", {"steps": 400, "pause": 0.02})
    folder = jobs.folder(job.id)
    first = _keeper(jobs.home)
    _wait(lambda: len(list(folder.read_events())) > 3)
    identity = jobs.get(job.id).identity
    first.kill()
    first.wait()
    seen = len(list(folder.read_events()))
    _wait(lambda: len(list(folder.read_events())) > seen + 5)
    assert alive(identity), "it runs on without its keeper"
    second = _keeper(jobs.home)
    done = jobs.wait(job.id, seconds=60)
    assert (done.state, done.identity, done.attempt) == (State.SUCCEEDED, identity, 1)
    assert len(list(folder.read_events())) == 400
    assert second.wait(timeout=30) == 0, "it leaves when nothing is left to do"


def test_a_job_that_ended_while_nobody_watched_is_judged_by_its_marker(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs", awake=False)
    ok, cut = (
        jobs.submit("lcd", {"steps": 20}),
        jobs.submit("ct", {"device": "cuda:1", "steps": 900}),
    )
    keeper = _keeper(jobs.home)
    _wait(lambda: all(any(jobs.folder(job.id).read_events()) for job in (ok, cut)))
    keeper.kill()
    keeper.wait()
    os.kill(jobs.get(cut.id).identity.pid, signal.SIGKILL)
    _wait(lambda: not alive(jobs.get(ok.id).identity))
    Keeper(jobs.home).tick()
    assert jobs.get(ok.id).state is State.SUCCEEDED
    assert jobs.get(cut.id).state is State.INTERRUPTED


def test_two_keepers_exclude_each_other(tmp_path: Path) -> None:
    lock = acquire(tmp_path)
    assert lock is not None
    assert acquire(tmp_path, tries=1) is None
    lock.close()
    assert acquire(tmp_path, tries=1) is not None


def test_the_gate_opens_only_when_the_record_is_written(tmp_path: Path) -> None:
    """The launcher dies between fork and record: no trainer, no orphan."""
    canary = tmp_path / "canary"
    touch = [sys.executable, "-c", f"open({str(canary)!r}, 'w')"]
    gate = subprocess.Popen(
        [sys.executable, "-m", "lcm_studio.jobs.gate", *touch], stdin=subprocess.PIPE
    )
    gate.stdin.close()
    assert gate.wait(timeout=20) == 3
    assert not canary.exists()


def test_a_reused_pid_is_never_signalled(bench: Bench) -> None:
    """The recorded pid now belongs to another process: start time or boot differ."""
    stranger = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    try:
        mine = identify(stranger.pid)
        for other in (
            replace(mine, started=mine.started - 1),
            replace(mine, boot="another boot"),
        ):
            job = bench.jobs.submit("lcd", {"steps": 5})
            claimed = bench.jobs.store.claim()
            assert bench.jobs.store.identify(claimed, other)
            bench.jobs.store.move(claimed, State.RUNNING)
            bench.jobs.stop(job.id)
            assert not signal_group(other, signal.SIGKILL)
            done = bench.until(job.id, *FINAL)
            assert done.state is State.CANCELLED
            assert stranger.poll() is None, "the stranger lives"
        for special in (0, 1, -1):
            assert not signal_group(replace(mine, pid=special), signal.SIGKILL)
        assert signal_group(mine, signal.SIGKILL)
    finally:
        stranger.kill()
        stranger.wait()


def test_workers_of_a_dead_trainer_are_ended_with_it(bench: Bench) -> None:
    job = bench.jobs.submit("lcd", {"steps": 2, "worker": True})
    bench.until(job.id, State.SUCCEEDED)
    worker = int(re.search(r"worker (\d+)", bench.jobs.folder(job.id).log_tail())[1])
    bench.until_true(lambda: not Path(f"/proc/{worker}/cwd").exists())


def test_a_job_has_a_session_of_its_own(bench: Bench) -> None:
    job = bench.jobs.submit("lcd", {"steps": 1000})
    bench.until(job.id, State.RUNNING)
    leader = bench.jobs.get(job.id).identity.pid
    assert os.getpgid(leader) == os.getsid(leader) == leader != os.getsid(0)
    bench.until_true(lambda: "argv" in bench.jobs.folder(job.id).log_tail())
    said = re.search(r"argv (.*)", bench.jobs.folder(job.id).log_tail())[1]
    assert json.loads(said)[1:3] == ["lcd", "--config"]
