"""Time and peak memory of one edit of a large photo, in a process of its own, without the page.

python -m benchmarks photo denoise --width 8200 --height 6150 --steps 1
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
OPTIONS: dict[str, dict[str, Any]] = {
    "superres": {"scale": 4},
    "denoise": {"sigma": 0.05},
    "deblur": {"kernel": "gaussian:2"},
}


def main(argv: list[str]) -> int:
    """Prints what was edited, seconds, and the peak of resident memory before and after."""
    args = parser().parse_args(argv)
    from lcm_studio.engine import Engine, EngineConfig
    from lcm_studio.spec.events import Done
    from lcm_studio.spec.requests import Edit, Generate

    scale = OPTIONS[args.task].get("scale", 1)
    photo = scene(args.height // scale, args.width // scale)
    with Engine(EngineConfig(device="cpu")) as engine:
        assert isinstance(list(engine.run(Generate(model=args.model, steps=1)))[-1], Done)
        before = peak()
        started = time.perf_counter()
        edit = Edit(
            task=args.task,
            image=photo,
            options=OPTIONS[args.task],
            steps=args.steps,
            model=args.model,
        )
        *_, done = engine.run(edit)
        seconds = time.perf_counter() - started
        assert isinstance(done, Done), done
    height, width = done.images[0].shape[:2]
    print(
        f"{args.task} to {width} x {height}, {args.steps} steps, {done.fidelity['tiles']} tiles: {seconds:.0f} s, "
        f"peak {peak():.2f} GiB, of which {before:.2f} are the studio with its model and the photo"
    )
    return 0


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m benchmarks photo", description=__doc__)
    p.add_argument("task", choices=sorted(OPTIONS))
    p.add_argument("--width", type=int, default=8200, help="of the result")
    p.add_argument("--height", type=int, default=6150)
    p.add_argument("--steps", type=int, default=1)
    p.add_argument("--model", default="scenery-lcm")
    return p


def scene(height: int, width: int) -> np.ndarray:
    """An example, made as large as that."""
    from PIL import Image

    with Image.open(ROOT / "assets" / "examples" / "edit-sunset-lake.png") as picture:
        large = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(large)


def peak() -> float:
    """The largest resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
