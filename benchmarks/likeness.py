"""How well a model takes noise out of its own pictures: `own_error` in its studio.json, by which pictures of others are told.

python -m benchmarks likeness scenery-lcm --write
"""

from __future__ import annotations

import argparse
import json
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from lcm_studio.spec.events import Done
from lcm_studio.spec.requests import Generate

SHARE = 0.99  # of its own pictures that have at most this error


def main(argv: list[str]) -> int:
    """Prints the error, and writes it with --write."""
    args = parser().parse_args(argv)
    from lcm_studio.engine import Engine, EngineConfig
    from lcm_studio.engine.likeness import error_of

    with Engine(EngineConfig()) as engine:
        info = engine.info(args.model)
        prompts = islice(cycle(info.examples or ("",)), args.count)
        errors = []
        for seed, prompt in enumerate(prompts):
            *_, done = engine.run(Generate(prompt=prompt, seed=seed, model=args.model))
            assert isinstance(done, Done), done
            errors.append(error_of(done.images[0], engine.lane(args.model)))
    own = round(float(np.quantile(errors, SHARE)), 3)
    print(
        f"{info.id}: {own} ({SHARE:.0%} of {args.count} of its own pictures; the mean is {np.mean(errors):.3f})"
    )
    if args.write:
        file = Path(info.path) / "studio.json"
        said = json.loads(file.read_text()) if file.is_file() else {}
        said["own_error"] = own
        file.write_text(json.dumps(said, indent=1) + "\n")
    return 0


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m benchmarks likeness", description=__doc__)
    p.add_argument("model")
    p.add_argument("--count", type=int, default=100)
    p.add_argument("--write", action="store_true", help="into the model's studio.json")
    return p
