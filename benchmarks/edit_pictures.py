"""A sheet for the README: per task the picture, what is known of it, and the result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.edit_batch import together
from benchmarks.edit_scenes import Scene
from lcm_studio.engine.session import session
from lcm_studio.spec.requests import Edit

if TYPE_CHECKING:
    from benchmarks.edit_methods import Bench

STEPS, SIZE, GAP, HEAD, COLOURS = 4, 208, 8, 26, 7
ROWS = (
    ("inpaint", "Repaint (known: all but a hole)"),
    ("outpaint", "Widen (known: all but a border)"),
    ("colorize", "Colour (known: luma)"),
    ("superres4", "Enlarge (known: means of 4 x 4 pixels)"),
    ("denoise", "Denoise (known: with noise of 10%)"),
    ("deblur", "Deblur (known: blurred)"),
    ("sketch", "Sketch (given: strokes)"),
    ("interpolate", "Morph (given: two pictures)"),
)
Array = np.ndarray


def draw(bench: Bench, file: Path, scene: int) -> None:
    """Writes the sheet as PNG: two columns of rows (before, known part, after), made with default settings."""
    font = ImageFont.load_default(size=16)
    block = 3 * SIZE + 2 * GAP
    half = -(-len(ROWS) // 2)
    sheet = Image.new("RGB", (2 * block + 5 * GAP, half * (SIZE + HEAD + GAP) + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (task, title) in enumerate(ROWS):
        left = GAP + (i // half) * (block + 3 * GAP)
        top = GAP + (i % half) * (SIZE + HEAD + GAP)
        pen.text((left, top + 2), f"{title}, {STEPS} evaluations", "black", font=font)
        for k, picture in enumerate(_row(bench, task, scene)):
            big = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
            sheet.paste(Image.fromarray(big), (left + k * (SIZE + GAP), top + HEAD))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file, optimize=True)


def _row(bench: Bench, task: str, number: int) -> tuple[Array, Array, Array]:
    if task == "sketch":
        scene = bench.scenes("inpaint", [number])[0]
        strokes = _strokes(scene.truth)
        return scene.truth, strokes, _edit(bench, scene, strokes, "sketch", {"strength": 0.6})
    if task == "interpolate":
        scene, other = bench.scenes("inpaint", [number, number + 1])
        request = Edit(
            task="interpolate",
            image=scene.truth,
            image_b=other.truth,
            prompt=scene.caption,
            steps=STEPS,
            options={"frames": 3, "prompt_b": other.caption},
        )
        return scene.truth, other.truth, _frames(bench, request)[1]
    scene = bench.scenes(task, [number])[0]
    made, _ = bench.make([scene], f"ours-{STEPS}")
    return scene.truth, scene.shown(), made[0]


def _strokes(picture: Array) -> Array:
    """A crude painting of a picture: few colours in large patches."""
    small = cv2.resize(picture, (16, 16), interpolation=cv2.INTER_AREA)
    shades = np.rint(small.reshape(-1, 3).astype(np.float32))
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 1.0)
    cv2.setRNGSeed(0)
    _, label, centre = cv2.kmeans(shades, COLOURS, None, stop, 3, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    flat = np.rint(centre)[label.ravel()].reshape(small.shape).astype(np.uint8)
    side = picture.shape[0]
    large = cv2.resize(flat, (side, side), interpolation=cv2.INTER_NEAREST)
    return cv2.medianBlur(large, side // 14 | 1)


def _edit(bench: Bench, scene: Scene, image: Array, task: str, options: dict) -> Array:
    request = Edit(
        task=task, image=image, prompt=scene.caption, steps=STEPS, seed=1, options=options
    )
    return _frames(bench, request)[0]


def _frames(bench: Bench, request: Edit) -> tuple[Array, ...]:
    model = bench.engine.model("scenery-lcm")
    outcomes, _ = together(model, [session(request, model, (1,), 1)])
    images: tuple[Array, ...] = outcomes[0].images
    return images
