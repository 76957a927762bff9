"""python -m benchmarks tune MODEL: the numbers of a model's edits, fitted on some scenes and reported on others.

    --tasks inpaint,superres4   all if left out; other tasks keep what the file has
    --count 24                  scenes of seeds A per candidate
    --report-count 96           scenes of seeds B, which no search sees, for the table
    --out FILE                  the model's own edits.yaml if left out

Per task and number of levels (4, then 8) a descent, one number at a time, from what the model has or the textbook, over first
and last level, eta, noise scale, over-relaxation, and at four levels guidance and emphasis. Ranked by Frechet distance to
the untouched pictures in the feature network, among candidates that cost at most 1 dB of PSNR against the start: pictures
may look real by leaving what they were made from (Blau & Michaeli 2018). The file is written after each task.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.edit_scenes import SIGMA, TASKS
from benchmarks.timing import table
from lcm_studio.edits.schedule import along
from lcm_studio.spec.fitted import Fit, Fitted

if TYPE_CHECKING:
    from benchmarks.edit_methods import Bench

FIT_FROM, REPORT_FROM = (
    20_000,
    40_000,
)  # of the held-out scenes; the published table uses the first ones
STEPS = (4, 8)
COST = 1.0  # dB of PSNR that a better distance may cost
FACTOR = 1.5  # between neighbouring levels
MOST = 24  # candidates per number of levels


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What a search changes."""

    fit: Fit
    guidance: float | None = None
    emphasis: float = 0.0

    def options(self, steps: int) -> dict[str, Any]:
        """As settings of a request, so that nothing is taken from the model's own file."""
        relax = [0.0] * steps
        relax[: len(self.fit.relax_first)] = self.fit.relax_first
        for k, value in enumerate(reversed(self.fit.relax_last[-steps:]), 1):
            relax[-k] = value
        options: dict[str, Any] = {
            "levels": along(self.fit.levels, steps),
            "eta": self.fit.eta,
            "noise_scale": self.fit.noise_scale,
            "emphasis": self.emphasis,
        }
        return options | ({"relax": relax} if any(relax) else {})


def main(argv: Sequence[str] | None = None) -> int:
    """Fits, writes and reports; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a bundled name or a folder")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--report-count", type=int, default=96)
    parser.add_argument("--most", type=int, default=MOST, help=f"candidates ({MOST})")
    parser.add_argument("--models-dir", action="append", default=[], metavar="DIR")
    parser.add_argument("--features", default="assets/models/scenery-features")
    parser.add_argument("--out", default="")
    args = parser.parse_args(argv)
    unknown = set(args.tasks.split(",")) - set(TASKS)
    if unknown or min(args.count, args.report_count) < 2:
        parser.error(f"tasks are {', '.join(TASKS)}; counts must be 2 or more, for a covariance")
    import torch

    from benchmarks.edit_methods import Bench

    torch.set_num_threads(1)
    models = [Path(folder) for folder in args.models_dir]
    bench = Bench(models=models, features=Path(args.features), student=args.model)
    info = bench.engine.info(args.model)
    out = Path(args.out) if args.out else Path(info.path) / "edits.yaml"
    whole = info.fitted or Fitted()
    rows: list[dict[str, Any]] = []
    for task in args.tasks.split(","):
        found = [search(bench, task, steps, args.count, args.most) for steps in STEPS]
        whole = merged(whole, task, found)
        made = {
            "date": datetime.date.today().isoformat(),
            "commit": _commit(),
            "fit": f"{args.count} scenes from {FIT_FROM} on",
            "report": f"{args.report_count} scenes from {REPORT_FROM} on",
        }
        whole = replace(whole, made=made)
        out.write_text(to_yaml(whole), encoding="utf-8")
        rows += report(bench, task, found, args.report_count)
        print(table(rows), flush=True)
    print(f"\nwrote {out}")
    return 0


def search(bench: Bench, task: str, steps: int, count: int, most: int = MOST) -> Numbers:
    """The best numbers of a descent: each move that lowers the distance is kept and made again."""
    scenes = range(FIT_FROM, FIT_FROM + count)
    best = start(bench, task, steps)
    first, tried = score(bench, task, steps, best, scenes), 1
    least, faithful = first["frechet"], first["psnr"] - COST
    moved = True
    while moved and tried < most:
        moved = False
        for move in moves(task, first=steps == STEPS[0]):
            while tried < most:
                candidate = move(best)
                if candidate is None:
                    break
                tried += 1
                scored = score(bench, task, steps, candidate, scenes)
                if scored["frechet"] >= least or scored["psnr"] < faithful:
                    break
                best, least, moved = candidate, scored["frechet"], True
    return best


def start(bench: Bench, task: str, steps: int) -> Numbers:
    """What the model has for the task, else the textbook's levels."""
    from lcm_studio.engine.session import build

    model = bench.engine.model(bench.student)
    scene = bench.scenes(task, [FIT_FROM])[0]
    fitted = model.info.fitted
    fit = fitted.fit(task, steps) if fitted else None
    if fit is None:
        levels = build(scene.request(steps, 0), model).schedule.levels
        ends = (model.schedule.ve_sigma(level) for level in (levels[0], levels[-1]))
        fit = Fit(levels=tuple(ends), sigma=SIGMA if task == "denoise" else None)
    return Numbers(
        fit=fit,
        guidance=model.info.guidance_for(scene.name),
        emphasis=model.info.emphasis_for(scene.name),
    )


Move = Callable[[Numbers], "Numbers | None"]


def moves(task: str, *, first: bool) -> Iterator[Move]:
    """Single steps away from some numbers; None where that would leave the range. `first`: of the first step count."""
    for end in (0, -1):
        for factor in (FACTOR, 1 / FACTOR):
            yield lambda n, end=end, factor=factor: _level(n, end, factor)
    for name, step, low in (("eta", -0.15, 0.1), ("noise_scale", -0.15, 0.4)):
        for way in (step, -step):
            yield lambda n, name=name, way=way, low=low: _number(n, name, way, low)
    if task not in ("inpaint", "outpaint"):
        for way in (0.1, -0.1):
            yield lambda n, way=way: _relax(n, way)
    if first:
        for way in (2.0, -2.0):
            yield lambda n, way=way: _shared(n, "guidance", way, 1.0, 30.0)
        for way in (0.5, -0.5):
            yield lambda n, way=way: _shared(n, "emphasis", way, 0.0, 3.0)


def _level(numbers: Numbers, end: int, factor: float) -> Numbers | None:
    """The first or the last level by `factor`, those between in proportion."""
    levels = numbers.fit.levels
    count = len(levels) - 1
    shares = [(1 - i / count) if end == 0 else i / count for i in range(count + 1)]
    moved = tuple(level * factor**share for level, share in zip(levels, shares, strict=True))
    if any(b >= a for a, b in pairwise(moved)):
        return None
    return replace(numbers, fit=replace(numbers.fit, levels=moved))


def _number(numbers: Numbers, name: str, way: float, low: float) -> Numbers | None:
    value = round(getattr(numbers.fit, name) + way, 3)
    if not low <= value <= 1:
        return None
    return replace(numbers, fit=replace(numbers.fit, **{name: value}))


def _relax(numbers: Numbers, way: float) -> Numbers | None:
    *before, last = numbers.fit.relax_last or (0.0,)
    value = round(last + way, 3)
    if not 0 <= value <= 1:
        return None
    return replace(numbers, fit=replace(numbers.fit, relax_last=(*before, value)))


def _shared(numbers: Numbers, name: str, way: float, low: float, high: float) -> Numbers | None:
    value = (getattr(numbers, name) or 0.0) + way
    return replace(numbers, **{name: value}) if low <= value <= high else None


def score(
    bench: Bench, task: str, steps: int, numbers: Numbers | None, scenes: Sequence[int]
) -> dict[str, Any]:
    """Frechet distance and PSNR of these scenes; None = what the model has now."""
    import torch

    from training.metrics import frechet, psnr

    found = bench.scenes(task, scenes)
    more = {} if numbers is None else numbers.options(steps)
    guidance = None if numbers is None else numbers.guidance
    made, _ = bench.make(found, f"ours-{steps}", guidance=guidance, **more)
    truths = np.stack([scene.truth for scene in found])
    a, b = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x in (made, truths))
    return {
        "frechet": frechet(bench.embed(made), bench.truths(found)),
        "psnr": float(psnr(a, b).clamp(max=99).mean()),
    }


def report(bench: Bench, task: str, found: Sequence[Numbers], count: int) -> list[dict[str, Any]]:
    """What the fit is worth on scenes that it has not seen, against what the model had before."""
    scenes = range(REPORT_FROM, REPORT_FROM + count)
    rows = []
    for steps, numbers in zip(STEPS, found, strict=True):
        before, after = (score(bench, task, steps, n, scenes) for n in (None, numbers))
        rows.append(
            {
                "task": task,
                "evaluations": steps,
                "Frechet before": before["frechet"],
                "Frechet": after["frechet"],
                "PSNR before": before["psnr"],
                "PSNR": after["psnr"],
            }
        )
    return rows


def merged(whole: Fitted, task: str, found: Sequence[Numbers]) -> Fitted:
    """`whole` with a task's new numbers; guidance and emphasis are those of the first step count."""
    few, many = found
    name = "superres" if task.startswith("superres") else task
    guidance = dict(whole.guidance)
    if few.guidance is not None:
        guidance[name] = few.guidance
    return replace(
        whole,
        tasks={**whole.tasks, task: (few.fit, many.fit)},
        guidance=guidance,
        emphasis={**whole.emphasis, name: few.emphasis},
    )


def to_yaml(whole: Fitted) -> str:
    """The text of an edits.yaml, which `lcm_studio.spec.fitted.parse` reads back."""
    import yaml

    tasks: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys((*whole.guidance, *whole.emphasis, *whole.tasks)):
        entry = tasks.setdefault(name, {})
        if name in whole.guidance:
            entry["guidance"] = whole.guidance[name]
        if whole.emphasis.get(name):
            entry["emphasis"] = whole.emphasis[name]
        if name in whole.tasks:
            entry |= {
                key: _plain(fit)
                for key, fit in zip(("few", "many"), whole.tasks[name], strict=True)
            }
    given: dict[str, Any] = {"made": dict(whole.made), "many_from": whole.many_from}
    if whole.errors is not None:
        given["errors"] = dict(vars(whole.errors))
    text: str = yaml.safe_dump(given | {"tasks": tasks}, sort_keys=False, width=110)
    return f"# Numbers of edits that were fitted to these weights by `python -m benchmarks tune`.\n{text}"


def _plain(fit: Fit) -> dict[str, Any]:
    """A fit without what is as without it."""
    entry: dict[str, Any] = {"levels": [round(level, 4) for level in fit.levels]}
    for name, value in vars(fit).items():
        if name != "levels" and value not in (None, (), 1.0):
            entry[name] = list(value) if isinstance(value, tuple) else value
    return entry


def _commit() -> str:
    ran = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return ran.stdout.strip() or "unknown"


if __name__ == "__main__":
    raise SystemExit(main())
