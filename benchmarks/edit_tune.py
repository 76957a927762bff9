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
FIRSTS, LASTS = (0.5, 1.0, 2.0), (0.5, 2.0)


def tune(bench: Bench, tasks: Sequence[str], count: int, out: Path) -> str:
    """Per task: three first levels at 4 evaluations, two more last levels for the best, then the best and a higher one at 8.

    Ranked by Frechet distance to the untouched pictures in the feature network. Writes OUT.json after each task and
    returns the table.
    """
    rows: list[dict[str, Any]] = []
    best: dict[str, dict[str, list[float]]] = {}
    out.parent.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        first, last = default_range(task, 4)
        tried = [_score(bench, task, first * f, last, 4, count) for f in FIRSTS]
        lead = min(tried, key=lambda r: r["frechet"])
        tried += [_score(bench, task, lead["first"], last * f, 4, count) for f in LASTS]
        lead = min(tried, key=lambda r: r["frechet"])
        firsts = (lead["first"], lead["first"] * 1.6)
        longer = [_score(bench, task, f, lead["last"], 8, count) for f in firsts]
        rows += [*tried, *longer]
        best[task] = {
            "4": [lead["first"], lead["last"]],
            "8": [min(longer, key=lambda r: r["frechet"])[k] for k in ("first", "last")],
        }
        print(table([*tried, *longer]), "\nbest:", best[task], flush=True)
        saved = {"count": count, "rows": rows, "best": best}
        out.with_suffix(".json").write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    return f"\n{table(rows)}\n\n{json.dumps(best, indent=1)}"


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
