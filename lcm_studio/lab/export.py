"""What the Lab has shown, as files: labelled sheets, films, tables and charts."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    from lcm_studio.spec.lab import Compared, Frame, Traced
    from lcm_studio.spec.requests import Pixels

_GAP, _BAR, _SIDE = 4, 16, 104
_INK, _PAPER = (40, 40, 48), (255, 255, 255)


def sheet(
    rows: Sequence[Sequence[Pixels | None]],
    *,
    rows_named: Sequence[str] = (),
    columns_named: Sequence[str] = (),
) -> Pixels:
    """A table of pictures with names at the left and above, uint8 `(H, W, 3)`; None leaves a cell empty."""
    import numpy as np
    from PIL import Image, ImageDraw

    there = [p for row in rows for p in row if p is not None]
    if not there:
        raise BadRequest("there are no pictures to put on a sheet")
    height, width = max(p.shape[0] for p in there), max(p.shape[1] for p in there)
    left, top = (_SIDE if rows_named else 0), (_BAR if columns_named else 0)
    columns = max(len(row) for row in rows)
    size = left + columns * (width + _GAP), top + len(rows) * (height + _GAP)
    paper = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(paper)
    for i, row in enumerate(rows):
        y = top + i * (height + _GAP)
        if rows_named:
            draw.text((2, y + height // 2 - 6), rows_named[i][:18], fill=_INK)
        for j, pixels in enumerate(row):
            if pixels is not None:
                paper.paste(Image.fromarray(pixels[..., :3]), (left + j * (width + _GAP), y))
    for j, name in enumerate(columns_named):
        draw.text((left + j * (width + _GAP) + 2, 2), name[: width // 6], fill=_INK)
    return np.asarray(paper)


def film_strip(frames: Sequence[Frame], most: int = 10) -> Pixels:
    """x_t above and the clean estimate below, at most `most` of the frames, with their noise."""
    chosen = evenly(frames, most)
    return sheet(
        [[f.x_t for f in chosen], [f.x0_hat for f in chosen]],
        rows_named=["x_t", "clean estimate"],
        columns_named=[f"sigma {f.sigma:.3g}" for f in chosen],
    )


def trace_strip(traced: Traced) -> Pixels:
    """x_t, the teacher's one-step estimate and the student's f(x_t, t) along one path; the path's end in the last column."""
    points = traced.points
    return sheet(
        [
            [*(p.x_t for p in points), None],
            [*(p.teacher for p in points), traced.end],
            [*(p.student for p in points), traced.end],
        ],
        rows_named=["x_t", "teacher, 1 step", "student f(x_t, t)"],
        columns_named=[*(f"sigma {p.sigma:.3g}" for p in points), "end of the path"],
    )


def write_film(path: Path, frames: Sequence[Frame], fps: int = 8) -> Path:
    """x_t beside the clean estimate as .gif or .mp4. Raises BadRequest for another ending or where it cannot be written."""
    import numpy as np

    from lcm_studio.edits.video import write_video

    pairs = [np.concatenate([f.x_t[..., :3], f.x0_hat[..., :3]], axis=1) for f in frames]
    return write_video(path, [*pairs, *pairs[-1:] * fps], fps)


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """One line for each row, with the names of the first as a head; None is empty."""
    table = [dict(row) for row in rows]
    names = list(table[0]) if table else []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, names)
            writer.writeheader()
            writer.writerows(table)
    except OSError as error:
        raise BadRequest(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def results_rows(compared: Compared) -> list[dict[str, Any]]:
    """The numbers of a comparison, one row for each system."""
    return [
        {
            "label": r.label, "model": r.model, "sampler": r.sampler, "evaluations": r.evaluations,
            "seconds": round(r.seconds, 4),
            "distance": None if r.distance is None else round(r.distance, 4), "error": r.error,
        }
        for r in compared.results
    ]  # fmt: skip


def trace_rows(traced: Traced) -> list[dict[str, Any]]:
    """The numbers of a trace, one row for each level."""
    names = ("teacher_to_start", "teacher_to_end", "student_to_start", "student_to_end")
    return [
        {"level": p.level, "sigma": round(p.sigma, 6)}
        | {name: round(getattr(p, name), 4) for name in names}
        for p in traced.points
    ]


def plot_lines(
    path: Path,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    *,
    across: str,
    up: str,
    title: str = "",
    log: str = "",
    falling: bool = False,
) -> Path:
    """Named lines of (x, y) as a chart, .png or .svg. `log`: axes on a logarithmic scale, "x", "y" or "xy"."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(lines.items()):
        ordered = sorted(points)
        axes.plot(
            [x for x, _ in ordered], [y for _, y in ordered], label=name, linewidth=1.6,
            marker="osD^vPX*<>"[number % 10], markersize=4,
        )  # fmt: skip
    if "x" in log:
        axes.set_xscale("log")
        _name_ticks(axes, [x for points in lines.values() for x, _ in points])
    if "y" in log:
        axes.set_yscale("log")
    if falling:
        axes.invert_xaxis()
    axes.set(xlabel=across, ylabel=up, title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None} if path.suffix == ".png" else None)
    except OSError as error:
        raise BadRequest(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def _name_ticks(axes: Any, values: Sequence[float]) -> None:
    """Few whole numbers on a logarithmic axis are its ticks, in place of powers of ten."""
    several = sorted({x for x in values if float(x).is_integer()})
    if len(several) < len(set(values)) or len(several) > 12:
        return
    apart = several[:1]
    for x in several[1:]:
        if x > 1.2 * apart[-1]:
            apart.append(x)
    axes.set_xticks(apart, labels=[f"{x:g}" for x in apart])
    axes.minorticks_off()


def plot_quality(
    path: Path, rows: Iterable[Mapping[str, Any]], *, value: str = "distance", title: str = ""
) -> Path | None:
    """`value` of `rows` against their evaluations, one line for each model and sampler; None where none has it."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.get(value) is not None:
            name = f"{row['sampler']} ({row['model']})"
            lines.setdefault(name, []).append((row["evaluations"], row[value]))
    if not lines:
        return None
    words = {
        "distance": "RMS difference from the fine solution (of 255)",
        "fd": "Frechet distance",
        "agreement": "agreement with the prompt",
    }
    return plot_lines(
        path, lines, across="network evaluations", up=words.get(value, value), title=title,
        log="x" if value == "agreement" else "xy",
    )  # fmt: skip


def plot_trace(path: Path, traced: Traced) -> Path:
    """How far the teacher's and the student's estimates are from the path's end, at each noise level."""
    points = traced.points
    lines = {
        "student: from f(x_T, T)": [(p.sigma, p.student_to_start) for p in points],
        "student: from the end of the path": [(p.sigma, p.student_to_end) for p in points],
        "teacher, 1 step: from that at x_T": [(p.sigma, p.teacher_to_start) for p in points],
        "teacher, 1 step: from the end of the path": [(p.sigma, p.teacher_to_end) for p in points],
    }
    return plot_lines(
        path, lines, across="noise sigma / alpha (falls along the path)", up="RMS difference (of 255)",
        title="One path, one picture at every level?", log="x", falling=True,
    )  # fmt: skip


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of `items`, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
