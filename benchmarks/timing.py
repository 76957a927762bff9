"""Alternating measurements, medians, and one table for people and one for machines."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def alternate(
    calls: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each call, `rounds` times in turn, so that a drifting machine hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load": [round(value, 2) for value in os.getloadavg()],
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or "cpu",
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A markdown table; floats with three digits."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(path: Path, title: str, parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Writes `path`.json and `path`.md, and returns the markdown."""
    said = {
        "title": title,
        "machine": machine(),
        **{k: list(map(dict, v)) for k, v in parts.items()},
    }
    text = f"# {title}\n\n{json.dumps(said['machine'])}\n"
    for name, rows in parts.items():
        if rows:
            text += f"\n## {name}\n\n{table(rows)}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(said, indent=2) + "\n")
    path.with_suffix(".md").write_text(text)
    return text
