"""python -m benchmarks generate|edits|tune|training|samplers|page|device|soak|card|scale|serve [options]; each module has `main(argv) -> int`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

NAMES = (
    "generate",
    "edits",
    "tune",
    "training",
    "samplers",
    "page",
    "device",
    "soak",
    "card",
    "scale",
    "serve",
)


def main(argv: list[str]) -> int:
    """Runs one benchmark by name."""
    there = [name for name in NAMES if (Path(__file__).parent / f"{name}.py").is_file()]
    if not argv or argv[0] not in there:
        print(f"usage: python -m benchmarks {{{','.join(there)}}} [options]", file=sys.stderr)
        return 0 if argv[:1] in (["-h"], ["--help"]) else 2
    return int(importlib.import_module(f"benchmarks.{argv[0]}").main(argv[1:]))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
