"""What `benchmarks edits` compares: the studio's edits, classical baselines, and published loops from their papers.

Published loops run on the same problem (operator, y, start) as ours and are finished by clipping and rounding, as
published; only ours gets the exact finish.
"""

from __future__ import annotations

import io
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from benchmarks.edit_batch import together
from benchmarks.edit_loops import LOOPS, TEACHER_LOOPS
from benchmarks.edit_scenes import EDITION, FIRST, SIGMA, Scene, kernel_of, known_gap
from lcm_studio.edits.blurs import blur_operator
from lcm_studio.edits.finish import to_bytes
from lcm_studio.edits.hole import fill
from lcm_studio.edits.loop import Projection, solve
from lcm_studio.edits.pixels import picture, tensor
from lcm_studio.edits.seams import block_seam_score, seam_score
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.engine.session import build, conditioned, session
from lcm_studio.models.protocol import Prompt
from lcm_studio.sampling import Encode, SeededNoise, Steps, plan
from lcm_studio.spec.requests import Edit

Array = np.ndarray
CLASSICAL = ("aplus", "bicubic", "telea", "ns")
OURS = ("ours", "residual", "latent", "paste")
METHODS = (
    *("aplus", "bicubic", "telea", "ns", "ours-4", "ours-8", "paste-4", "blend-4", "alg4-4"),
    *("cm4ir-4", "latino-8", "residual-4", "latent-4", "repaint-100", "ddnm-100"),
)
HOLE_ONLY = ("telea", "ns", "latent", "blend", "repaint")
RESIDUAL_TASKS = ("inpaint", "colorize", "superres4")  # of the ablation that encodes twice a level
SEEDS = 4


def steps_of(method: str) -> int:
    """Network evaluations in a method's name; 0 for classical ones."""
    return int(method.rpartition("-")[2]) if "-" in method else 0


def fits(task: str, method: str) -> bool:
    """Whether a method is made for a task.

    CM4IR and LATINO were published for holes, superres and deblurring; Algorithm 4 has no noisy y.
    """
    name = method.partition("-")[0]
    if name in HOLE_ONLY:
        return task in ("inpaint", "outpaint")
    if name == "bicubic":
        return task.startswith("superres")
    if name == "residual":
        return task in RESIDUAL_TASKS
    if name in ("cm4ir", "latino"):
        return task not in ("colorize", "denoise")
    return not (task == "denoise" and name == "alg4")


class Residual(Projection):
    """An ablation: what the autoencoder loses is measured at every level, z0 + E(u') - E(u), at twice the encodings."""

    def encoded(self, z0: torch.Tensor, u: torch.Tensor, projected: torch.Tensor) -> Steps:
        after, before = (yield Encode(torch.cat([projected, u]))).chunk(2)
        kept: torch.Tensor = after + (z0 - before)
        return kept


class Paste(Projection):
    """An ablation: nothing is projected before the end."""

    projects = False


HOOKS: dict[str, type[Projection]] = {"residual": Residual, "paste": Paste}


def ablated(
    request: Edit, model: Any, seed: int, hook: type[Projection]
) -> Generator[Any, Any, Array]:
    """An edit by another projection, finished as ours."""
    problem = build(request, model)
    height, width = problem.size
    planned = plan(request, model, width, height)
    cond, lead = yield from conditioned(problem, planned, request.prompt)
    noise = SeededNoise((seed,), planned.shape)
    decoded = yield from solve(problem, model, cond, noise, lead, hook=hook)
    return problem.finish(decoded, lambda share: None)[0][0]


class Bench:
    """Models and features of a run; scenes are rendered as they are needed.

    `models`: folders that are looked in before the bundled one. `student`: the model whose edits are measured.
    """

    def __init__(
        self, *, models: Sequence[Path] = (), features: Path, student: str = "scenery-lcm"
    ) -> None:
        from lcm_studio.engine.config import default_folders
        from training.scenery.evaluation.features import load_features

        self.engine = Engine(EngineConfig(models_dirs=(*models, *default_folders()), keep=3))
        self.student = student
        self.features = load_features(features)
        self._truths: dict[int, tuple[Array, str]] = {}
        self._embedded: dict[int, Array] = {}

    def scenes(self, task: str, indices: Sequence[int]) -> list[Scene]:
        """The held-out scenes of these numbers, as `task` sees them."""
        from training.scenery.dataset import arrays

        missing = [i for i in indices if i not in self._truths]
        side = self.engine.info(self.student).width
        images, captions = arrays([FIRST + i for i in missing], side, edition=EDITION)
        self._truths |= {i: (t, c) for i, t, c in zip(missing, images, captions, strict=True)}
        return [Scene(task, *self._truths[i], FIRST + i) for i in indices]

    def embed(self, images: Array) -> Array:
        """Features `(N, D)` of pictures `(N, H, W, 3)` uint8."""
        found = []
        for start in range(0, len(images), 16):
            x = torch.from_numpy(np.ascontiguousarray(images[start : start + 16]))
            found.append(self.features.embed(x.permute(0, 3, 1, 2).float() / 255).numpy())
        return np.concatenate(found)

    def truths(self, scenes: Sequence[Scene]) -> Array:
        """Features `(N, D)` of the untouched pictures, taken once."""
        missing = {s.seed: s.truth for s in scenes if s.seed not in self._embedded}
        if missing:
            features = self.embed(np.stack(list(missing.values())))
            self._embedded |= dict(zip(missing, features, strict=True))
        return np.stack([self._embedded[s.seed] for s in scenes])

    def make(
        self,
        scenes: Sequence[Scene],
        method: str,
        offset: int = 0,
        guidance: float | None = None,
        **more: Any,
    ) -> tuple[Array, float]:
        """Results `(N, H, W, 3)` uint8 and evaluations per picture; `offset` is added to each scene's seed.

        `guidance` and `more` settings of ours take the place of the model's own.
        """
        if method in CLASSICAL:
            return np.stack([classical(s, method) for s in scenes]), 0
        name, steps = method.partition("-")[0], steps_of(method)
        teacher = name in TEACHER_LOOPS
        model = self.engine.model("scenery-teacher" if teacher else self.student)

        def one(scene: Scene) -> Generator[Any, Any, Array]:
            seed = (scene.seed + offset) % 2**31
            if name in HOOKS:
                return (yield from ablated(scene.request(steps, seed), model, seed, HOOKS[name]))
            if name in OURS:
                options = {"method": "latent"} if name == "latent" else {}
                request = replace(scene.request(steps, seed, **options, **more), guidance=guidance)
                outcome = yield from session(request, model, (seed,), 1)
                return outcome.images[0]
            return (yield from _published(scene, name, steps, seed, model))

        made, evaluations = together(model, (one(s) for s in scenes))
        return np.stack([_reread(m) for m in made]), float(np.mean(evaluations))

    def load(self, method: str) -> None:
        """Loads a method's model, so that no cell pays for it."""
        if method not in CLASSICAL:
            teacher = method.partition("-")[0] in TEACHER_LOOPS
            self.engine.model("scenery-teacher" if teacher else self.student)

    def cell(
        self, task: str, method: str, indices: Sequence[int], seeded: Sequence[int] = ()
    ) -> dict[str, Array]:
        """Figures per picture of one (task, method), as arrays of one row per scene of `indices`.

        Those of them in `seeded` are made with four seeds, for the diversity.
        """
        scenes = self.scenes(task, indices)
        self.load(method)
        started = time.process_time()
        results, evaluations = self.make(scenes, method)
        seconds = (time.process_time() - started) / len(scenes)
        out = self._figures(scenes, results)
        out |= {
            "index": np.asarray(indices),
            "seconds": np.full(len(scenes), seconds),
            "evaluations": np.full(len(scenes), evaluations),
        }
        if method not in CLASSICAL and len(seeded):
            rows = [list(indices).index(i) for i in seeded]
            first = out["features"][rows]
            out["diversity"] = self._diversity([scenes[r] for r in rows], method, first)
        return out

    def _figures(self, scenes: Sequence[Scene], results: Array) -> dict[str, Array]:
        from training.metrics import psnr, ssim

        truths = np.stack([s.truth for s in scenes])
        a, b = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x in (results, truths))
        gaps = [known_gap(s, r) for s, r in zip(scenes, results, strict=True)]
        pairs = [_seams(s, r) for s, r in zip(scenes, results, strict=True)]
        out = {
            "features": self.embed(results),
            "truths": self.truths(scenes),
            "known_max": np.asarray([np.abs(g).max() for g in gaps]),
            "known_square": np.asarray([(g**2).mean() for g in gaps]),
            "psnr": np.minimum(psnr(a, b).numpy(), 99.0),
            "ssim": ssim(a, b).numpy(),
            "seam": np.asarray([p[0] for p in pairs]),
            "seam_real": np.asarray([p[1] for p in pairs]),
        }
        if scenes[0].hole is not None:
            errors = [
                ((r.astype(float) - s.truth)[s.hole] ** 2).mean()
                for s, r in zip(scenes, results, strict=True)
            ]
            out["psnr_hole"] = 10 * np.log10(255**2 / np.maximum(errors, 1e-9))
        return out

    def _diversity(self, scenes: Sequence[Scene], method: str, first: Array) -> Array:
        """Mean distance of the features of four seeds, per scene; `first` are those of the first seed."""
        # scenes' own seeds are neighbours, so offsets are far apart
        more = [self.embed(self.make(scenes, method, 10**6 * k)[0]) for k in range(1, SEEDS)]
        four = [first, *more]
        gaps = [np.linalg.norm(four[i] - four[j], axis=1) for i in range(SEEDS) for j in range(i)]
        return np.mean(gaps, axis=0)


def _published(
    scene: Scene, name: str, steps: int, seed: int, model: Any
) -> Generator[Any, Any, Array]:
    problem = build(scene.request(4, seed), model)
    height, width = problem.size
    noise = SeededNoise((seed,), model.sample_shape(width, height))
    prompt = Prompt(
        text=scene.caption,
        guidance=model.info.guidance_for(scene.name),
        width=width,
        height=height,
        kind="plain" if name in TEACHER_LOOPS else "",
    )
    more: dict[str, Any] = {}
    if name == "ddnm":
        more["sigma_y"] = 2 * SIGMA if scene.task == "denoise" else 0.0
    if name == "cm4ir":
        more["task"] = scene.task
    cond = model.embed((prompt,))
    made = yield from LOOPS[name](model, problem, cond, noise, steps, **more)
    return to_bytes(picture(made[0])[: scene.truth.shape[0], : scene.truth.shape[1]])


def _seams(scene: Scene, result: Array) -> tuple[float, float]:
    """Seam score of the result and of the untouched picture; NaN where the task has no seams."""
    if scene.hole is not None:
        return seam_score(result, scene.hole), seam_score(scene.truth, scene.hole)
    if scene.name == "superres":
        p = scene.options["scale"]
        return block_seam_score(result, p), block_seam_score(scene.truth, p)
    return float("nan"), float("nan")


def _reread(pixels: Array) -> Array:
    """The picture as a PNG file gives it back."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return np.asarray(Image.open(buffer))


def classical(scene: Scene, method: str) -> Array:
    """No network. Holes: OpenCV's inpainting of radius 3 (Telea 2004; Bertalmio et al. 2001); 4x and so on: bicubic.

    "aplus" is the simplest answer with the known part: A+ y for superres (each sample enlarged) and deblur (damped by
    1e-3), grey for colours, the smooth continuation for holes; for denoising, non-local means (Buades et al. 2005).
    """
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
        operator = blur_operator(kernel_of(side), side, side)
        return to_bytes(picture(operator.pinv(tensor(scene.image), 1e-3)[0]))
    if scene.task == "denoise":
        return cv2.fastNlMeansDenoisingColored(scene.image, None, 25, 25, 5, 15)
    return scene.image
