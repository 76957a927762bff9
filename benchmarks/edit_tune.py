"""Which noise levels suit a task: candidates around the default, on scenes that the table does not use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.timing import table
from lcm_studio.edits.schedules import Anchors, along, default_anchors
from training.evaluation.metrics import frechet, psnr

if TYPE_CHECKING:
    from benchmarks.edit_methods import Bench

FIRST_SCENE = 10_000
FACTOR = 1.8  # between neighbouring candidates
MOST = 8  # candidates per number of evaluations


def tune(bench: Bench, tasks: Sequence[str], count: int, out: Path) -> str:
    """Per task a descent over first and last level at 4 evaluations from the default, then at 8.

    What lies between moves along with the ends.

    Ranked by Frechet distance to the untouched pictures in the feature network. Writes OUT.json after each task and
    returns the table.
    """
    rows: list[dict[str, Any]] = []
    best: dict[str, dict[str, str]] = {}
    out.parent.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        few, many = (_descend(bench, task, n, count) for n in (4, 8))
        tried = [*few, *many]
        rows += tried
        best[task] = {
            str(r[0]["evaluations"]): min(r, key=lambda one: one["frechet"])["levels"]
            for r in (few, many)
        }
        print(table(tried), "\nbest:", best[task], flush=True)
        saved = {"count": count, "rows": rows, "best": best}
        out.with_suffix(".json").write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    return f"\n{table(rows)}\n\n{json.dumps(best, indent=1)}"


def _descend(bench: Bench, task: str, steps: int, count: int) -> list[dict[str, Any]]:
    """Candidates, from the default to the better neighbour until none is better."""
    here = (0, 0)
    tried = {here: _score(bench, task, here, steps, count)}
    ahead = _around(here)
    while ahead and len(tried) < MOST:
        place = ahead.pop(0)
        if place in tried:
            continue
        tried[place] = _score(bench, task, place, steps, count)
        if tried[place]["frechet"] < tried[here]["frechet"]:
            further = (2 * place[0] - here[0], 2 * place[1] - here[1])
            here, ahead = place, [further, *_around(place)]
    return list(tried.values())


def moved(anchors: Anchors, place: tuple[int, int]) -> Anchors:
    """The first anchor by FACTOR to the power of `place[0]`, the last by that of `place[1]`, others in proportion."""
    falls = []
    for i, anchor in enumerate(anchors):
        share = i / (len(anchors) - 1)
        level = anchor * FACTOR ** ((1 - share) * place[0] + share * place[1])
        falls.append(min(level, falls[-1] / 1.02) if falls else level)
    return tuple(falls)


def _around(place: tuple[int, int]) -> list[tuple[int, int]]:
    a, b = place
    return [(a + 1, b), (a, b + 1), (a - 1, b), (a, b - 1)]


def _score(
    bench: Bench, task: str, place: tuple[int, int], steps: int, count: int
) -> dict[str, Any]:
    scenes = bench.scenes(task, range(FIRST_SCENE, FIRST_SCENE + count))
    levels = along(moved(default_anchors(task, steps), place), steps)
    made, _ = bench.make(scenes, f"ours-{steps}", levels=levels)
    truths = np.stack([s.truth for s in scenes])
    a, b = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x in (made, truths))
    features, wanted = bench.embed(made), bench.embed(truths)
    return {
        "task": task,
        "evaluations": steps,
        "levels": " ".join(f"{level:.3g}" for level in levels),
        "frechet": frechet(features, wanted),
        "feature": float(np.linalg.norm(features - wanted, axis=1).mean()),
        "psnr": float(psnr(a, b).clamp(max=99).mean()),
    }
