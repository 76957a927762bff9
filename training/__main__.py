"""python -m training RECIPE --config job.yaml [--set key=value]... [--output DIR] [--resume] [--dry-run].

`python -m training evaluate` measures a model instead (see its --help).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

EVALUATE = "training.scenery.evaluation.evaluate"  # by name: scenes are a room of their own


def parser() -> argparse.ArgumentParser:
    """The command line; also read by tests."""
    from training.recipes import NAMES

    made = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    made.add_argument("recipe", choices=NAMES)
    made.add_argument("--preset", help="named fields to start from, e.g. cpu-quick (--preset list)")
    made.add_argument("--config", type=Path, help="YAML file of fields")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets")
    made.add_argument("--output", type=Path, default=Path("runs/run"), help="folder of the run")
    made.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    made.add_argument("--export", action="store_true", help="export the newest checkpoint, no step")
    made.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    made.add_argument("--untimed", action="store_true", help="of --dry-run: measure no steps")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 done or stopped, 1 failed (result.json has the reason), 2 bad request."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["evaluate"]:
        from importlib import import_module

        evaluate: Callable[[Sequence[str]], int] = import_module(EVALUATE).main
        return evaluate(given[1:])
    args = parser().parse_args(given)
    from training.run import run

    return run(args)


if __name__ == "__main__":
    sys.exit(main())
