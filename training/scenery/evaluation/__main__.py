"""python -m training.scenery.evaluation {train-features,evaluate,blind} ..."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Hands the arguments to one of the commands."""
    command, *rest = list(sys.argv[1:] if argv is None else argv) or [""]
    if command == "train-features":
        from training.scenery.evaluation.train_features import main as run
    elif command == "evaluate":
        from training.scenery.evaluation.evaluate import main as run
    elif command == "blind":
        from training.scenery.evaluation.blind import main as run
    else:
        print(
            f"command={command!r} is unknown; use train-features, evaluate or blind",
            file=sys.stderr,
        )
        return 2
    return run(rest)


if __name__ == "__main__":
    raise SystemExit(main())
