"""What `benchmarks edits` compares: the studio's edits, classical baselines, and published loops from their papers.

Published loops run on the same problem (operator, y, fill) as ours and are finished by clipping and rounding, as
published; only ours gets the exact finish.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from benchmarks.edit_loops import LOOPS
from lcm_studio.edits.finish import to_bytes
from lcm_studio.edits.holes import fill
from lcm_studio.edits.measured import blur_operator, luma_of
from lcm_studio.edits.prepare import picture, tensor
from lcm_studio.edits.registry import task_of
from lcm_studio.edits.seams import block_seam_score, seam_score
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.models.protocol import Prompt
from lcm_studio.sampling import SeededNoise
from lcm_studio.spec.events import Done, Failed
from lcm_studio.spec.requests import Edit

FIRST = 10**8 + 5000
SIGMA, KERNEL = 0.1, "gaussian:2.0"
CLASSICAL = ("aplus", "bicubic", "telea", "ns")
DIVERSITY_SCENES = 16


def fits(task: str, method: str) -> bool:
    """Whether a method is made for a task."""
    hole = task in ("inpaint", "outpaint")
    if method in ("telea", "ns", "latent-4", "blend-4", "repaint-100"):
        return hole
    return method != "bicubic" or task.startswith("superres")


class Scene:
    """A held-out picture, its caption, and what a task leaves of it."""

    def __init__(self, task: str, truth: np.ndarray, caption: str, seed: int) -> None:
        self.task, self.truth, self.caption, self.seed = task, truth, caption, seed
        self.hole: np.ndarray | None = None
        self.options: dict[str, Any] = {}
        self.name, self.image = task, truth
        side = truth.shape[0]
        rng = np.random.default_rng(seed)
        if task == "inpaint":
            self.hole = np.zeros((side, side), bool)
            y, x = rng.integers(12, side - 76, 2)
            self.hole[y : y + 64, x : x + 64] = True
        if task == "outpaint":
            self.hole = np.zeros((side, side), bool)
            self.hole[:, side - 40 :] = True
            self.image, self.options = truth[:, : side - 40].copy(), {"borders": (0, 0, 40, 0)}
        if task == "colorize":
            self.image = np.repeat(np.rint(luma_of(truth)).astype(np.uint8)[..., None], 3, axis=2)
        if task.startswith("superres"):
            p = int(task[8:])
            self.name, self.options = "superres", {"scale": p}
            self.image = cv2.resize(truth, (side // p, side // p), interpolation=cv2.INTER_AREA)
        if task == "denoise":
            self.image = to_bytes(
                truth + rng.normal(0, SIGMA * 255, truth.shape).astype(np.float32)
            )
            self.options = {"sigma": SIGMA}
        if task == "deblur":
            blurred = blur_operator(KERNEL, side, side).A(tensor(truth).double())
            self.image, self.options = to_bytes(picture(blurred[0])), {"kernel": KERNEL}

    def request(self, steps: int, seed: int, **more: Any) -> Edit:
        mask = None
        if self.task == "inpaint" and self.hole is not None:
            mask = np.where(self.hole, 255, 0).astype(np.uint8)
        options = {**self.options, **more}
        return Edit(
            task=self.name,
            image=self.image,
            mask=mask,
            options=options,
            prompt=self.caption,
            steps=steps,
            seed=seed,
        )


class Bench:
    """Models, features and scenes of a run."""

    def __init__(self, *, count: int, models: list[Path], features: Path) -> None:
        from lcm_studio.engine.engine import default_folders
        from training.evaluation.features import load_features
        from training.scenery.dataset import arrays

        self.engine = Engine(EngineConfig(models_dirs=(*models, *default_folders()), keep=3))
        self.features = load_features(features)
        self.truths, self.captions = arrays(range(FIRST, FIRST + count), 128)
        self.reference = self._features(
            arrays(range(FIRST + 10**6, FIRST + 10**6 + max(count, 200)), 128)[0]
        )

    def _features(self, images: np.ndarray) -> np.ndarray:
        found = []
        with torch.inference_mode():
            for start in range(0, len(images), 50):
                x = torch.from_numpy(np.ascontiguousarray(images[start : start + 50])).permute(
                    0, 3, 1, 2
                )
                found.append(self.features.embed(x.float() / 255).numpy())
        return np.concatenate(found)

    def cell(self, task: str, method: str) -> dict[str, Any]:
        """All figures of one (task, method)."""
        scenes = [
            Scene(task, t, c, FIRST + i)
            for i, (t, c) in enumerate(zip(self.truths, self.captions, strict=True))
        ]
        results, evaluations = [], 0.0
        started = time.perf_counter()
        for scene in scenes:
            made, evaluations = self.make(scene, method, scene.seed % 2**31)
            results.append(_reread(made))
        seconds = (time.perf_counter() - started) / len(scenes)
        out = self._figures(scenes, np.stack(results))
        if method not in CLASSICAL:
            out["diversity"] = self._diversity(scenes[:DIVERSITY_SCENES], method)
        return {
            "task": task,
            "method": method,
            "count": len(scenes),
            "evaluations": evaluations,
            "seconds": seconds,
            **out,
        }

    def make(self, scene: Scene, method: str, seed: int) -> tuple[np.ndarray, float]:
        """One result `(H, W, 3)` uint8 and its network evaluations."""
        if method in CLASSICAL:
            return classical(scene, method), 0
        name, _, steps = method.rpartition("-")
        if name in ("ours", "plain", "latent", "paste"):
            how = {
                "ours": {},
                "plain": {"method": "plain"},
                "latent": {"method": "latent"},
                "paste": {"method": "end"},
            }
            return self._ours(scene, int(steps), seed, how[name])
        return self._published(scene, name, int(steps), seed)

    def _ours(
        self, scene: Scene, steps: int, seed: int, more: dict[str, Any]
    ) -> tuple[np.ndarray, float]:
        for event in self.engine.run(scene.request(steps, seed, **more)):
            if isinstance(event, Failed):
                raise RuntimeError(event.message)
            if isinstance(event, Done):
                return event.images[0], event.timing["evaluations"]
        raise RuntimeError("the edit ended without a result")

    def _published(
        self, scene: Scene, name: str, steps: int, seed: int
    ) -> tuple[np.ndarray, float]:
        teacher = name in ("repaint", "ddnm")
        model = self.engine.model("scenery-teacher" if teacher else "scenery-lcm")
        request = scene.request(4, seed)
        build = task_of(request.task).build
        assert build is not None
        problem = build(request, model)  # type: ignore[arg-type]
        height, width = problem.start.shape[-2:]
        noise = SeededNoise((seed,), model.sample_shape(width, height))
        prompt = Prompt(text=scene.caption, width=width, height=height, consistency=not teacher)
        with torch.inference_mode():
            cond = model.embed((prompt,))
            made = LOOPS[name](model, problem, cond, noise, steps)
        crop = picture(made[0])[: scene.truth.shape[0], : scene.truth.shape[1]]
        out = to_bytes(crop)
        if scene.hole is not None and name == "repaint":
            out = np.where(scene.hole[..., None], out, scene.truth)
        return out, float(steps)

    def _figures(self, scenes: list[Scene], results: np.ndarray) -> dict[str, Any]:
        from training.evaluation.metrics import frechet, psnr, ssim

        truths = np.stack([s.truth for s in scenes])
        found, wanted = self._features(results), self._features(truths)
        a, b = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x in (results, truths))
        gaps = [known_gap(s, r) for s, r in zip(scenes, results, strict=True)]
        holes = [s.hole for s in scenes]
        out = {
            "known_max": float(max(np.abs(g).max() for g in gaps)),
            "known_rms": float(np.sqrt(np.mean([np.mean(g**2) for g in gaps]))),
            "psnr": float(psnr(a, b).mean()),
            "ssim": float(ssim(a, b).mean()),
            "feature": float(np.linalg.norm(found - wanted, axis=1).mean()),
            "frechet": frechet(found, self.reference),
        }
        if holes[0] is not None:
            errors = [
                ((r.astype(float) - s.truth)[s.hole] ** 2).mean()
                for s, r in zip(scenes, results, strict=True)
            ]
            out["psnr_hole"] = float(
                np.mean([10 * np.log10(255**2 / max(e, 1e-9)) for e in errors])
            )
            out["seam"] = _ratio(seam_score, scenes, results, holes)
        elif scenes[0].name == "superres":
            scales = [s.options["scale"] for s in scenes]
            out["seam"] = _ratio(block_seam_score, scenes, results, scales)
        return out

    def _diversity(self, scenes: list[Scene], method: str) -> float:
        """Mean distance of the features of four seeds, over a few scenes."""
        spreads = []
        for scene in scenes:
            four = self._features(
                np.stack([self.make(scene, method, scene.seed % 2**31 + k)[0] for k in range(4)])
            )
            gaps = [np.linalg.norm(four[i] - four[j]) for i in range(4) for j in range(i)]
            spreads.append(np.mean(gaps))
        return float(np.mean(spreads))


def _ratio(
    score: Callable[..., float], scenes: list[Scene], results: np.ndarray, where: list[Any]
) -> float:
    """Score of the results over that of the untouched pictures: 1 = like a real picture."""
    mine = np.nanmean([score(r, w) for r, w in zip(results, where, strict=True)])
    real = np.nanmean([score(s.truth, w) for s, w in zip(scenes, where, strict=True)])
    return float(mine / real)


def _reread(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return np.asarray(Image.open(buffer))


def known_gap(scene: Scene, result: np.ndarray) -> np.ndarray:
    """A result - y, in levels of 255; for denoising what was removed."""
    if scene.hole is not None:
        return result[~scene.hole].astype(float) - scene.truth[~scene.hole]
    if scene.task == "colorize":
        return result @ np.asarray((0.2989, 0.5870, 0.1140)) - luma_of(scene.image)
    if scene.name == "superres":
        p = scene.options["scale"]
        side = scene.image.shape[0]
        return result.reshape(side, p, side, p, 3).mean(axis=(1, 3)) - scene.image
    if scene.task == "deblur":
        blurred = blur_operator(KERNEL, *result.shape[:2]).A(tensor(result).double())
        return picture(blurred[0]).astype(float) - scene.image
    return result.astype(float) - scene.image


def classical(scene: Scene, method: str) -> np.ndarray:
    """No network: A+ y, bicubic, and OpenCV's inpainting (Telea 2004; Bertalmio et al. 2001)."""
    side = scene.truth.shape[0]
    if scene.hole is not None:
        holed = np.where(scene.hole[..., None], 0, scene.truth).astype(np.uint8)
        if method == "aplus":
            return to_bytes(fill(holed.astype(np.float32), scene.hole))
        kind = cv2.INPAINT_TELEA if method == "telea" else cv2.INPAINT_NS
        return cv2.inpaint(holed, scene.hole.astype(np.uint8), 3, kind)
    if scene.name == "superres":
        how = cv2.INTER_CUBIC if method == "bicubic" else cv2.INTER_NEAREST
        return cv2.resize(scene.image, (side, side), interpolation=how)
    if scene.task == "deblur":
        return to_bytes(
            picture(blur_operator(KERNEL, side, side).pinv(tensor(scene.image), 1e-3)[0])
        )
    if scene.task == "denoise":
        return cv2.fastNlMeansDenoisingColored(scene.image, None, 25, 25, 5, 15)
    return scene.image
