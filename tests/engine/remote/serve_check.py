"""Engines on Ray Serve against a real head on loopback, two replicas: `python tests/engine/remote/serve_check.py RAY`.

RAY: the `bin` folder of the environment that Ray is installed in (requirements-ray.txt), which sees the studio's packages
as well. Not collected by pytest.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import numpy as np

from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.engine.remote.client import RemoteEngine
from lcm_studio.spec.events import Done, Failed, Loading, Queued, Step, Stopped
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Edit, Generate, Request

ROOT = Path(__file__).resolve().parents[3]
PATIENT = {
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # the head wants it
    "RAY_memory_monitor_refresh_ms": "0", "RAY_raylet_start_wait_time_s": "200", "RAY_worker_niceness": "0",
    "OMP_NUM_THREADS": "1", "LCM_STUDIO_BACKEND": "torch", "RAY_DISABLE_IMPORT_WARNING": "1",
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(argv: list[str], log: Path, ready: str, seconds: float = 900) -> Iterator[int]:
    """A process in a session of its own that has printed `ready`; its session ends with it."""
    path = f"{Path(argv[0]).parent}:{os.environ['PATH']}"
    with log.open("w") as out:
        process = subprocess.Popen(
            argv, cwd=ROOT, env=os.environ | PATIENT | {"PATH": path}, stdout=out, stderr=out, start_new_session=True
        )  # fmt: skip
    try:
        end = time.monotonic() + seconds
        while ready not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.2)
        yield process.pid
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)


def replicas() -> list[int]:
    """Processes of the replicas."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"ServeReplica:lcm-studio:Replica" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return sorted(found)


def cpu(pid: int) -> int:
    """Clock ticks that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def until(condition: Any, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.1)


def same(a: Done, b: Done) -> None:
    """Equal to the last bit, and in what is told of them."""
    assert a.seeds == b.seeds and a.warnings == b.warnings and a.flagged == b.flagged
    assert dict(a.settings) == dict(b.settings) and dict(a.fidelity) == dict(b.fidelity)
    for one, two in zip(a.images, b.images, strict=True):
        assert one.dtype == two.dtype and np.array_equal(one, two)


def last(engine: Any, request: Request, **more: Any) -> Any:
    return list(engine.run(request, **more))[-1]


def equal_to_the_embedded(remote: RemoteEngine) -> None:
    """Pictures, previews, warnings, progress and errors are those of an engine in this process."""
    os.environ.update(PATIENT)
    with Engine(EngineConfig(device="cpu", backend="torch")) as here:
        assert remote.catalog() == here.catalog() and remote.decoders() == here.decoders()
        photo = np.random.default_rng(1).integers(0, 255, (256, 256, 3), np.uint8)
        mask = np.zeros((256, 256), np.uint8)
        mask[64:192, 64:192] = 255
        requests: list[Request] = [
            Generate(prompt="sunset, a zebra", seed=7, steps=2, previews=True),
            Edit(task="inpaint", image=photo, mask=mask, prompt="lake", seed=3, steps=2),
        ]
        for request in requests:
            assert remote.validate(request) == here.validate(request)
            one, two = list(here.run(request)), list(remote.run(request))
            same(one[-1], two[-1])
            steps = [[e for e in events if isinstance(e, Step)] for events in (one, two)]
            assert [(e.done, e.total) for e in steps[0]] == [(e.done, e.total) for e in steps[1]]
            for a, b in zip(*steps, strict=True):
                assert all(map(np.array_equal, a.previews, b.previews))
                assert len(a.previews) == len(b.previews)
        ratios = [engine.likeness(photo, requests[0].model) for engine in (here, remote)]
        assert ratios[0] and ratios[1] and abs(ratios[0] - ratios[1]) < 1e-3, ratios
        for bad in (Generate(steps=0), Generate(model="nothing"), Generate(width=-8)):
            a, b = last(here, bad), last(remote, bad)
            assert isinstance(a, Failed) and a == b, (a, b)
    print("serve: bits, previews, warnings and errors of the embedded engine", flush=True)


def spread(remote: RemoteEngine) -> None:
    """Requests go to both replicas, and everybody gets their own pictures."""
    before = {pid: cpu(pid) for pid in replicas()}
    alone = {seed: last(remote, Generate(seed=seed, steps=1, prompt="lake")) for seed in (1, 2)}

    def ask(number: int) -> tuple[int, Any]:
        seed = 1 + number % 2
        owner = Owner(person=f"person {seed}", session=str(seed))
        return seed, last(remote, Generate(seed=seed, steps=1, prompt="lake"), owner=owner)

    with ThreadPoolExecutor(8) as pool:
        for seed, done in pool.map(ask, range(8)):
            assert isinstance(done, Done) and done.seeds == (seed,), done
            # a batch of another size may round differently; another's picture would differ by far more
            mine = np.abs(done.images[0].astype(int) - alone[seed].images[0].astype(int))
            assert mine.max() <= 1, mine.max()
    spent = {pid: cpu(pid) - ticks for pid, ticks in before.items()}
    assert len(spent) == 2 and all(ticks > 20 for ticks in spent.values()), spent
    print(
        f"serve: requests spread, {sorted(spent.values())} ticks; everybody sees their own",
        flush=True,
    )


def stop_reaches(remote: RemoteEngine) -> None:
    """Stop ends the request at its replica and keeps what is finished; so does hanging up."""
    flag = threading.Event()
    events = []
    for event in remote.run(Generate(seed=5, count=16, steps=40, previews=True), flag.is_set):
        events.append(event)
        if isinstance(event, Step):
            flag.set()
    assert isinstance(events[-1], Stopped) and len(events[-1].previews) == 16, events[-1]
    assert len(events) < 30
    for event in remote.run(Generate(seed=5, count=16, steps=40)):
        if isinstance(event, Step):
            break
    until(lambda: quiet(), 60)
    print("serve: Stop and hanging up reach the replica", flush=True)


def quiet() -> bool:
    """Whether no replica computes."""
    before = [cpu(pid) for pid in replicas()]
    time.sleep(1)
    return all(cpu(pid) - ticks < 20 for pid, ticks in zip(replicas(), before, strict=True))


def a_killed_replica(remote: RemoteEngine) -> None:
    """Its requests run again; requests of the other do not notice; two replicas are there again afterwards."""
    started = threading.Barrier(5)
    was = replicas()

    def ask(seed: int) -> list[Any]:
        events, told = [], False
        for event in remote.run(
            Generate(seed=seed, steps=20, count=2, prompt="lake"), owner=Owner(person=str(seed))
        ):
            events.append(event)
            if isinstance(event, Step) and not told:
                told = True
                started.wait(120)
        return events

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, seed) for seed in range(4)]
        started.wait(240)
        os.kill(was[0], signal.SIGKILL)
        everything = [future.result() for future in asked]
    again = 0
    for seed, events in enumerate(everything):
        assert isinstance(events[-1], Done) and events[-1].seeds == (seed, seed + 1), events[-1]
        again += any(isinstance(e, Loading) and "runs again" in e.message for e in events)
    assert 1 <= again <= 3, again
    until(lambda: len(replicas()) == 2 and set(replicas()) != set(was))
    print(
        f"serve: a replica is killed, its {again} of 4 requests run again, another takes its place",
        flush=True,
    )


def a_true_position(remote: RemoteEngine) -> None:
    """What waits is told its place in the one line, which only falls; a single picture overtakes batches."""
    flag = threading.Event()
    seen: dict[int, list[int]] = {}

    def batch(number: int) -> Any:
        end = None
        for event in remote.run(
            Generate(seed=number, count=16, steps=20), flag.is_set, owner=Owner(person="crowd")
        ):
            if isinstance(event, Queued):
                seen.setdefault(number, []).append(event.position)
            end = event
        return end

    with ThreadPoolExecutor(8) as pool:
        crowd = [pool.submit(batch, n) for n in range(7)]  # four fit into two replicas
        until(lambda: len(seen) >= 3)
        single = last(remote, Generate(seed=9, steps=1), owner=Owner(person="somebody else"))
        assert isinstance(single, Done), single
        assert not any(future.done() for future in crowd)
        flag.set()
        ends = [future.result() for future in crowd]
    assert all(isinstance(end, Stopped) for end in ends)
    assert sorted(positions[0] for positions in seen.values())[:3] == [1, 2, 3], seen
    assert all(p == sorted(p, reverse=True) for p in seen.values()), seen
    print("serve: true positions, and a single picture waits for no batch", flush=True)


def two_pages(url: str, log: Path) -> None:
    """Two visitors of `app.py --engine` see their own pictures only; the shell takes it as well."""
    port = free_port()
    argv = [sys.executable, "app.py", "--port", str(port), "--engine", url]
    with running(argv, log, "LCM Studio: http"), ThreadPoolExecutor(2) as pool:
        from gradio_client import Client

        def visit(seed: int) -> list[int]:
            client = Client(f"http://127.0.0.1:{port}", verbose=False)
            got = [
                client.predict("lake", steps=1, seed=seed, api_name="/generate") for _ in range(2)
            ]
            return [settings["seed"] for _, settings in got]

        until(lambda: "LCM Studio" in log.read_text())
        assert list(pool.map(visit, (11, 22))) == [[11, 11], [22, 22]]
    out = subprocess.run(
        [sys.executable, "-m", "lcm_studio", "generate", "lake", "--steps", "1", "--engine", url, "--out", str(log.parent)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.search(r"0(-\d+)?\.png", out.stdout), out
    print("serve: two pages, each with its own pictures; the shell", flush=True)


def main() -> int:
    binaries = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(dir="/tmp") as temp:
        folder = Path(temp)
        head, door = free_port(), free_port()
        ray = [str(binaries / "ray"), "start", "--head", "--block", "--num-cpus", "2", "--port", str(head),
               "--temp-dir", f"{temp}/r", "--node-ip-address", "127.0.0.1", "--include-dashboard", "false",
               "--disable-usage-stats"]  # fmt: skip
        serve = [str(binaries / "python"), "-m", "lcm_studio", "serve", "--replicas", "2", "--backend", "torch",
                 "--address", f"127.0.0.1:{head}", "--port", str(door)]  # fmt: skip
        with (
            running(ray, folder / "head.log", "block"),
            running(serve, folder / "serve.log", "engines: ray://"),
        ):
            url = f"ray://127.0.0.1:{door}"
            remote = RemoteEngine(url)
            equal_to_the_embedded(remote)
            spread(remote)
            stop_reaches(remote)
            a_true_position(remote)
            a_killed_replica(remote)
            two_pages(url, folder / "app.log")
    print("6 passed, 0 failed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
