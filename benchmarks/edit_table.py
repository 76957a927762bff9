"""Cells of `benchmarks edits` on disk, merged over shares, as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluation.metrics import frechet

Array = np.ndarray
COLUMNS = (
    *("pictures", "evaluations", "frechet", "feature", "psnr", "psnr_hole", "ssim", "seam"),
    *("known_max", "known_rms", "diversity", "seconds"),
)
ABOUT = """Held-out scenes of 128 x 128. *frechet*: Frechet distance in the bundled feature network to the same scenes
untouched (0 = alike); *frechet first N* in the second table: the same with the first N pictures for both sides, which
is how methods with fewer pictures are compared. *feature*: mean distance to the untouched picture's features. *seam*:
the seam score over that of the untouched picture (1 = no seam). *known*: errors of the known part, of 255, on the re-read
PNG (for denoising: what was removed). *diversity*: mean feature distance of four seeds. *seconds*: of CPU time per picture,
eight pictures per call. *evaluations*: network predictions per picture (the teacher's take two passes each,
for its guidance). Methods: ours-N = the studio's defaults; plain and latent = its other ways back into latents;
paste = projected only at the end; alg4 = Consistency Models, Algorithm 4; blend = diffusers' mask blending; the rest
as in `benchmarks/edit_loops.py`, which says what is simplified."""


def file_of(out: Path, task: str, method: str, count: int, share: tuple[int, int]) -> Path:
    """Where a cell of one share lies."""
    return out / "cells" / f"{task}--{method}--{count}--{share[0]}-{share[1]}.npz"


def save(path: Path, cell: Mapping[str, Array]) -> None:
    """Written whole or not at all, so that a killed run leaves no half cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, **cell)
    part.replace(path)


def merged(out: Path) -> dict[tuple[str, str], dict[str, Array]]:
    """(task, method) -> arrays over all shares, in the order of the scenes; a scene counts once."""
    parts: dict[tuple[str, str], list[dict[str, Array]]] = {}
    for path in sorted((out / "cells").glob("*.npz")):
        if path.name.endswith(".part.npz"):
            continue
        task, method, *_ = path.stem.split("--")
        with np.load(path) as loaded:
            parts.setdefault((task, method), []).append(dict(loaded))
    cells = {}
    for key, found in parts.items():
        index = np.concatenate([f["index"] for f in found])
        _, order = np.unique(index, return_index=True)
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
        "frechet": distance(cell, len(gaps)),
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


def distance(cell: Mapping[str, Array], count: int) -> float:
    """Frechet distance of the first `count` results to the same scenes untouched."""
    return frechet(cell["features"][:count], cell["truths"][:count])


def spread_of(cell: Mapping[str, Array], count: int, draws: int = 20) -> float:
    """Standard error of `distance`, from bootstrap draws of scenes (the same for both sides)."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        pick = rng.choice(count, count)
        found.append(frechet(cell["features"][pick], cell["truths"][pick]))
    return float(np.std(found))


def verdicts(rows: Mapping[str, Mapping[str, float]], cells: Mapping[str, Any]) -> list[dict]:
    """What the figures say of ours at 4 and 8 evaluations, for one task: rank, gap to the slow ones, seam, known part."""
    out = []
    fast = {m: r["frechet"] for m, r in rows.items() if r["evaluations"] <= 8}
    slow = [m for m, r in rows.items() if r["evaluations"] > 8]
    for name in ("ours-4", "ours-8"):
        if name not in rows:
            continue
        limit = rows[name]["evaluations"]
        rivals = {
            m: f
            for m, f in fast.items()
            if not m.startswith(("ours", "plain", "latent")) and m != name
        }
        said: dict[str, Any] = {"method": name, "frechet": fast[name], "evaluations": limit}
        if rivals:
            best = min(rivals, key=lambda m: rivals[m])
            said |= {"best other (<= 8)": f"{best} {rivals[best]:.3g}"}
            said["first"] = fast[name] < rivals[best]
        if slow:
            count = min(int(rows[m]["pictures"]) for m in (*slow, name))
            mine = distance(cells[name], count)
            theirs = {m: distance(cells[m], count) for m in slow}
            best = min(theirs, key=lambda m: theirs[m])
            said[f"frechet first {count}"] = mine
            said["best of 100"] = f"{best} {theirs[best]:.3g}"
            said["within 10%"] = mine <= 1.1 * theirs[best]
        said["seam"] = rows[name].get("seam", float("nan"))
        said["known_max"] = rows[name]["known_max"]
        out.append(said)
    return out


def write(out: Path, results: Path, settings: Mapping[str, Any]) -> str:
    """Writes RESULTS.json and RESULTS.md of all cells under `out`; returns the markdown."""
    cells = merged(out)
    tasks = list(dict.fromkeys(t for t, _ in cells))
    data: list[dict[str, Any]] = []
    lines = ["# Zero-shot edits", "", ABOUT, ""]
    summary: list[dict[str, Any]] = []
    for task in tasks:
        own = {m: c for (t, m), c in cells.items() if t == task}
        rows = {m: figures(c) for m, c in own.items()}
        order = sorted(rows, key=lambda m: (rows[m]["evaluations"] > 8, rows[m]["frechet"]))
        data += [{"task": task, "method": m, **rows[m]} for m in order]
        shown = [c for c in COLUMNS if any(c in rows[m] for m in order)]
        lines += [
            f"## {task}",
            "",
            *_table(["method", *shown], [[m, *(rows[m].get(c) for c in shown)] for m in order]),
            "",
        ]
        summary += [{"task": task, **v} for v in verdicts(rows, own)]
    if summary:
        names = list(dict.fromkeys(n for s in summary for n in s))
        lines += [
            "## Ours against the rest",
            "",
            *_table(names, [[s.get(n) for n in names] for s in summary]),
            "",
        ]
    text = "\n".join(lines)
    results.parent.mkdir(parents=True, exist_ok=True)
    saved = {"settings": dict(settings), "cells": data, "ours": summary}
    results.with_suffix(".json").write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    results.with_suffix(".md").write_text(text, encoding="utf-8")
    return text


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    head = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    return head + ["| " + " | ".join(_text(v) for v in row) + " |" for row in rows]


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
