"""Which noise range suits a task: candidates around the default, on scenes that the table does not use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.timing import table
from lcm_studio.edits.schedules import default_range, geometric
from training.evaluation.metrics import frechet, psnr

if TYPE_CHECKING:
    from benchmarks.edit_methods import Bench

FIRST_SCENE = 10_000
FACTOR = 1.8  # between neighbouring candidates
MOST = 8  # candidates at 4 evaluations


def tune(bench: Bench, tasks: Sequence[str], count: int, out: Path) -> str:
    """Per task a descent over (first, last level) at 4 evaluations from the default, then two ranges at 8 from there.

    Ranked by Frechet distance to the untouched pictures in the feature network. Writes OUT.json after each task and
    returns the table.
    """
    rows: list[dict[str, Any]] = []
    best: dict[str, dict[str, list[float]]] = {}
    out.parent.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        tried = _descend(bench, task, count)
        lead = min(tried, key=lambda r: r["frechet"])
        first, last = lead["first"], lead["last"]
        longer = [_score(bench, task, f, last, 8, count) for f in (first, FACTOR * first)]
        lead_8 = min(longer, key=lambda r: r["frechet"])
        rows += [*tried, *longer]
        best[task] = {"4": [first, last], "8": [lead_8["first"], lead_8["last"]]}
        print(table([*tried, *longer]), "\nbest:", best[task], flush=True)
        saved = {"count": count, "rows": rows, "best": best}
        out.with_suffix(".json").write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    return f"\n{table(rows)}\n\n{json.dumps(best, indent=1)}"


def _descend(bench: Bench, task: str, count: int) -> list[dict[str, Any]]:
    """Candidates at 4 evaluations, from the default to the better neighbour until none is better."""
    first, last = default_range(task, 4)
    here = (0, 0)
    tried = {here: _score(bench, task, first, last, 4, count)}
    ahead = _around(here)
    while ahead and len(tried) < MOST:
        place = ahead.pop(0)
        if place in tried:
            continue
        a, b = place
        tried[place] = _score(bench, task, first * FACTOR**a, last * FACTOR**b, 4, count)
        if tried[place]["frechet"] < tried[here]["frechet"]:
            further = (2 * a - here[0], 2 * b - here[1])
            here, ahead = place, [further, *_around(place)]
    return list(tried.values())


def _around(place: tuple[int, int]) -> list[tuple[int, int]]:
    a, b = place
    return [(a + 1, b), (a, b + 1), (a - 1, b), (a, b - 1)]


def _score(
    bench: Bench, task: str, first: float, last: float, steps: int, count: int
) -> dict[str, Any]:
    scenes = bench.scenes(task, range(FIRST_SCENE, FIRST_SCENE + count))
    last = min(last, first / 1.5)
    made, _ = bench.make(scenes, f"ours-{steps}", levels=geometric(first, last, steps))
    truths = np.stack([s.truth for s in scenes])
    a, b = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x in (made, truths))
    features, wanted = bench.embed(made), bench.embed(truths)
    return {
        "task": task,
        "steps": steps,
        "first": round(first, 3),
        "last": round(last, 3),
        "frechet": frechet(features, wanted),
        "feature": float(np.linalg.norm(features - wanted, axis=1).mean()),
        "psnr": float(psnr(a, b).clamp(max=99).mean()),
    }
