"""python -m benchmarks training: our distillation step against the published one, and each saving by itself.

    --rounds 7 --batch 8 --threads 2 --out benchmarks/results/training

One process, the two sides in turn: the same weights, pictures, captions, noise, times and w, in float32. With
the same weights the losses must agree (rtol 1e-5) or the benchmark fails. Ours is the trainer as it runs a job, with
its data from the cache and its average of weights; the published one is `benchmarks.published_step`, which has
the decoded pictures in memory and keeps no further average. Peak memory is of one fresh process per side.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.published_step import Drawn, PublishedStep, Savings
from benchmarks.timing import alternate, median, write
from training.accelerator import device_of
from training.data.latents import to_signed
from training.loop import Trainer
from training.recipes.base import Draw
from training.recipes.lcd import LatentDistillation
from training.rng import generator, order
from training.scenery.dataset import write_folder

ROOT = Path(__file__).resolve().parent.parent
RTOL = 1e-5
WARMUP = 1
BLOCK = 4  # steps of one side before it is the other's turn


class Heard(LatentDistillation):
    """The `lcd` recipe, which keeps what it drew for the other side."""

    def build(self) -> dict[str, torch.nn.Module]:
        networks = super().build()
        self._kept: dict[int, Drawn] = {}
        return networks

    def drawn(self, step: int) -> Drawn:
        """What was drawn for `step`, one of the last few; waits for a batch that is being made ahead."""
        while step not in self._kept:
            time.sleep(1e-3)
        return self._kept[step]

    def captions(self, draw: Draw, empty: float) -> list[str]:
        self._texts = super().captions(draw, empty)
        return self._texts

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        found = super().batch(draw)
        self._kept = {n: kept for n, kept in self._kept.items() if n > draw.step - 2 * BLOCK}
        self._kept[draw.step] = Drawn(
            examples=tuple(index for index, _ in draw.examples),
            texts=tuple(self._texts),
            x0=found["z"],
            eps=found["eps"],
            t=found["t_nk"],
            w=found["w"],
        )
        return found


class Bench:
    """Our trainer on a folder of scenes, and published steps that are given what it drew."""

    def __init__(self, folder: Path, fields: dict[str, Any], device: torch.device) -> None:
        self.recipe = Heard(Heard.Config(**fields), device)
        self.trainer = Trainer(self.recipe, folder, quiet=True)
        self.trainer.prepare()
        self.threads = torch.get_num_threads()
        self.length = self.recipe.data_length()
        images = [self.recipe.source.item(i).image for i in range(self.length)]
        self.pictures = to_signed(np.stack(images)).to(device)
        self.captions = [self.recipe.source.caption(i, 0) for i in range(self.length)]
        self.losses: list[Tensor] = []

    @contextmanager
    def stepping(self, *, ahead: bool = True) -> Iterator[Callable[[], None]]:
        """What takes `BLOCK` steps as `Trainer.run` takes them; with `ahead` the next batch is made meanwhile."""
        trainer = self.trainer
        trainer.config = trainer.config.model_copy(update={"overlap": ahead})
        with trainer.batches() as batches:

            def steps() -> None:
                for _ in range(BLOCK):
                    self.losses.append(trainer.micro_step(next(batches)))
                    trainer.state.advance()
                if (
                    trainer.makes_ahead
                ):  # the batch after them is not to be made in the other side's time
                    self.recipe.drawn(trainer.state.step)

            yield steps

    @property
    def last(self) -> range:
        """The numbers of the steps of the last turn."""
        return range(self.trainer.state.step - BLOCK, self.trainer.state.step)

    def published(self, savings: Savings) -> PublishedStep:
        """A published step with these savings; text is encoded ahead where that is one of them."""
        step = PublishedStep(self.recipe, savings)
        if savings.cached_text:
            step.remember(["", *self.captions])
        return step

    def take(self, step: PublishedStep, numbers: Sequence[int] = (0,)) -> list[float]:
        """Steps of `step` on what our side drew for `numbers`, on all threads; the losses."""
        threads, losses = torch.get_num_threads(), []
        torch.set_num_threads(self.threads)
        try:
            for number in numbers:
                drawn = self.recipe.drawn(number)
                losses.append(float(step(self.pictures[list(drawn.examples)], drawn)))
        finally:
            torch.set_num_threads(threads)
        return losses

    def draw(self, number: int) -> dict[str, Tensor]:
        """New draws, the same for one `number`; the batch that our side makes of them."""
        c = self.recipe.config
        examples = tuple(order(number * c.batch_size, c.batch_size, self.length, c.seed))
        drawn = Draw(step=number, examples=examples, generator=generator("alone", number))
        return self.recipe.batch(drawn)

    def apart(self, step: PublishedStep, draws: int = 4) -> float:
        """The largest relative difference of the two losses, both with our weights as they are now."""
        step.student.load_state_dict(self.recipe.student.state_dict())
        step.target.load_state_dict(self.recipe.target.state_dict())
        found = []
        with torch.no_grad():
            for number in range(draws):
                mine = float(self.recipe.loss(self.draw(number)))
                drawn = self.recipe.drawn(number)
                theirs = float(step.loss(self.pictures[list(drawn.examples)], drawn))
                found.append(abs(mine - theirs) / abs(theirs))
        return max(found)


PRECISIONS = {"no": "float32", "bf16": "bf16", "fp16": "fp16"}


def fields_of(args: argparse.Namespace, data: Path) -> dict[str, Any]:
    """The published script's defaults for the teacher that is given."""
    return {
        "teacher": str(args.teacher),
        "resolution": args.resolution or picture_side(args.teacher),
        "batch_size": args.batch,
        "learning_rate": 1e-4,
        "w_min": 5.0,
        "w_max": 15.0,
        "target_ema": 0.95,
        "mixed_precision": args.precision,
        "device": args.device,
        "threads": args.threads,
        "data": {"kind": "folder", "path": str(data / "pictures"), "cache": str(data / "cache")},
    }


def picture_side(teacher: Path) -> int:
    """The side in pixels that the teacher was trained at, from its configs."""
    unet = json.loads((teacher / "unet" / "config.json").read_text())
    vae = json.loads((teacher / "vae" / "config.json").read_text())
    widths = vae.get("encoder_block_out_channels") or vae["block_out_channels"]
    return int(unet["sample_size"]) * 2 ** (len(widths) - 1)


def compare(bench: Bench, rounds: int) -> tuple[dict[str, Any], dict[str, float]]:
    """Seconds of a step of either side in turn; and how far the losses are apart.

    "same weights": with our weights on both sides, before the first step and after the last. "at the end": after
    steps that each side took by itself, where AdamW has enlarged the differences of rounding.
    """
    published = bench.published(Savings())
    same = bench.apart(published)
    theirs: list[float] = []

    def take() -> None:
        theirs.extend(bench.take(published, bench.last))

    with bench.stepping() as ours:
        seconds = alternate({"ours": ours, "published": take}, rounds, warmup=WARMUP)
    mine = [float(loss) for loss in bench.losses[-len(theirs) :]]
    drift = max(abs(a - b) / abs(b) for a, b in zip(mine, theirs, strict=True))
    batch = bench.recipe.config.batch_size
    a, b = median(seconds["published"]) / BLOCK, median(seconds["ours"]) / BLOCK
    row = {
        "published s/step": a,
        "ours s/step": b,
        "published images/s": batch / a,
        "ours images/s": batch / b,
        "published / ours": a / b,
    }
    return row, {"same weights": max(same, bench.apart(published)), "at the end": drift}


def savings(
    bench: Bench, rounds: int, names: Sequence[str] = Savings.names()
) -> list[dict[str, Any]]:
    """Each saving switched on by itself, beside the plain step on the same draws; and all of them."""
    rows = []
    everything = Savings(**dict.fromkeys(Savings.names(), True))
    singles = [(name, Savings(**{name: True})) for name in names]
    bench.draw(0)
    for name, chosen in (*singles, ("all of them", everything)):
        plain, saving = bench.published(Savings()), bench.published(chosen)
        calls = {"plain": partial(bench.take, plain), "saving": partial(bench.take, saving)}
        seconds = alternate(calls, rounds)
        a, b = median(seconds["plain"]), median(seconds["saving"])
        rows.append({"saving": name, "plain s/step": a, "with it s/step": b, "gain": a / b})
    return [*rows, overlap(bench, rounds)]


def overlap(bench: Bench, rounds: int) -> dict[str, Any]:
    """Our whole step without and with the batch after it made ahead, in turn."""
    with bench.stepping(ahead=False) as plain:
        one = alternate({"plain": plain}, rounds, warmup=WARMUP)["plain"]
    with bench.stepping() as saving:
        two = alternate({"saving": saving}, rounds, warmup=WARMUP)["saving"]
    a, b = median(one) / BLOCK, median(two) / BLOCK
    name = "next batch made ahead (our step)"
    return {"saving": name, "plain s/step": a, "with it s/step": b, "gain": a / b}


def peak(bench: Bench, side: str, turns: int = 2) -> float:
    """MB that this process holds at most during some steps of one side; the other's networks are freed."""
    with ExitStack() as stack:
        if side == "published":
            bench.draw(0)
            call: Callable[[], object] = partial(bench.take, bench.published(Savings()))
            del bench.trainer, bench.recipe.student, bench.recipe.target, bench.recipe.teacher
            del bench.recipe.vae, bench.recipe.prompts
        else:
            call = stack.enter_context(bench.stepping())
        gc.collect()
        if bench.recipe.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
        for _ in range(turns):
            call()
    if bench.recipe.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def peaks(argv: Sequence[str]) -> dict[str, float]:
    """`peak` of either side, each in its own process."""
    found = {}
    for side in ("published", "ours"):
        out = subprocess.run(
            [sys.executable, "-m", "benchmarks", "training", *argv, "--side", side],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        found[side] = float(out.strip().splitlines()[-1])
    return found


def main(argv: Sequence[str]) -> int:
    """Measures, prints the tables and writes them; 1 where the losses of the sides differ."""
    args = _arguments(argv)
    with tempfile.TemporaryDirectory(prefix="training-benchmark-") as name:
        data = Path(name)
        if args.sd15:
            from benchmarks.sd15 import write_teacher

            args.teacher = write_teacher(data / "sd15-random", args.teacher)
        fields = fields_of(args, data)
        write_folder(data / "pictures", count=args.pictures, size=fields["resolution"])
        bench = Bench(data / "run", fields, device_of(args.device))
        if args.side:
            print(peak(bench, args.side))
            return 0
        row, apart = compare(bench, args.rounds)
        worst = apart["same weights"]
        parts: dict[str, list[dict[str, Any]]] = {"step": [row]}
        far = {f"relative difference, {name}": f"{value:.1e}" for name, value in apart.items()}
        # autocast rounds one doubled call otherwise than two calls: the bound is for exact float32
        exact = args.precision == "no"
        allowed = {"allowed at the same weights": f"{RTOL:.0e}"} if exact else {}
        parts["losses"] = [{**far, **allowed}]
        if "savings" not in args.skip:
            parts["each saving by itself"] = savings(bench, max(3, args.rounds // 2))
        if "memory" not in args.skip:
            found = peaks(argv)
            parts["peak memory"] = [{f"{side} MB": value for side, value in found.items()}]
    title = f"training, {args.teacher.name}, {fields['resolution']} px, batch {args.batch}, {PRECISIONS[args.precision]}"
    print(write(args.out, title, parts))
    if exact and worst > RTOL:
        print(f"the losses differ by {worst:.1e}, more than {RTOL:.0e}", file=sys.stderr)
    return 1 if exact and worst > RTOL else 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks training", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--teacher", type=Path, default=ROOT / "assets/models/scenery-teacher")
    parser.add_argument("--batch", type=int, default=8, help="pictures of a step (default 8)")
    parser.add_argument(
        "--rounds", type=int, default=7, help="turns of each side, of some steps (default 7)"
    )
    parser.add_argument("--resolution", type=int, default=0, help="pixels; 0 = the teacher's own")
    parser.add_argument("--pictures", type=int, default=64, help="scenes in the folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--precision", default="no", choices=tuple(PRECISIONS), help="autocast of both sides"
    )
    parser.add_argument(
        "--sd15",
        action="store_true",
        help="a random teacher of Stable Diffusion 1.5's size, 512 px",
    )
    parser.add_argument("--threads", type=int, default=0, help="0 = torch's default")
    parser.add_argument("--skip", action="append", default=[], choices=("savings", "memory"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "training")
    parser.add_argument("--side", choices=("ours", "published"), help=argparse.SUPPRESS)
    return parser.parse_args(argv)
