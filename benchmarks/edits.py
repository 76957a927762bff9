"""python -m benchmarks edits: every task and method on held-out scenes, cell by cell, resumable.

    --count 200 --tasks inpaint,colorize --methods ours-4,telea --out runs/edits

A cell (task, method) is kept as JSON under OUT/cells and skipped when it is there; edits.json and edits.md are
written again after each. Methods with "teacher" use the bundled teacher; all use one network call per picture
and step, so times can be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TASKS = (
    "inpaint",
    "outpaint",
    "colorize",
    "superres2",
    "superres4",
    "superres8",
    "denoise",
    "deblur",
)
METHODS = (
    *("aplus", "bicubic", "telea", "ns", "paste-4", "blend-4", "alg4-4", "cm4ir-4", "latino-8"),
    *("ours-4", "ours-8", "plain-4", "latent-4", "repaint-100", "ddnm-100"),
)
COLUMNS = (
    *("evaluations", "known_max", "known_rms", "psnr", "ssim", "psnr_hole", "feature", "frechet"),
    *("seam", "diversity", "seconds"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cells that are missing and writes the table."""
    args = _arguments(argv)
    from benchmarks.edit_methods import Bench, fits

    out = Path(args.out)
    (out / "cells").mkdir(parents=True, exist_ok=True)
    bench = Bench(
        count=args.count, models=[Path(m) for m in args.models_dir], features=Path(args.features)
    )
    for task in args.tasks.split(","):
        for method in args.methods.split(","):
            if not fits(task, method):
                continue
            file = out / "cells" / f"{task}--{method}--{args.count}.json"
            if file.is_file() and not args.again:
                continue
            started = time.perf_counter()
            cell = bench.cell(task, method)
            file.write_text(json.dumps(cell, indent=1) + "\n", encoding="utf-8")
            print(f"{task} {method}: {time.perf_counter() - started:.1f} s", file=sys.stderr)
            _write_table(out, args.count)
    _write_table(out, args.count)
    print((out / "edits.md").read_text(encoding="utf-8"))
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks edits", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--count", type=int, default=200, help="scenes per cell (default 200)")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--out", default="runs/edits")
    parser.add_argument("--models-dir", action="append", default=[], metavar="DIR")
    parser.add_argument("--features", default="assets/models/scenery-features")
    parser.add_argument("--again", action="store_true", help="run cells that are there already")
    return parser.parse_args(argv)


def _write_table(out: Path, count: int) -> None:
    cells = [
        json.loads(p.read_text(encoding="utf-8"))
        for p in sorted((out / "cells").glob(f"*--{count}.json"))
    ]
    (out / "edits.json").write_text(json.dumps(cells, indent=1) + "\n", encoding="utf-8")
    lines = [
        f"Held-out scenes per cell: {count}. Known part: errors of 255 on the re-read PNG.",
        "",
    ]
    for task in dict.fromkeys(c["task"] for c in cells):
        lines += [f"### {task}", "", "| method | " + " | ".join(COLUMNS) + " |"]
        lines.append("|---" * (len(COLUMNS) + 1) + "|")
        rows = [c for c in cells if c["task"] == task]
        for cell in sorted(rows, key=lambda c: c.get("frechet") or 1e9):
            lines.append(
                f"| {cell['method']} | " + " | ".join(_text(cell.get(n)) for n in COLUMNS) + " |"
            )
        lines.append("")
    (out / "edits.md").write_text("\n".join(lines), encoding="utf-8")


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
