"""`python -m benchmarks scale`: the router of `engine.remote.dispatch` as it is, before simulated replicas.

A replica is a lane: at every turn all that it has in work take one step in one call of at most 16 pictures, dealt out as the
lane deals them. The seconds of a call are measured ones (`SPEEDS`). Requests arrive at random; latency is from arrival to
picture, by kind of request, at rising shares of what the replicas can do.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lcm_studio.engine.batch import shares
from lcm_studio.engine.remote.dispatch import Dispatcher, Ticket
from lcm_studio.spec.owners import Owner

MOST = 16  # pictures in one call
PEOPLE = 40  # for each replica


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds of a call of `rows` pictures: `step` of the network, `end` of encoder, decoder and the rest of a request."""

    step: tuple[float, float]
    end: tuple[float, float]
    source: str

    def seconds(self, part: str, rows: int) -> float:
        fixed, each = self.step if part == "step" else self.end
        return fixed + each * rows


SPEEDS = {
    "cpu": Speed(
        step=(0.0092, 0.0041), end=(0.001, 0.024),
        source="bundled model, OpenVINO, one core (docs/results/generate.md)",
    ),
    "h200": Speed(
        step=(0.0133, 0.0), end=(0.006, 0.0),
        source="bundled model, one H200, float32, calls of up to 8 (benchmarks/results/generate-cuda.md)",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What people ask for: `share` of requests."""

    name: str
    share: float
    rows: int
    steps: int
    live: bool = False


KINDS = (
    Kind(name="live", share=0.4, rows=1, steps=1, live=True),
    Kind(name="single", share=0.5, rows=1, steps=4),
    Kind(name="batch", share=0.1, rows=8, steps=4),
)


@dataclass(eq=False)
class Asked:
    """A request in the simulation: steps that are left of each picture."""

    ticket: Ticket
    kind: Kind
    arrived: float
    left: int = 0
    todo: int = 0  # pictures of the present step that no call has had yet

    @property
    def part(self) -> str:
        return "step" if self.left > 0 else "end"


@dataclass(eq=False)
class Lane:
    """The requests of one replica, served as `engine.lane` serves them."""

    asked: list[Asked] = field(default_factory=list)
    busy: bool = False
    served: dict[str, int] = field(default_factory=dict)
    turn: int = 0
    live_run: int = 0

    def call(self, speed: Speed) -> tuple[float, list[tuple[Asked, int]]]:
        """Seconds of the next call, and how many pictures of whom are in it."""
        live = [a for a in self.asked if a.kind.live]
        normal = [a for a in self.asked if not a.kind.live]
        chosen = live if live and (not normal or self.live_run < 4) else normal or live
        self.live_run = self.live_run + 1 if chosen is live else 0
        lead = min(chosen, key=lambda a: (self.served.get(a.ticket.owner.person, 0), a.kind.rows))
        mates = [a for a in (chosen if chosen is live else self.asked) if a.part == lead.part]
        mates.sort(key=lambda a: a is not lead)
        taken = shares([a.todo for a in mates], MOST, [a.ticket.owner for a in mates])
        self.turn += 1
        for a in mates:
            self.served[a.ticket.owner.person] = self.turn
        group = [(a, n) for a, n in zip(mates, taken, strict=True) if n]
        return speed.seconds(lead.part, sum(taken)), group


def capacity(speed: Speed) -> float:
    """Requests a second that one replica can do, with full calls."""
    each = sum(
        k.share
        * k.rows
        * (k.steps * speed.seconds("step", MOST) + speed.seconds("end", MOST))
        / MOST
        for k in KINDS
    )
    return 1 / each


def simulate(
    replicas: int, load: float, speed: Speed, *, requests: int, seed: int = 0
) -> dict[str, Any]:
    """Latencies by kind, in seconds, at `load` times the capacity; what the router took for each request."""
    dice = random.Random(seed)
    dispatcher = Dispatcher(10**9, model="m")
    names = [f"r{i}" for i in range(replicas)]
    dispatcher.present(names)
    lanes = {name: Lane() for name in names}
    waiting: dict[str, Asked] = {}
    latencies: dict[str, list[float]] = {k.name: [] for k in KINDS}
    events: list[tuple[float, int, str, Any]] = []
    order, router = itertools.count(), 0.0
    for asked in arrivals(dice, load * replicas * capacity(speed), replicas, requests):
        heapq.heappush(events, (asked.arrived, next(order), "come", asked))
    while events:
        now, _, what, value = heapq.heappop(events)
        started = time.thread_time()
        woken: set[str] = set()
        if what == "come":
            waiting[value.ticket.id] = value
            dispatcher.join(value.ticket)
        else:
            name, group = value
            lanes[name].busy = False
            woken.add(name)
            for asked, n in group:
                asked.todo -= n
                if asked.todo:
                    continue
                asked.left, asked.todo = asked.left - 1, asked.kind.rows
                if asked.left < 0:
                    lanes[name].asked.remove(asked)
                    dispatcher.end(asked.ticket)
                    latencies[asked.kind.name].append(now - asked.arrived)
        for ticket in dispatcher.deal():
            lanes[ticket.replica].asked.append(waiting.pop(ticket.id))
            woken.add(ticket.replica)
        router += time.thread_time() - started
        for name in woken:
            lane = lanes[name]
            if lane.asked and not lane.busy:
                seconds, group = lane.call(speed)
                lane.busy = True
                heapq.heappush(events, (now + seconds, next(order), "end", (name, group)))
    return {"latencies": latencies, "router": router / requests}


def arrivals(dice: random.Random, rate: float, replicas: int, requests: int) -> Iterator[Asked]:
    """`requests` of them, `rate` a second, of as many people as the replicas are for."""
    now = 0.0
    for number in range(requests):
        now += dice.expovariate(rate)
        kind = dice.choices(KINDS, [k.share for k in KINDS])[0]
        owner = Owner(person=str(dice.randrange(PEOPLE * replicas)))
        priority = "live" if kind.live else "normal"
        ticket = Ticket(str(number), kind.rows, "m", priority, owner)  # type: ignore[arg-type]
        yield Asked(ticket, kind, now, left=kind.steps, todo=kind.rows)


def main(argv: list[str]) -> int:
    """A table, and a plot where --out is given."""
    p = argparse.ArgumentParser(prog="python -m benchmarks scale")
    p.add_argument("--speed", choices=sorted(SPEEDS), default="cpu")
    p.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 8, 32])
    p.add_argument("--loads", type=float, nargs="+", default=[0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
    p.add_argument("--requests", type=int, default=2000, help="for each replica, at most 20,000")
    p.add_argument("--out", type=Path, help="a .png of latency against load")
    args = p.parse_args(argv)
    speed = SPEEDS[args.speed]
    print(f"{speed.source}: {capacity(speed):.2f} requests a second from one replica\n")
    print(
        "| replicas | load | "
        + " | ".join(f"{k.name} 50, 90, 99% s" for k in KINDS)
        + " | router ms |"
    )
    print("|---" * (3 + len(KINDS)) + "|")
    rows = []
    for replicas in args.replicas:
        for load in args.loads:
            found = simulate(replicas, load, speed, requests=min(args.requests * replicas, 20_000))
            points = {
                name: np.percentile(values, [50, 90, 99]) if values else [float("nan")] * 3
                for name, values in found["latencies"].items()
            }
            rows.append((replicas, load, points))
            cells = " | ".join(", ".join(f"{v:.2f}" for v in points[k.name]) for k in KINDS)
            print(
                f"| {replicas} | {load:.2f} | {cells} | {1000 * found['router']:.2f} |", flush=True
            )
    if args.out:
        plot(rows, args.out)
    return 0


def plot(rows: list[tuple[int, float, dict[str, Any]]], out: Path) -> None:
    """One panel for each kind of request; 50% thin, 99% thick, a colour for each number of replicas."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(KINDS), figsize=(11, 3.4), sharey=True)
    for axis, kind in zip(axes, KINDS, strict=True):
        for i, replicas in enumerate(sorted({r for r, _, _ in rows})):
            mine = [(load, points[kind.name]) for r, load, points in rows if r == replicas]
            loads = [load for load, _ in mine]
            axis.plot(loads, [p[0] for _, p in mine], color=f"C{i}", lw=1)
            axis.plot(loads, [p[2] for _, p in mine], color=f"C{i}", lw=2.2, label=f"{replicas}")
        axis.set(title=kind.name, xlabel="load", yscale="log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds: half (thin), 99% (thick)")
    axes[-1].legend(title="replicas", fontsize=8)
    figure.tight_layout()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
