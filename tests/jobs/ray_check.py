"""The Ray backend against a real head on loopback: `python tests/jobs/ray_check.py RAY` (RAY = path of its `ray`).

Not collected by pytest: Ray has an environment of its own (requirements-ray.txt) and takes half a minute.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lcm_studio.jobs import keeper
from lcm_studio.jobs.records import FINAL, State
from lcm_studio.jobs.service import Jobs
from lcm_studio.spec.ray import ray_token
from tests.jobs.conftest import Bench, fake_command

PORT = 8265


def check(home: Path) -> None:
    """A job succeeds, one is stopped and resumed, one fails with its reason."""
    keeper.command = fake_command
    jobs = Jobs(home, awake=False)
    bench = Bench(jobs=jobs, keeper=keeper.Keeper(home))

    def submit(**config: object) -> str:
        address = f"http://127.0.0.1:{PORT}"
        return jobs.submit("lcd", config, backend="ray", address=address).id

    began = time.monotonic()
    good = submit(steps=5)
    done = bench.until(good, *FINAL, seconds=120)
    assert done.state is State.SUCCEEDED, done
    assert len(list(jobs.folder(good).read_events())) == 5
    print(f"ray: a job succeeds, {time.monotonic() - began:.1f} s")
    long = submit(steps=5000)
    bench.until(long, State.RUNNING, seconds=60)
    bench.until_true(lambda: any(jobs.folder(long).read_events()), seconds=120)
    jobs.ask(long, "save")
    bench.until_true(lambda: "did save" in jobs.folder(long).log_tail())
    bench.keeper = keeper.Keeper(home)  # as after a restart of the studio
    jobs.stop(long)
    stopped = bench.until(long, *FINAL, seconds=60)
    assert stopped.state is State.CANCELLED and stopped.message.startswith("saved at step"), stopped
    print("ray: save now, adopt, stop with a checkpoint")
    before = len(list(jobs.folder(long).read_events()))
    jobs.resume(long)
    bench.until_true(lambda: len(list(jobs.folder(long).read_events())) > before + 3, seconds=120)
    jobs.stop(long)
    bench.until(long, State.CANCELLED, seconds=60)
    steps = [event["step"] for event in jobs.folder(long).read_events()]
    assert steps == list(range(1, len(steps) + 1))
    print("ray: resume goes on at the next step")
    secret = os.environ.pop("RAY_AUTH_TOKEN")
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(home / "no-token")
    refused = bench.until(submit(steps=1), *FINAL, seconds=60)
    assert refused.state is State.FAILED and "RAY_AUTH_TOKEN" in refused.message, refused
    os.environ["RAY_AUTH_TOKEN"] = secret
    print("ray: without the cluster's token a job says how to give it")
    bad = submit(steps=9, end="nan")
    failed = bench.until(bad, *FINAL, seconds=120)
    assert (failed.state, failed.reason.value) == (State.FAILED, "nan"), failed
    print("ray: a failure has its reason")


def answering(process: subprocess.Popen[bytes], seconds: float = 240) -> None:
    """Waits until the head takes jobs."""
    end = time.monotonic() + seconds
    while True:
        try:
            headers = {"Authorization": f"Bearer {ray_token()}"}
            asked = urllib.request.Request(f"http://127.0.0.1:{PORT}/api/jobs/", headers=headers)
            urllib.request.urlopen(asked, timeout=5).read()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < end, "the head does not answer"
            time.sleep(1)


def main() -> int:
    """Starts a head in a session of its own, which wants a token, checks, ends that session."""
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    slow = {
        "RAY_AUTH_MODE": "token",
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_raylet_start_wait_time_s": "200",
    }
    with tempfile.TemporaryDirectory() as temp:
        argv = [sys.argv[1], "start", "--head", "--block", "--num-cpus", "2", "--temp-dir", temp,
                "--node-ip-address", "127.0.0.1", "--dashboard-host", "127.0.0.1",
                "--dashboard-port", str(PORT), "--disable-usage-stats"]  # fmt: skip
        head = subprocess.Popen(
            argv, env=os.environ | slow, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            answering(head)
            check(Path(temp) / "jobs")
        finally:
            os.killpg(head.pid, signal.SIGTERM)
            try:
                head.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(head.pid, signal.SIGKILL)
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
