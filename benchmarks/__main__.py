"""python -m benchmarks NAME [options]; each module has `main(argv) -> int`. Without a name: what there is."""

from __future__ import annotations

import ast
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
    "photo",
    "likeness",
    "motion",
    "device",
    "soak",
    "card",
    "scale",
    "serve",
)


def main(argv: list[str]) -> int:
    """Runs one benchmark by name."""
    there = [name for name in NAMES if (Path(__file__).parent / f"{name}.py").is_file()]
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m benchmarks NAME [options]")
        for name in there:
            print(f"  {name:10} {about(name)}")
        return 0
    if argv[0] not in there:
        print(f"there is no benchmark {argv[0]!r}; use {', '.join(there)}", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"benchmarks.{argv[0]}").main(argv[1:]))


def about(name: str) -> str:
    """The first line of a benchmark's docstring, without importing it."""
    words = ast.get_docstring(ast.parse((Path(__file__).parent / f"{name}.py").read_text())) or ""
    return words.split("\n")[0]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
