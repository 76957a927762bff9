"""lab plane: networks trained and samplers compared on the plane, to a picture, an animation or a table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    from lcm_studio.lab.plane import Arrived, Moved, System
    from lcm_studio.lab.plane_mixture import Mixture
    from lcm_studio.lab.plane_train import Learned


def add_parser(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers `lab plane`."""
    parser = sub.add_parser("plane", help="networks and samplers on the plane, seen and measured")
    parser.add_argument(
        "--data", default="moons", metavar="NAME|FILE",
        help="moons, rings, grid, spiral, pair, a picture (its dark pixels) or a .csv of points x,y (default: moons)",
    )  # fmt: skip
    parser.add_argument(
        "--train", default="", metavar="STAGE,...",
        help="networks to train, in this order: score, cd, ct; samplers then use them instead of the exact answers",
    )  # fmt: skip
    parser.add_argument(
        "--train-steps",
        type=int,
        metavar="N",
        help="training steps of each (default: each stage's own)",
    )
    parser.add_argument(
        "--sampler", default="consistency", metavar="NAME[:EVALUATIONS],...",
        help="up to four, side by side: langevin, sde, ancestral, pc, ode-euler, ode-heun, dpmpp, rk45, consistency",
    )  # fmt: skip
    parser.add_argument("--particles", type=int, default=2000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--out", type=Path, default=Path("plane.gif"), metavar="FILE",
        help=".gif: the way, .png: its end, .csv: where each particle ends (default: plane.gif)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trains, samples, writes the file, says how near the particles came to the data."""
    from lcm_studio.lab import plane

    if args.out.suffix.lower() not in WRITERS:
        raise BadRequest(f"--out {args.out}: use a name that ends in .gif, .png or .csv")
    mixture = distribution(args.data)
    learned, reports = train(args, mixture)
    systems = tuple(system(text, learned) for text in args.sampler.split(","))
    events = plane.sample(
        mixture, systems, particles=args.particles, seed=args.seed, learned=learned
    )
    arrived: list[Arrived] = []
    data = WRITERS[args.out.suffix.lower()](mixture, systems, noted(events, arrived))
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_bytes(data)
    except OSError as error:
        raise BadRequest(
            f"--out {args.out}: cannot be written ({error.strerror}); choose another place"
        ) from error
    tell(args, systems, arrived, reports)
    return 0


def distribution(text: str) -> Mixture:
    """A name, a picture's file or a .csv of points. Raises BadRequest."""
    from lcm_studio.lab import plane_data

    path = Path(text)
    if text in plane_data.DISTRIBUTIONS or not path.suffix:
        return plane_data.distribution(text)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadRequest(f"--data {text}: cannot be read ({error.strerror})") from error
    if path.suffix.lower() != ".csv":
        from lcm_studio.images import read_image

        return plane_data.from_picture(read_image(data))
    try:
        rows = [line.split(",") for line in data.decode().splitlines() if line.strip()]
        points = [[float(x), float(y)] for x, y in rows]
    except ValueError as error:
        raise BadRequest(f"--data {text}: each line must be two numbers, x,y") from error
    return plane_data.from_points(points)


def train(
    args: argparse.Namespace, mixture: Mixture
) -> tuple[dict[str, Learned], dict[str, dict[str, Any]]]:
    """The networks of --train, and what is to say of each. Raises BadRequest."""
    from lcm_studio.lab import plane

    learned: dict[str, Learned] = {}
    reports: dict[str, dict[str, Any]] = {}
    lines = plane.Lines(mixture)
    for stage in filter(None, args.train.split(",")):
        for event in plane.learn(
            mixture, cast(Any, stage), steps=args.train_steps, seed=args.seed, score=learned.get("score"), lines=lines
        ):  # fmt: skip
            learned[stage] = event.learned
            reports[stage] = {"steps": event.step, "loss": event.loss, "error": event.error}
            if not args.json:
                print(
                    f"{stage}: step {event.step}/{event.steps}  error {event.error:.3f}",
                    file=sys.stderr,
                )
    return learned, reports


def system(text: str, learned: dict[str, Learned]) -> System:
    """ "ode-heun:20" with the best network there is for it. Raises BadRequest."""
    from lcm_studio.lab import plane
    from lcm_studio.lab.plane_samplers import SHOWN

    name, _, count = text.partition(":")
    if count and not count.isdigit():
        raise BadRequest(
            f"--sampler {text}: the evaluations after the colon are no whole number; use {name}:20"
        )
    fitting = ("cd", "ct") if name == "consistency" else ("score",)
    network = next((stage for stage in fitting if stage in learned), "exact")
    usual = SHOWN[name].usual if name in SHOWN else 1
    return plane.System(sampler=name, evaluations=int(count or usual), network=network)


def noted(events: Iterator[Moved | Arrived], arrived: list[Arrived]) -> Iterator[Moved | Arrived]:
    """Passes events on and keeps the panels' ends."""
    from lcm_studio.lab.plane import Arrived

    for event in events:
        if isinstance(event, Arrived):
            arrived.append(event)
        yield event


def gif(mixture: Mixture, systems: tuple[System, ...], events: Iterator[Moved | Arrived]) -> bytes:
    from lcm_studio.lab import plane_film

    return plane_film.gif(mixture, systems, events)


def png(mixture: Mixture, systems: tuple[System, ...], events: Iterator[Moved | Arrived]) -> bytes:
    from lcm_studio.lab import plane_film

    return plane_film.png(mixture, systems, events)


def csv(_: Mixture, systems: tuple[System, ...], events: Iterator[Moved | Arrived]) -> bytes:
    """sampler,evaluations,particle,x,y of every particle where it ends."""
    from lcm_studio.lab.plane import Moved

    ends = {e.system: e.frame for e in events if isinstance(e, Moved)}
    rows = ["sampler,evaluations,particle,x,y"]
    for index, frame in ends.items():
        name = systems[index].sampler
        rows += [
            f"{name},{frame.evaluations},{i},{x:.5f},{y:.5f}"
            for i, (x, y) in enumerate(frame.x.tolist())
        ]
    return ("\n".join(rows) + "\n").encode()


WRITERS = {".gif": gif, ".png": png, ".csv": csv}


def tell(
    args: argparse.Namespace,
    systems: tuple[System, ...],
    arrived: list[Arrived],
    reports: dict[str, dict[str, Any]],
) -> None:
    """The file, and how near each sampler came."""
    rows = [
        {
            "sampler": systems[a.system].sampler, "network": systems[a.system].network, "evaluations": a.evaluations,
            "seconds": round(a.seconds, 4), "distance": a.distance, "floor": a.floor, "error": a.error,
        }
        for a in arrived
    ]  # fmt: skip
    if args.json:
        print(json.dumps({"file": str(args.out), "data": args.data, "seed": args.seed, "networks": reports, "systems": rows}))  # fmt: skip
        return
    for row in rows:
        error = "" if row["error"] is None else f", {row['error']:.3f} from the exact ends"
        plural = "" if row["evaluations"] == 1 else "s"
        print(
            f"{row['sampler']} ({row['network']}): {row['evaluations']} evaluation{plural}, distance to the data "
            f"{row['distance']:.3f} (true points: {row['floor']:.3f}){error}"
        )
    print(args.out)
