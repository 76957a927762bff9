"""The tasks of `benchmarks edits`: held-out scenes, what each task leaves of them, and what must stay."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from lcm_studio.edits.blurs import blur_operator
from lcm_studio.edits.finish import luma_of, to_bytes
from lcm_studio.edits.pixels import picture, tensor
from lcm_studio.spec.requests import Edit

TASKS = (
    *("inpaint", "outpaint", "colorize", "superres2", "superres4", "superres8"),
    *("denoise", "deblur"),
)
FIRST = 10**8 + 5000  # of the held-out seeds
SIGMA, KERNEL = 0.1, "gaussian:2.0"
EDITION = 2
HOLE, BORDER, MARGIN = 1 / 2, 5 / 16, 3 / 32  # of a picture's side


def kernel_of(side: int) -> str:
    """The blur of a picture of `side` pixels: sigma 1/64 of it."""
    return f"gaussian:{side / 64:g}"


class Scene:
    """A held-out picture `(S, S, 3)` uint8, its caption, and what a task leaves of it (`image`).

    `hole` `(S, S)` is True where a mask task may paint. Equal seeds give equal holes and noise.
    """

    def __init__(self, task: str, truth: np.ndarray, caption: str, seed: int) -> None:
        self.task, self.truth, self.caption, self.seed = task, truth, caption, seed
        self.hole: np.ndarray | None = None
        self.options: dict[str, Any] = {}
        self.name, self.image = task, truth
        side = truth.shape[0]
        hole, border, margin = (round(share * side) for share in (HOLE, BORDER, MARGIN))
        rng = np.random.default_rng(seed)
        if task == "inpaint":
            self.hole = np.zeros((side, side), bool)
            y, x = rng.integers(margin, side - hole - margin, 2)
            self.hole[y : y + hole, x : x + hole] = True
        elif task == "outpaint":
            self.hole = np.zeros((side, side), bool)
            self.hole[:, side - border :] = True
            self.image = truth[:, : side - border].copy()
            self.options = {"borders": (0, 0, border, 0)}
        elif task == "colorize":
            self.image = np.repeat(np.rint(luma_of(truth)).astype(np.uint8)[..., None], 3, axis=2)
        elif task.startswith("superres"):
            p = int(task[8:])
            self.name, self.options = "superres", {"scale": p}
            self.image = cv2.resize(truth, (side // p, side // p), interpolation=cv2.INTER_AREA)
        elif task == "denoise":
            noise = rng.normal(0, SIGMA * 255, truth.shape).astype(np.float32)
            self.image, self.options = to_bytes(truth + noise), {"sigma": SIGMA}
        elif task == "deblur":
            blurred = blur_operator(kernel_of(side), side, side).A(tensor(truth).double())
            self.image = to_bytes(picture(blurred[0]))
            self.options = {"kernel": kernel_of(side)}
        else:
            raise ValueError(f"task {task!r} is unknown; use {', '.join(TASKS)}")

    def request(self, steps: int, seed: int, **more: Any) -> Edit:
        """The edit that a user would ask for; `more` overrides options (levels, method)."""
        mask = None
        if self.task == "inpaint" and self.hole is not None:
            mask = np.where(self.hole, 255, 0).astype(np.uint8)
        return Edit(
            task=self.name,
            image=self.image,
            mask=mask,
            options={**self.options, **more},
            prompt=self.caption,
            steps=steps,
            seed=seed,
        )

    def shown(self) -> np.ndarray:
        """The known part as a picture of full size `(S, S, 3)`: holes grey, small pictures enlarged."""
        side = self.truth.shape[0]
        if self.hole is not None:
            return np.where(self.hole[..., None], 127, self.truth).astype(np.uint8)
        return cv2.resize(self.image, (side, side), interpolation=cv2.INTER_NEAREST)


def known_gap(scene: Scene, result: np.ndarray) -> np.ndarray:
    """A result - y in levels of 255; for denoising what was removed."""
    if scene.hole is not None:
        return result[~scene.hole].astype(float) - scene.truth[~scene.hole]
    if scene.task == "colorize":
        return result @ np.asarray((0.2989, 0.5870, 0.1140)) - luma_of(scene.image)
    if scene.name == "superres":
        p = scene.options["scale"]
        side = scene.image.shape[0]
        return result.reshape(side, p, side, p, 3).mean(axis=(1, 3)) - scene.image
    if scene.task == "deblur":
        blurred = blur_operator(kernel_of(result.shape[1]), *result.shape[:2]).A(
            tensor(result).double()
        )
        return picture(blurred[0]).astype(float) - scene.image
    return result.astype(float) - scene.image
