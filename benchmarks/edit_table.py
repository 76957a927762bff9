"""Cells of `benchmarks edits` on disk, merged over shares, as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.edit_scenes import TASKS
from training.metrics import frechet

Array = np.ndarray
COLUMNS = (
    *("pictures", "evaluations", "frechet", "of", "feature", "psnr", "psnr_hole", "ssim", "seam"),
    *("known_max", "known_rms", "diversity", "seconds"),
)
ABOUT = """Held-out scenes at the model's own size. *frechet*: Frechet distance in the bundled feature network to the same scenes
untouched (0 = alike), for all methods on the same scenes: *of* so many, which all methods of at most 8 evaluations have
run; *frechet of N*: again on the N that the slow ones have run too, so both sides always have equal pictures. The other
figures are of all *pictures* of a method. *feature*: mean distance to the untouched picture's features. *seam*: the seam
score over that of the untouched picture (1 = no seam). *known*: errors of the known part, of 255, on the re-read PNG
(for denoising: what was removed). *diversity*: mean feature distance of four seeds. *seconds*: of CPU time per picture,
eight pictures per call. *evaluations*: predictions per picture (the teacher's take two passes each, for its guidance).

ours-N: the studio's defaults; residual, latent: its other ways back into latents; paste: projected only at the end; aplus:
the simplest answer with the known part; alg4: Consistency Models, Algorithm 4; blend: diffusers' mask blending; others
by name. What is simplified in them is said in `benchmarks/edit_loops.py`."""


def file_of(folder: Path, task: str, method: str, scenes: Sequence[int]) -> Path:
    """Where the cell of these scenes lies."""
    return folder / f"{task}--{method}--{scenes[0]:04d}-{scenes[-1]:04d}.npz"


def save(path: Path, cell: Mapping[str, Array]) -> None:
    """Written whole or not at all, so that a killed run leaves no half cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, **cell)
    part.replace(path)


def merged(*folders: Path) -> dict[tuple[str, str], dict[str, Array]]:
    """(task, method) -> arrays over all cells, in the order of the scenes; a scene counts once."""
    parts: dict[tuple[str, str], list[dict[str, Array]]] = {}
    for path in sorted(found for folder in folders for found in folder.glob("*.npz")):
        if path.name.endswith(".part.npz"):
            continue
        task, method, *_ = path.stem.split("--")
        with np.load(path) as loaded:
            parts.setdefault((task, method), []).append(dict(loaded))
    cells = {}
    for key, found in parts.items():
        _, order = np.unique(np.concatenate([f["index"] for f in found]), return_index=True)
        names = set(found[0]) - {"diversity"}
        cells[key] = {n: np.concatenate([f[n] for f in found])[order] for n in names}
        cells[key]["diversity"] = np.concatenate([f.get("diversity", np.zeros(0)) for f in found])
    return cells


def figures(cell: Mapping[str, Array]) -> dict[str, float]:
    """One row of the table."""
    gaps = np.linalg.norm(cell["features"] - cell["truths"], axis=1)
    row: dict[str, float] = {
        "pictures": len(gaps),
        "evaluations": float(cell["evaluations"].mean()),
        "feature": float(gaps.mean()),
        "psnr": float(cell["psnr"].mean()),
        "ssim": float(cell["ssim"].mean()),
        "known_max": float(cell["known_max"].max()),
        "known_rms": float(np.sqrt(cell["known_square"].mean())),
        "seconds": float(cell["seconds"].mean()),
    }
    if "psnr_hole" in cell:
        row["psnr_hole"] = float(cell["psnr_hole"].mean())
    if np.isfinite(cell["seam"]).any():
        row["seam"] = float(np.nanmean(cell["seam"]) / np.nanmean(cell["seam_real"]))
    if len(cell["diversity"]):
        row["diversity"] = float(cell["diversity"].mean())
    return row


def distance(cell: Mapping[str, Array], scenes: Array) -> float:
    """Frechet distance of the results of `scenes` to the same scenes untouched."""
    rows = np.isin(cell["index"], scenes)
    return frechet(cell["features"][rows], cell["truths"][rows])


def common(cells: Iterable[Mapping[str, Array]]) -> Array:
    """The scenes that all cells have."""
    return reduce(np.intersect1d, [c["index"] for c in cells])


def compare(
    cells: Mapping[str, Mapping[str, Array]], earlier: Iterable[Mapping[str, Any]] = ()
) -> tuple[dict[str, dict], list[dict]]:
    """(rows of the table by method, what they say of ours) of one task.

    Distances are taken on the scenes that all methods of at most 8 evaluations have, and again on those that all have;
    there are none where that is less than two. `earlier`: rows of methods that have no cell here; those of a run of
    other scenes are an error.
    """
    rows: dict[str, dict[str, Any]] = {m: dict(figures(c)) for m, c in cells.items()}
    fast = [m for m in rows if _fast(rows[m])]
    slow = [m for m in rows if m not in fast]
    most = common(cells[m] for m in fast or slow)
    every = common(cells.values())
    if len(most) < 2:  # of a run that was cut short: nothing to compare yet
        return rows, []
    for method, row in rows.items():
        if method in fast:
            row["frechet"] = distance(cells[method], most)
            row["of"] = len(most)
        if slow and len(every) > 1:
            row[f"frechet of {len(every)}"] = distance(cells[method], every)
    earlier = list(earlier)
    _as_few(rows, cells, earlier)
    _join(rows, earlier, most if fast else every)
    return rows, _verdicts(rows)


def _fast(row: Mapping[str, Any]) -> bool:
    return bool(row["evaluations"] <= 8)


def _as_few(
    rows: dict[str, dict[str, Any]],
    cells: Mapping[str, Mapping[str, Array]],
    earlier: Sequence[Mapping[str, Any]],
) -> None:
    """Adds the distances on as many scenes as the slow rows that stay have: the first ones, which every run begins with."""
    stay = [r for r in earlier if r["method"] not in rows and not _fast(r)]
    counts = {int(n.split()[-1]) for r in stay for n in r if n.startswith("frechet of")}
    for count, (method, row) in product(sorted(counts), rows.items()):
        scenes = np.arange(count)
        if np.isin(scenes, cells[method]["index"]).all():
            row.setdefault(f"frechet of {count}", distance(cells[method], scenes))


def _join(
    rows: dict[str, dict[str, Any]], earlier: Iterable[Mapping[str, Any]], scenes: Array
) -> None:
    """Adds the earlier rows, and drops the distances that not all methods have then."""
    kept = {r["method"]: {k: v for k, v in r.items() if k != "method"} for r in earlier}
    kept = {m: r for m, r in kept.items() if m not in rows}
    if not kept:
        return
    count = len(scenes)
    counts = {r["of"] for r in kept.values() if "of" in r} | {count}
    if len(counts) > 1 or not np.array_equal(scenes, np.arange(count)):
        raise ValueError(
            f"the kept rows and these cells are of {sorted(counts)} scenes, which cannot be compared; run all methods "
            "with one --count, or merge without --keep"
        )
    rows |= kept
    same = f"frechet of {count}"
    for row in rows.values():
        if "of" in row:
            row.setdefault(same, row["frechet"])
    partial = {c for r in rows.values() for c in r if c.startswith("frechet of")}
    partial -= set.intersection(*({*r} for r in rows.values()))
    for row in rows.values():
        for name in partial:
            row.pop(name, None)


def _verdicts(rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the rows of one task say of ours."""
    fast = [m for m in rows if _fast(rows[m])]
    slow = [m for m in rows if m not in fast]
    rivals = [m for m in fast if not m.startswith(("ours", "residual", "latent"))]
    few = max(
        (c for m in slow for c in rows[m] if c.startswith("frechet of")),
        key=lambda c: int(c.split()[-1]), default="",
    )  # fmt: skip
    said = []
    for name in (m for m in ("ours-4", "ours-8") if m in rows):
        verdict: dict[str, Any] = {"method": name, "frechet": rows[name]["frechet"]}
        if rivals:
            best = min(rivals, key=lambda m: rows[m]["frechet"])
            verdict["best other up to 8"] = f"{best} {rows[best]['frechet']:.3g}"
            verdict["first"] = rows[name]["frechet"] < rows[best]["frechet"]
        if few:
            best = min(slow, key=lambda m: rows[m][few])
            verdict |= {
                few: rows[name][few],
                "best of 100": f"{best} {rows[best][few]:.3g}",
                "within 10%": rows[name][few] <= 1.1 * rows[best][few],
            }
        said.append(
            {**verdict, "seam": rows[name].get("seam"), "known_max": rows[name]["known_max"]}
        )
    return said


def write(
    folders: Sequence[Path], results: Path, settings: Mapping[str, Any], *, keep: bool = False
) -> str:
    """Writes RESULTS.json and RESULTS.md of all cells in `folders`; returns the markdown.

    `keep`: tasks, and methods of a task, without a cell keep what RESULTS.json says of them.
    """
    cells = merged(*folders)
    earlier = json.loads(results.with_suffix(".json").read_text()) if keep else {}
    data: list[dict[str, Any]] = []
    summary: list[dict[str, Any]] = []
    lines: list[str] = []
    kept: list[str] = []
    tasks = {t for t, _ in cells}
    for task in TASKS:
        if task in tasks:
            mine = {m: c for (t, m), c in cells.items() if t == task}
            rows, said = compare(mine, _of(earlier.get("cells", ()), task))
            old = [m for m in rows if m not in mine]
            kept += [f"{task} but {', '.join(mine)}"] if old else []
        else:
            rows = {row.pop("method"): row for row in _of(earlier.get("cells", ()), task)}
            said = _of(earlier.get("ours", ()), task)
            kept += [task] if rows else []
        if not rows:
            continue
        order = sorted(rows, key=lambda m: (rows[m].get("frechet", 1e9), m))
        data += [{"task": task, "method": m, **rows[m]} for m in order]
        extra = sorted({c for r in rows.values() for c in r if c.startswith("frechet of")})
        columns = [
            c for c in (*COLUMNS[:4], *extra, *COLUMNS[4:]) if any(c in r for r in rows.values())
        ]
        lines += ["", f"## {task}", ""]
        lines += _table(
            ["method", *columns], [[m, *(rows[m].get(c) for c in columns)] for m in order]
        )
        summary += [{"task": task, **s} for s in said]
    head = ["# Zero-shot edits", "", ABOUT]
    if kept:
        names = "; ".join(kept)
        head += [
            "",
            f"The rows of {names} are those of earlier runs, and their seconds of the machines of these: only seconds of one "
            "run can be compared.",
        ]
    if summary:
        names = list(dict.fromkeys(n for s in summary for n in s))
        several = [
            n for n in names if n.startswith("frechet of")
        ]  # where slow rows differ in scenes
        if several:
            at = names.index(several[0])
            names = [*names[:at], *several, *(n for n in names[at:] if n not in several)]
        head += ["", "## Ours against the rest", ""]
        head += _table(names, [[s.get(n) for n in names] for s in summary])
    text = "\n".join([*head, *lines, ""])
    results.parent.mkdir(parents=True, exist_ok=True)
    saved = {"settings": dict(settings), "cells": data, "ours": summary}
    results.with_suffix(".json").write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    results.with_suffix(".md").write_text(text, encoding="utf-8")
    return text


def _of(rows: Sequence[Mapping[str, Any]], task: str) -> list[dict[str, Any]]:
    """The rows of a task, without its name."""
    return [{k: v for k, v in r.items() if k != "task"} for r in rows if r["task"] == task]


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    head = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    return head + ["| " + " | ".join(_text(v) for v in row) + " |" for row in rows]


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
