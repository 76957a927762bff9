"""Cells of the evaluation table: which model, which sampler, how many steps; and their pictures."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lcm_studio.maths.grids import lcm_timesteps

LCM_STEPS = (1, 2, 4, 8)
PIXEL_STEPS = (1, 2, 4)
TEACHER_STEPS = (1, 2, 4, 8)
LONG_STEPS = 50


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One way to make pictures."""

    name: str
    source: str  # "model", "teacher", "real" or "autoencoder"
    sampler: str  # "lcm", "ddim", "dpm++" or "none"
    steps: int

    def evaluations(self, guidance: float, start: float = 0.0) -> int:
        """Network evaluations for one picture; guidance by two predictions doubles those after `start` of the way.

        With trailing timesteps; with others it may be one more or less.
        """
        if self.source != "teacher" or guidance <= 1:
            return self.steps
        return 2 * self.steps - math.ceil(start * self.steps)


def table_cells(*, model: bool, teacher: bool, pixels: bool = False) -> list[Cell]:
    """The rows of the table, for what is at hand; `pixels`: the model is a pixel-space one."""
    cells = [Cell(name="real scenes", source="real", sampler="none", steps=0)]
    if pixels:
        return cells + [
            Cell(name=f"CM-{k}", source="model", sampler="cm", steps=k) for k in PIXEL_STEPS
        ]
    if model or teacher:
        cells.append(Cell(name="autoencoder", source="autoencoder", sampler="none", steps=0))
    if model:
        cells += [Cell(name=f"LCM-{k}", source="model", sampler="lcm", steps=k) for k in LCM_STEPS]
    if teacher:
        for label, sampler in (("DDIM", "ddim"), ("DPM++", "dpm++")):
            cells += [
                Cell(name=f"{label}-{k}", source="teacher", sampler=sampler, steps=k)
                for k in TEACHER_STEPS
            ]
        cells.append(
            Cell(name=f"DDIM-{LONG_STEPS}", source="teacher", sampler="ddim", steps=LONG_STEPS)
        )
    return cells


def load_pipeline(folder: str | Path, device: str = "cpu") -> Any:
    """A diffusers folder as whatever stock pipeline its model_index.json names, in float32."""
    from diffusers import DiffusionPipeline

    path = Path(folder)
    if not (path / "model_index.json").is_file():
        raise FileNotFoundError(
            f"{path} holds no model_index.json; give the folder of a diffusers pipeline"
        )
    pipe = DiffusionPipeline.from_pretrained(str(path), torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def in_pixels(pipe: Any) -> bool:
    """Whether a pipeline has no autoencoder and no words: a ConsistencyModelPipeline."""
    return getattr(pipe, "vae", None) is None


def picture_side(pipe: Any) -> int:
    """Side in pixels of the pictures that a pipeline makes by default."""
    side = int(pipe.unet.config.sample_size)
    return side if in_pixels(pipe) else side * int(pipe.vae_scale_factor)


def use_sampler(pipe: Any, sampler: str, spacing: str) -> None:
    """Gives a teacher the stock DDIM or DPM-Solver++ (2M) scheduler over its own noise schedule.

    `spacing` is diffusers' timestep_spacing. "trailing" starts at the last, noisiest timestep
    (Lin et al. 2023, table 2), which makes the teacher's few-step samplers as strong as they get.
    """
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    kept = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type",
            "trained_betas", "rescale_betas_zero_snr")  # fmt: skip
    config = {key: pipe.scheduler.config[key] for key in kept if key in pipe.scheduler.config}
    if sampler == "ddim":
        pipe.scheduler = DDIMScheduler(
            **config, clip_sample=False, set_alpha_to_one=False, timestep_spacing=spacing
        )
    elif sampler == "dpm++":
        pipe.scheduler = DPMSolverMultistepScheduler(
            **config, algorithm_type="dpmsolver++", timestep_spacing=spacing
        )
    else:
        raise ValueError(f"sampler={sampler!r} is unknown; use 'ddim' or 'dpm++'")


def sample(
    pipe: Any,
    captions: Sequence[str],
    *,
    steps: int,
    guidance: float,
    seed: int,
    batch: int,
    shift: float = 1.0,
    eta: float = 1.0,
) -> Iterator[Tensor]:
    """Batches of pictures (B, 3, H, W) in [0, 1], one for each caption.

    Picture i starts from the noise of `seed + i` whatever the batch, so cells share their noise. `shift`: of an LCM's
    timesteps (`lcm_studio.maths.grids.lcm_timesteps`). `eta`: an LCM's share of fresh noise; 1 = as stock.
    """
    if eta != 1:
        if in_pixels(pipe):
            raise ValueError(f"eta={eta}: pixel models are measured with fresh noise alone; use 1")
        from training.scenery.evaluation.partly_fresh import PartlyFresh

        pipe.scheduler = PartlyFresh.from_config(pipe.scheduler.config)
        pipe.scheduler.eta = eta
    taken = steps_told(pipe.scheduler, steps, shift)
    for start in range(0, len(captions), batch):
        chosen = list(captions[start : start + batch])
        generators = [
            torch.Generator("cpu").manual_seed(seed + start + i) for i in range(len(chosen))
        ]
        told: dict[str, Any] = {"prompt": chosen, "guidance_scale": guidance}
        if in_pixels(pipe):
            told = {"batch_size": len(chosen), "class_labels": _classes(pipe, chosen)}
        latents = pipe(
            **told,
            **taken,
            generator=generators,
            output_type="pt" if in_pixels(pipe) else "latent",
        ).images
        yield latents.float().cpu() if in_pixels(pipe) else decode(pipe, latents)


def steps_told(scheduler: Any, steps: int, shift: float = 1.0) -> dict[str, Any]:
    """What a stock pipeline is told of its steps; timesteps where the model's `shift` moves those of an LCM."""
    if shift == 1:
        return {"num_inference_steps": steps}
    config = scheduler.config
    grid = config.original_inference_steps, config.num_train_timesteps
    return {"timesteps": lcm_timesteps(steps, *grid, shift=shift)}


@torch.no_grad()
def decode(pipe: Any, latents: Tensor) -> Tensor:
    """Scaled latents (B, C, h, w) as pictures (B, 3, H, W) in [0, 1].

    Not by the pipeline itself: diffusers' StableDiffusionPipeline hands its decoder a `generator`, which AutoencoderDC does
    not take.
    """
    vae = pipe.vae
    pictures = vae.decode(latents / vae.config.scaling_factor).sample
    return (pictures / 2 + 0.5).clamp(0, 1).float().cpu()


def _classes(pipe: Any, times: Sequence[str]) -> list[int] | None:
    """Classes of times of day, as `training.scenery.source` numbers them; None for a model without."""
    from training.scenery.scene import TIMES

    return [TIMES.index(time) for time in times] if pipe.unet.config.num_class_embeds else None


@torch.no_grad()
def reconstruct(pipe: Any, images: np.ndarray, batch: int) -> Iterator[Tensor]:
    """Pictures (N, H, W, 3) uint8 through the autoencoder and back, (B, 3, H, W) in [0, 1]."""
    vae = pipe.vae
    for x in as_tensors(images, batch):
        code = vae.encode((x * 2 - 1).to(vae.device))
        if hasattr(code, "latent_dist"):
            latents = code.latent_dist.mode()  # AutoencoderKL
        else:
            latents = code.latents if hasattr(code, "latents") else code.latent  # Tiny, DC
        yield (vae.decode(latents).sample / 2 + 0.5).clamp(0, 1).float().cpu()


def as_tensors(images: np.ndarray, batch: int) -> Iterator[Tensor]:
    """Pictures (N, H, W, 3) uint8 as batches (B, 3, H, W) float32 in [0, 1]."""
    for start in range(0, len(images), batch):
        yield torch.from_numpy(images[start : start + batch]).permute(0, 3, 1, 2).float() / 255


def fingerprint(folder: str | Path) -> str:
    """Hash of every weight and configuration file under a model folder."""
    total = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*")):
        if path.suffix in (".safetensors", ".json", ".bin") and path.is_file():
            total.update(str(path.relative_to(folder)).encode())
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    total.update(chunk)
    return total.hexdigest()


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What is kept of a cell: features (N, D), the first pictures (M, H, W, 3), mean power of fine detail, sampling time."""

    features: np.ndarray
    samples: np.ndarray
    detail: float
    seconds: float


def cached(
    folder: Path, cell: Cell, settings: dict[str, Any], make: Callable[[], CellResult]
) -> CellResult:
    """The cell's result from `folder` if the same settings made it before, else made and kept."""
    text = json.dumps({"cell": asdict(cell), "version": 2, **settings}, sort_keys=True)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.npz"
    if path.is_file():
        with np.load(path) as kept:
            return CellResult(
                features=kept["features"],
                samples=kept["samples"],
                detail=float(kept["detail"]),
                seconds=float(kept["seconds"]),
            )
    result = make()
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, **asdict(result))
    part.replace(path)
    return result
