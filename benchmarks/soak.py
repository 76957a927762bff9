"""python -m benchmarks soak: 30 clients on one studio for minutes: errors, cross-talk, memory, descriptors, files, fairness.

Single clients ask for their own seed again and again and compare the picture with their first one; beside them
some open a session for every request, some ask for sixteen pictures, some hang up half-way and some send rubbish.
"""

from __future__ import annotations

import argparse
import datetime
import http.client
import io
import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "results" / "soak.md"
JSON = {"Content-Type": "application/json"}
SHARES = {"single": 18, "fresh": 4, "large": 3, "leaving": 3, "rubbish": 2}  # of 30 clients
PATIENCE = 20.0  # seconds for all clients to end, once the time is up
SETTLING = 5.0  # seconds after which the studio has let go of them
TOLERANCE = 2.0  # mean difference of 255 between one seed's pictures in calls of different company


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as home, Studio(args, Path(home)) as studio:
        figures = soak(studio, args)
    for name, value in figures.items():
        print(f"{name:44s} {value}")
    if args.write:
        write_report(figures, args)
    bad = ("errors", "pictures of another seed", "raw errors", "clients that did not end")
    return 1 if any(figures[name] for name in bad) else 0


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m benchmarks soak", description=__doc__)
    p.add_argument("--clients", type=int, default=30)
    p.add_argument("--minutes", type=float, default=8.0)
    p.add_argument("--model", default="scenery-lcm")
    p.add_argument("--size", type=int, default=64, help="side of the pictures (default: 64)")
    p.add_argument("--steps", type=int, default=2)
    p.add_argument("--queue-size", type=int, default=32)
    p.add_argument("--write", action="store_true", help=f"write {REPORT.relative_to(ROOT)}")
    return p


class Studio:
    """app.py in a process of its own, watched from outside."""

    def __init__(self, args: argparse.Namespace, home: Path) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        self.folder = home / "tmp"
        self.folder.mkdir()
        environment = {**os.environ, "TMPDIR": str(self.folder), "LCM_STUDIO_HOME": str(home)}
        self.process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(self.port), "--model", args.model,
             "--queue-size", str(args.queue_size)],
            cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __enter__(self) -> Studio:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise SystemExit("soak: app.py ended at its start")
            try:
                if json.loads(self.get("/studio/state"))["status"] == "ready":
                    return self
            except (OSError, http.client.HTTPException, ValueError):
                pass
            time.sleep(0.5)
        raise SystemExit("soak: app.py was not ready in 300 s")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            print("soak: app.py did not end in 30 s and was killed", file=sys.stderr)
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> bytes:
        link = self.link()
        try:
            link.request("GET", path)
            return link.getresponse().read()
        finally:
            link.close()

    def link(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)

    def measures(self) -> tuple[float, int, int]:
        """(memory in MB, open descriptors, files in its folders)."""
        import psutil

        process = psutil.Process(self.process.pid)
        files = sum(len(names) for _, _, names in os.walk(self.folder))
        return process.memory_info().rss / 1e6, process.num_fds(), files


@dataclass
class Tally:
    """What a client saw. `served` pictures after `waits` seconds each; `cut`: how long its last request had waited at the end."""

    served: int = 0
    busy: int = 0
    waits: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    strange: int = 0
    raw: int = 0
    cut: float = 0.0
    first: Any = None


class Over(Exception):
    """The time is up."""


class Client(threading.Thread):
    def __init__(self, kind: str, number: int, studio: Studio, args: Any, end: float) -> None:
        super().__init__(daemon=True, name=f"{kind}-{number}")
        self.kind, self.number, self.studio, self.args, self.end = kind, number, studio, args, end
        self.dice = random.Random(number)
        self.tally = Tally()
        self.sock: socket.socket | None = None
        self.asked = 0.0

    def run(self) -> None:
        while time.monotonic() < self.end:
            self.asked = time.monotonic()
            try:
                getattr(self, self.kind)()
            except Over:
                pass
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                if time.monotonic() >= self.end:  # hung up
                    break
                self.tally.errors.append(f"{type(error).__name__}: {error}"[:120])
                time.sleep(0.5)
        self.tally.cut = time.monotonic() - self.asked

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """(status, answer) of one request; raises Over once the time is up."""
        if time.monotonic() >= self.end:
            raise Over
        link = self.studio.link()
        try:
            link.connect()
            self.sock = link.sock
            text = None if body is None else json.dumps(body)
            link.request(method, path, text, {} if body is None else JSON)
            answer = link.getresponse()
            status, read = answer.status, answer.read()
        finally:
            link.close()
        if time.monotonic() >= self.end:  # it may be cut short
            raise Over
        return status, read

    def hang_up(self) -> None:
        """Ends a request that is being waited for, as a closed window does."""
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)

    def single(self) -> None:
        self.picture(session=f"soak-{self.number}")
        time.sleep(0.05)

    def fresh(self) -> None:
        self.picture(session=f"soak-{self.number}-{self.dice.random()}")

    def large(self) -> None:
        self.picture(session=f"soak-{self.number}", count=16, steps=8)

    def leaving(self) -> None:
        event = self.ask(session=f"soak-{self.number}", count=8, steps=50)
        if event:
            link = self.studio.link()
            link.request("GET", f"/gradio_api/call/generate/{event}")
            time.sleep(self.dice.uniform(0.05, 0.5))
            link.close()
        time.sleep(0.5)

    def rubbish(self) -> None:
        odd = self.dice.choice(
            [None, True, 1e308, -1, "\ud800", [], {"path": "/etc/passwd"}, "x" * 3000]
        )
        data = [odd if self.dice.random() < 0.3 else self.dice.randint(0, 9) for _ in range(8)]
        path = self.dice.choice(
            ["/gradio_api/call/generate", "/studio/live", "/studio/check", "/gradio_api/queue/join"]
        )
        body = {"data": data, "form": odd, "fn_index": odd}
        text = self.call("POST", path, body)[1].decode("utf-8", "replace")
        self.tally.raw += "Traceback" in text or "Internal Server Error" in text
        time.sleep(0.3)

    def ask(self, *, session: str, count: int = 1, steps: int | None = None) -> str:
        """The event of a request; an empty text where the studio is busy."""
        size, steps = self.args.size, steps or self.args.steps
        data = [
            "sunset, lake", "", steps, None, 1000 * self.number, count, size, size, "", None, "default", None,
        ]  # fmt: skip
        status, answer = self.call(
            "POST", "/gradio_api/call/generate", {"data": data, "session_hash": session}
        )
        if status in (429, 503):
            self.tally.busy += 1
            time.sleep(0.5)
            return ""
        return str(json.loads(answer)["event_id"])

    def picture(self, **how: Any) -> None:
        import numpy as np
        from PIL import Image

        started = time.monotonic()
        event = self.ask(**how)
        if not event:
            return
        text = self.call("GET", f"/gradio_api/call/generate/{event}")[1].decode()
        kind, _, rest = text.rpartition("event: ")[2].partition("\n")
        value = json.loads(rest.removeprefix("data: ").strip() or "null")
        if kind != "complete":
            words = str(value.get("error") if isinstance(value, dict) else value)
            if "busy" in words:
                self.tally.busy += 1
                time.sleep(0.5)
            else:
                self.tally.errors.append(words[:120])
            return
        self.tally.waits.append(time.monotonic() - started)
        self.tally.served += len(value[0])
        raw = self.call("GET", "/gradio_api/file=" + value[0][0]["path"])[1]
        pixels = np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")).astype(float)
        if self.tally.first is None:
            self.tally.first = pixels
        self.tally.strange += float(np.abs(pixels - self.tally.first).mean()) > TOLERANCE


def hang_up(clients: Sequence[Client]) -> int:
    """Ends what all clients wait for, at once; returns how many are still there after `PATIENCE` seconds."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        alive = [client for client in clients if client.is_alive()]
        if not alive:
            return 0
        for client in alive:  # again: one may have been connecting
            client.hang_up()
        alive[0].join(0.2)
    return sum(client.is_alive() for client in clients)


def progress(sample: tuple[float, float, int, int], clients: Sequence[Client]) -> str:
    """One line on the way."""
    seconds, memory, descriptors, files = sample
    pictures = sum(client.tally.served for client in clients)
    errors = sum(len(client.tally.errors) for client in clients)
    return (
        f"{seconds:4.0f} s: {pictures} pictures, {errors} errors, {memory:.0f} MB, {descriptors} descriptors, "
        f"{files} files"
    )


def soak(studio: Studio, args: argparse.Namespace) -> dict[str, Any]:
    """Runs the clients and returns the figures."""
    end = time.monotonic() + 60 * args.minutes
    total = sum(SHARES.values())
    kinds = [kind for kind, share in SHARES.items() for _ in range(share)]
    clients = [
        Client(kinds[i * total // args.clients], i, studio, args, end) for i in range(args.clients)
    ]
    for client in clients:
        client.start()
    samples: list[tuple[float, float, int, int]] = []
    started = told = time.monotonic()
    while time.monotonic() < end:
        time.sleep(max(0.0, min(5.0, 6 * args.minutes, end - time.monotonic())))
        samples.append((time.monotonic() - started, *studio.measures()))
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(progress(samples[-1], clients), file=sys.stderr, flush=True)
    left = hang_up(clients)
    time.sleep(SETTLING)
    after = studio.measures()
    settled = samples[len(samples) // 3 :]  # the first third fills pools and caches
    slope = statistics.linear_regression([s[0] for s in settled], [s[1] for s in settled]).slope
    by_kind: dict[str, list[Tally]] = {}
    for client in clients:
        by_kind.setdefault(client.kind, []).append(client.tally)
    every = [client.tally for client in clients]
    singles = by_kind["single"]
    waits = sorted(wait for tally in singles for wait in tally.waits) or [float("nan")]
    served = [tally.served for tally in singles]
    reasons = Counter(text for tally in every for text in tally.errors)
    return {
        "clients": args.clients,
        "minutes": args.minutes,
        "pictures": sum(tally.served for tally in every),
        "busy answers": sum(tally.busy for tally in every),
        "errors": sum(reasons.values()),
        "errors by text": dict(reasons.most_common(3)),
        "raw errors": sum(tally.raw for tally in every),
        "clients that did not end": left,
        "pictures of another seed": sum(tally.strange for tally in every),
        "memory at the start, MB": round(samples[0][1]),
        "memory at the end, MB": round(after[0]),
        "memory, MB per minute, settled": round(60 * slope, 2),
        "descriptors, most and afterwards": (max(s[2] for s in samples), after[1]),
        "files afterwards": after[2],
        "single clients: wait s, median and 95%": (
            round(statistics.median(waits), 2), round(waits[int(0.95 * (len(waits) - 1))], 2)
        ),
        "single clients: pictures, fewest and most": (min(served), max(served)),
        "cut off at the end: longest wait s of single and of all": (
            round(max(t.cut for t in singles), 1), round(max(t.cut for t in every), 1)
        ),
        "fresh sessions: pictures of each": [t.served for t in by_kind.get("fresh", [])],
        "large requests: pictures of each": [t.served for t in by_kind.get("large", [])],
        "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}, Python {platform.python_version()}",
    }  # fmt: skip


def write_report(figures: dict[str, Any], args: argparse.Namespace) -> None:
    """The table in docs/results."""
    rows = "\n".join(f"| {name} | {_plain(value)} |" for name, value in figures.items())
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(
        "# The server under load\n\n"
        f"`python -m benchmarks soak --clients {args.clients} --minutes {args.minutes:g} --size {args.size} "
        f"--steps {args.steps} --write`, {datetime.date.today()}.\n\n"
        "Of 30 clients 18 ask for one picture again and again, 4 open a session for every request, 3 ask for sixteen\n"
        "pictures of eight steps, 3 hang up half-way and 2 send rubbish; all come from one address. A picture of\n"
        "another seed is one whose mean difference to the client's first picture is more than 2 of 255.\n\n"
        f"| figure | value |\n|---|---|\n{rows}\n",
        encoding="utf-8",
    )


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{count} x {text}" for text, count in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
