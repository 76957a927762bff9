"""python -m training.scenery.evaluation blind MODEL: a sheet on which pictures of a model stand among rendered scenes.

Which is which is drawn by the seed; the answers are printed. No picture shows the scene whose caption another one was
made from.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.scenery.evaluation.evaluate import own_guidance, own_steps

if TYPE_CHECKING:
    from PIL import Image

COLUMNS = 10
GAP = 4  # pixels between pictures


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0; exits with 2 for a request that cannot be met, before anything is made."""
    parser = argparse.ArgumentParser(
        prog="python -m training.scenery.evaluation blind", description=__doc__
    )
    parser.add_argument("model", type=Path, help="diffusers folder of a latent consistency model")
    parser.add_argument("--out", type=Path, required=True, help="the sheet, .png or .jpg")
    parser.add_argument("--count", type=int, default=40, help="of each kind (default 40)")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, help="default: what the folder says, or 2.5")
    parser.add_argument(
        "--side", type=int, default=160, help="pixels of each picture (default 160)"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.count < 1 or args.steps < 1 or not 16 <= args.side <= 256:
        parser.error(
            f"--count {args.count} --steps {args.steps} --side {args.side}: use 1 or more, 1 or more, and 16 to 256 pixels"
        )
    if args.guidance is not None and not args.guidance >= 1:
        parser.error(f"--guidance {args.guidance} is below 1, which means none; use 1 or more")
    if args.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        parser.error(f"--out {args.out}: use a name that ends in .png or .jpg")
    if not (args.model / "model_index.json").is_file():
        parser.error(f"{args.model} holds no model_index.json; give a diffusers folder")
    guidance = args.guidance or own_guidance(args.model)
    pictures = drawn(args.model, args.count, args.steps, guidance, args.seed)
    made = places(args.count, args.seed)
    sheet = laid_out(pictures, made, args.side)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.out, quality=88, optimize=True)
    print(answers(made))
    return 0


def drawn(
    model: Path, count: int, steps: int, guidance: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """`count` pictures of held-out captions and `count` other scenes, uint8 (N, H, W, 3)."""
    from training.scenery.dataset import HELD_OUT_SEEDS, arrays
    from training.scenery.evaluation.cells import load_pipeline, picture_side, sample

    pipe = load_pipeline(model)
    first = HELD_OUT_SEEDS.start + 3 * 10**6  # clear of what other commands ask for
    side = picture_side(pipe)
    _, captions = arrays(range(first, first + count), 32, edition=2)
    real, _ = arrays(range(first + count, first + 2 * count), side, edition=2)
    batches = sample(
        pipe, captions, steps=steps, guidance=guidance, seed=seed, batch=10, **own_steps(model)
    )
    made = [
        (batch * 255 + 0.5).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy() for batch in batches
    ]
    return np.concatenate(made), real


def places(count: int, seed: int) -> np.ndarray:
    """Whether each of 2 x `count` places holds a picture of the model."""
    made: np.ndarray = np.random.default_rng(seed).permutation(2 * count) < count
    return made


def laid_out(pictures: tuple[np.ndarray, np.ndarray], made: np.ndarray, side: int) -> Image.Image:
    """The sheet: row by row, numbers at its left."""
    from PIL import Image, ImageDraw

    margin, step = 28, side + GAP
    rows = -(-len(made) // COLUMNS)
    sheet = Image.new("RGB", (margin + COLUMNS * step, rows * step + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    left = {True: iter(pictures[0]), False: iter(pictures[1])}
    for place, kind in enumerate(made.tolist()):
        row, column = divmod(place, COLUMNS)
        if not column:
            pen.text((8, row * step + side // 2), str(row + 1), "black")
        picture = Image.fromarray(next(left[kind])).resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(picture, (margin + column * step, row * step + GAP))
    return sheet


def answers(made: np.ndarray) -> str:
    """Columns of the model's pictures, row by row."""
    rows = [made[i : i + COLUMNS] for i in range(0, len(made), COLUMNS)]
    told = [
        f"row {i}: {', '.join(str(j + 1) for j in np.flatnonzero(row))}"
        for i, row in enumerate(rows, 1)
    ]
    return "made by the model, by row and column\n" + "\n".join(told)
