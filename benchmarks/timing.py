"""Alternating measurements, medians, and one table for people and one for machines."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def alternate(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call, `rounds` times in turn, so that a drifting machine hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        for name, call in calls.items():
            started = clock()
            call()
            if turn >= warmup:
                seconds[name].append(clock() - started)
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
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
    }


def processor() -> str:
    """The processor's name, and whether it multiplies bfloat16 matrices by itself."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "cpu"
    lines = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return (lines or ["cpu"])[0] + (", amx_bf16" if "amx_bf16" in text else "")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A markdown table; floats with three digits."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(
    path: Path, title: str, parts: Mapping[str, Sequence[Mapping[str, Any]]], *, command: str = ""
) -> str:
    """Writes `path`.json and `path`.md, and returns the markdown."""
    said = {
        "title": title,
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        **{k: list(map(dict, v)) for k, v in parts.items()},
    }
    text = f"# {title}\n\n"
    if command:
        text += f"`{command}`, {said['date']}\n\n"
    text += f"{json.dumps(said['machine'])}\n"
    for name, rows in parts.items():
        if rows:
            text += f"\n## {name}\n\n{table(rows)}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(said, indent=2) + "\n")
    path.with_suffix(".md").write_text(text)
    return text
