"""Generation and every edit on another device, against the CPU in float32; figures of `benchmarks device`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import write
from lcm_studio import Studio
from lcm_studio.spec.errors import StudioError

ROOT = Path(__file__).resolve().parent.parent
PROMPT = "sunset, snowy mountains, lake"
EDITS: dict[str, dict[str, Any]] = {
    "inpaint": {},
    "outpaint": {"options": {"borders": (16, 16, 16, 16)}},
    "colorize": {},
    "superres": {"options": {"scale": 4}},
    "denoise": {"options": {"sigma": 0.2}},
    "deblur": {"options": {"kernel": "gaussian:2.0"}},
    "sketch": {"options": {"strength": 0.6}},
    "interpolate": {"options": {"frames": 5}},
}


def main(argv: list[str]) -> int:
    """Runs all and writes the results; 1 where a task failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks device", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", action="append", choices=("fp32", "fp16", "bf16"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "device")
    args = parser.parse_args(argv)
    reference = Studio(device="cpu", dtype="fp32")
    source = reference.generate(PROMPT, steps=4, seed=7)[0].pixels
    rows, failed = [], 0
    for dtype in args.dtype or ("fp32", "fp16", "bf16"):
        studio = Studio(device=args.device, dtype=dtype)
        for task in ("generate", *EDITS):
            try:
                wanted = made(reference, task, source)
                made(studio, task, source)
                start = time.perf_counter()
                found = made(studio, task, source)
                seconds = time.perf_counter() - start
            except StudioError as error:
                rows.append({"dtype": dtype, "task": task, "mean": str(error), "max": "", "s": ""})
                failed = 1
                continue
            gap = np.abs(found.astype(int) - wanted.astype(int))
            mean, most = float(gap.mean()), int(gap.max())
            rows.append({"dtype": dtype, "task": task, "mean": mean, "max": most, "s": seconds})
    print(write(args.out, f"device {args.device}: against the CPU, of 255", {"tasks": rows}))
    return failed


def made(studio: Studio, task: str, source: Any) -> Any:
    """The picture of a task, four steps, seed 0; for interpolate its middle frame."""
    if task == "generate":
        return studio.generate(PROMPT, steps=4, seed=0)[0].pixels
    settings = dict(EDITS[task])
    if task == "inpaint":
        settings["mask"] = np.zeros(source.shape[:2], np.uint8)
        settings["mask"][40:90, 40:90] = 255
    if task == "interpolate":
        settings["image_b"] = np.ascontiguousarray(source[:, ::-1])
    image = source[::4, ::4].copy() if task == "superres" else source
    pictures = studio.edit(task, image, prompt=PROMPT, steps=4, seed=0, **settings)
    return pictures[len(pictures) // 2].pixels
