"""How far a job is, read from its events and folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcm_studio.jobs.layout import JobFolder

Point = tuple[int, float]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`step` of `steps` (0 = unknown); `eta` in seconds; curves are (step, value), thinned to some hundreds.

    A step that was run twice, after a resume, counts as it went the last time.
    """

    step: int = 0
    steps: int = 0
    loss: float | None = None
    lr: float | None = None
    steps_per_s: float | None = None
    images_per_s: float | None = None
    eta: float | None = None
    losses: tuple[Point, ...] = ()
    rates: tuple[Point, ...] = ()
    bad_samples: int = 0


def progress_of(folder: JobFolder, *, points: int = 400) -> Progress:
    """The progress that the events tell of."""
    rows: dict[int, Mapping[str, Any]] = {}
    bad, newest = 0, -1
    for event in folder.read_events():
        match event.get("event"):
            case "step" if isinstance(event.get("step"), int):
                if event["step"] <= newest:
                    rows = {step: row for step, row in rows.items() if step < event["step"]}
                newest = event["step"]
                rows[newest] = event
            case "bad_sample":
                bad += 1
    if not rows:
        return Progress(bad_samples=bad)
    step, last = max(rows.items())
    rate = _number(last.get("steps_per_s"))
    eta = _number(last.get("eta"))
    steps = last.get("steps")
    if not isinstance(steps, int):
        steps = step + round(eta * rate) if eta is not None and rate else 0
    return Progress(
        step=step,
        steps=steps,
        loss=_number(last.get("loss")),
        lr=_number(last.get("lr")),
        steps_per_s=rate,
        images_per_s=_number(last.get("images_per_s")),
        eta=eta,
        losses=_curve(rows, "loss", points),
        rates=_curve(rows, "lr", points),
        bad_samples=bad,
    )


def samples_of(folder: JobFolder) -> tuple[tuple[int, Path], ...]:
    """The validation pictures as (step, path), oldest first."""
    found = []
    for path in folder.samples.glob("step-*.png") if folder.samples.is_dir() else ():
        digits = path.stem.removeprefix("step-")
        if digits.isdigit():
            found.append((int(digits), path))
    return tuple(sorted(found))


def sentence(progress: Progress) -> str:
    """One line: step, loss, speed, time to go."""
    if not progress.step:
        return "no step yet"
    parts = [f"step {progress.step}" + (f" of {progress.steps}" if progress.steps else "")]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4g}")
    if progress.steps_per_s:
        parts.append(f"{progress.steps_per_s:.3g} steps/s")
    if progress.images_per_s:
        parts.append(f"{progress.images_per_s:.3g} images/s")
    if progress.eta:
        parts.append(f"about {duration(progress.eta)} to go")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _number(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _curve(rows: Mapping[int, Mapping[str, Any]], name: str, points: int) -> tuple[Point, ...]:
    values = [(step, _number(row.get(name))) for step, row in sorted(rows.items())]
    known = [(step, value) for step, value in values if value is not None]
    stride = max(1, len(known) // points)
    return tuple(known[::stride] + (known[-1:] if len(known) % stride != 1 and stride > 1 else []))
