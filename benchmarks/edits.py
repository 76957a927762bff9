"""python -m benchmarks edits: every task and method on held-out scenes, cell by cell, resumable.

    --count 200 --rival-count 100 --slow-count 16 --tasks inpaint --methods ours-4,telea --share 0/2
    --plan                 how long that will take on one core, measured in a few seconds
    --merge                the table of the cells that are there; with --keep other tasks and methods keep their rows
    --speed                an edit against the same generation, in turn
    --pictures FILE.png    before, known part and result of each task

A cell (task, method, fifty scenes) is kept under OUT/cells-NAME and skipped when it is there, so a killed run goes on
and a larger count adds to a smaller one. Other weights or guidance make other cells of the methods that use them, other defaults
other cells of the studio's own; other code does not: delete the cells then. The table goes to benchmarks/results/edits.md and edits.json.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.edit_scenes import TASKS

SEEDED = 4  # scenes with four seeds, not for the slow methods
CHUNK, SLOW_CHUNK = 50, 8  # scenes of a cell


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cells that are missing, or one of the other jobs; returns the exit code."""
    args = _arguments(argv)
    import cv2
    import torch

    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    out = Path(args.out)
    results = Path(args.results)
    if args.merge:
        return _write(out, results, args)
    from benchmarks.edit_methods import Bench

    bench = Bench(models=[Path(m) for m in args.models_dir], features=Path(args.features))
    if args.speed:
        from benchmarks.edit_speed import speed

        print(speed(bench, args.rounds, results.with_name("edits-speed")))
    elif args.pictures:
        from benchmarks.edit_pictures import draw

        draw(bench, Path(args.pictures), args.scene)
    elif args.plan:
        print(_plan(bench, args))
    else:
        _run(bench, args, out)
        return _write(out, results, args)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks edits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=200, help="scenes per task (200)")
    parser.add_argument("--rival-count", type=int, default=100, help="of all but ours-4 (100)")
    parser.add_argument("--slow-count", type=int, default=16, help="of 100 evaluations (16)")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--methods", default="", help="all if left out")
    parser.add_argument("--share", type=_share, default=(0, 1), metavar="I/N")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default="runs/edits")
    parser.add_argument("--results", default="benchmarks/results/edits")
    parser.add_argument("--models-dir", action="append", default=[], metavar="DIR")
    parser.add_argument("--features", default="assets/models/scenery-features")
    parser.add_argument("--merge", action="store_true")
    parser.add_argument(
        "--keep", action="store_true", help="tasks and methods that were not run keep their rows"
    )
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--rounds", type=int, default=15, help="of --speed (15)")
    parser.add_argument("--pictures", default="", metavar="FILE.png")
    parser.add_argument("--scene", type=int, default=3, help="of --pictures: which held-out scene")
    args = parser.parse_args(argv)
    if min(args.count, args.rival_count, args.slow_count) < 2:
        parser.error("counts must be 2 or more, for a covariance")
    return args


def _share(text: str) -> tuple[int, int]:
    try:
        part, whole = (int(v) for v in text.split("/"))
    except ValueError:
        part, whole = -1, 0
    if not 0 <= part < whole:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; use 0/2 for the first of two")
    return part, whole


def _jobs(args: argparse.Namespace) -> list[tuple[str, str, list[int], list[int]]]:
    """(task, method, scenes, scenes with four seeds) of this share: the first scenes of all methods come first.

    So a run that is cut short has fewer scenes, not fewer methods.
    """
    from benchmarks.edit_methods import METHODS, fits, steps_of

    methods = args.methods.split(",") if args.methods else METHODS
    found = []
    for method in methods:
        slow = steps_of(method) > 8
        full = steps_of(method) == 0 or method == "ours-4"
        count = args.slow_count if slow else args.count if full else args.rival_count
        size = SLOW_CHUNK if slow else CHUNK
        for task in (t for t in args.tasks.split(",") if fits(t, method)):
            for start in range(0, min(count, args.count), size):
                scenes = list(range(start, min(start + size, count, args.count)))
                seeded = [] if slow else [i for i in scenes if i < SEEDED]
                turn = start // size + (1 if slow else 0)
                found.append((turn, (task, method, scenes, seeded)))
    part, whole = args.share
    return [job for _, job in sorted(found, key=lambda f: f[0])][part::whole]


def _run(bench: Any, args: argparse.Namespace, out: Path) -> None:
    from benchmarks.edit_methods import SEEDS
    from benchmarks.edit_table import file_of, save

    costs = _costs(bench)
    todo = []
    for task, method, scenes, seeded in _jobs(args):
        file = file_of(_folder(out, method, args.models_dir), task, method, scenes)
        if not file.is_file():
            cost = costs(method) * (len(scenes) + (SEEDS - 1) * len(seeded))
            todo.append((task, method, scenes, seeded, file, cost))
    left, spent, planned = sum(t[-1] for t in todo), 0.0, 0.0
    print(f"{len(todo)} cells, about {left / 60:.0f} CPU minutes", file=sys.stderr)
    for task, method, scenes, seeded, file, cost in todo:
        started = time.perf_counter()
        save(file, bench.cell(task, method, scenes, seeded))
        took = time.perf_counter() - started
        spent, planned, left = spent + took, planned + cost, left - cost
        rest = left * spent / planned / 60
        span = f"{scenes[0]}-{scenes[-1]}"
        print(f"{task} {method} {span}: {took:.0f} s; about {rest:.0f} min to go", file=sys.stderr)


def _costs(bench: Any) -> Any:
    """method -> seconds per picture on this machine now, from one timed call of each network."""
    from benchmarks.edit_speed import parts

    times = {name: parts(bench, name, rows=8) for name in ("scenery-lcm", "scenery-teacher")}

    def cost(method: str) -> float:
        from benchmarks.edit_methods import steps_of
        from lcm_studio.edits.methods import ONCE

        name, n = method.partition("-")[0], steps_of(method)
        teacher = name in ("repaint", "ddnm")
        p, d, e = times["scenery-teacher" if teacher else "scenery-lcm"]
        calls = {
            "ours": (n, n + (n >= ONCE)),
            "residual": (n, 2 * n - 1),
            "latino": (n + 1, n + 1),
            **dict.fromkeys(("alg4", "cm4ir", "ddnm"), (n, n)),
            **dict.fromkeys(("paste", "latent", "blend", "repaint"), (1, 1)),
        }.get(name, (0, 0))
        return 0.04 + n * p + calls[0] * d + calls[1] * e

    return cost


def _plan(bench: Any, args: argparse.Namespace) -> str:
    """CPU minutes of one core per method, for all shares together."""
    from benchmarks.edit_methods import SEEDS

    args.share = (0, 1)
    cost = _costs(bench)
    rows: dict[str, list[float]] = {}
    tasks: dict[str, set[str]] = {}
    for task, method, scenes, seeded in _jobs(args):
        row = rows.setdefault(method, [0, 0.0])
        row[0] += len(scenes) + (SEEDS - 1) * len(seeded)
        tasks.setdefault(method, set()).add(task)
    lines = ["| method | tasks | pictures | CPU s each | minutes |", "|---|---|---|---|---|"]
    for method, row in rows.items():
        row[1] = row[0] * cost(method) / 60
        lines.append(
            f"| {method} | {len(tasks[method])} | {int(row[0])} | {cost(method):.2f} | {row[1]:.1f} |"
        )
    return "\n".join([*lines, f"| all | | | | {sum(r[1] for r in rows.values()):.1f} |"])


def _folder(out: Path, method: str, models: Sequence[str]) -> Path:
    """Where the cells of a method lie: its name changes with the weights it uses, for ours with its defaults too."""
    from benchmarks.edit_loops import TEACHER_LOOPS
    from benchmarks.edit_methods import CLASSICAL, OURS
    from lcm_studio.edits.methods import ONCE

    name = method.partition("-")[0]
    used = "" if name in CLASSICAL else "-teacher" if name in TEACHER_LOOPS else "-lcm"
    digest = hashlib.sha256(_weights("scenery-features", tuple(models)))
    if used:
        digest.update(_weights(f"scenery{used}", tuple(models)))
    if name in OURS:
        digest.update(str(ONCE).encode())
        used = "-ours"
    return out / f"cells{used}-{digest.hexdigest()[:8]}"


@cache
def _weights(name: str, models: tuple[str, ...]) -> bytes:
    digest = hashlib.sha256()
    for folder in (*map(Path, models), Path("assets/models")):
        files = sorted((folder / name).rglob("*.safetensors"))
        files += [f for n in ("studio.json", "edits.yaml") for f in (folder / name).glob(n)]
        for file in files:
            digest.update(file.read_bytes())
        if files:
            break
    return digest.digest()


def _write(out: Path, results: Path, args: argparse.Namespace) -> int:
    """Writes and prints the table; 2, with a sentence, for rows that cannot be compared."""
    from benchmarks.edit_methods import METHODS
    from benchmarks.edit_table import write
    from benchmarks.timing import machine

    settings = {"machine": machine()}
    folders = dict.fromkeys(_folder(out, method, args.models_dir) for method in METHODS)
    try:
        print(write(tuple(folders), results, settings, keep=args.keep))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
