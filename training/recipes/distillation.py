"""What distillation in latents has in common: a guided teacher, its levels in steps of k, and its pictures."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from lcm_studio.maths.guidance import cfg_w
from lcm_studio.maths.parameterization import to_x0
from lcm_studio.maths.schedule import NoiseSchedule
from training.errors import TrainingFault
from training.networks import check_teacher, open_part
from training.objectives.latent import (
    Consistency,
    Solver,
    consistency_output,
    distance,
    guided_ddim,
)
from training.recipes.base import Draw
from training.recipes.latents import LatentRecipe, PromptedConfig, load_vae
from training.recipes.prompts import Conditions, Prompts, join, unet_arguments

if TYPE_CHECKING:
    from training.data.texts import CachedTexts


TEACHER_STEPS = 25  # of the teacher's own sampler, for its pictures


class DistillationConfig(PromptedConfig):
    """Fields that `lcd` and `lcm-lora` share."""

    teacher: str = Field("", description="folder of the teacher, a Stable Diffusion pipeline")
    ddim_steps: int = Field(50, ge=2, description="levels of the grid; saved with the model")
    w_min: float = Field(0.0, ge=0, description="least w; w = guidance scale - 1")
    w_max: float = Field(7.0, ge=0, description="greatest w")
    w_power: float = Field(
        1.0, gt=0, description="w = w_min + (w_max - w_min) u^w_power, u uniform"
    )
    guided_below: int = Field(
        1000,
        ge=1,
        description="the teacher is guided at timesteps below this one; more noise only goes by the prompt "
        "(Kynkaanniemi et al. 2024), which keeps pictures as different as the data's",
    )
    loss_type: Literal["huber", "l2"] = Field("huber", description="distance of two outputs")
    huber_c: float = Field(1e-3, gt=0, description="pseudo-Huber constant, in latents")
    timestep_scaling: float = Field(10.0, gt=0, description="of the boundary scalings")
    high_share: float = Field(
        0.0, ge=0, le=1, description="share of examples drawn from the upper fifth of the levels"
    )
    low_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of examples drawn from the lowest fifth of the levels, where the target is "
        "the teacher and not the student; with high_share at most 1",
    )
    proportion_empty_prompts: float = Field(0.0, ge=0, le=1, description="share without caption")

    @model_validator(mode="after")
    def _shares_are_parts_of_a_whole(self) -> DistillationConfig:
        if self.high_share + self.low_share > 1:
            raise ValueError(
                f"high_share={self.high_share} and low_share={self.low_share} are more than 1 "
                "together; lower one of them"
            )
        return self


class Distillation(LatentRecipe):
    """A teacher's folder, its noise levels in steps of k, and its guided ODE."""

    config: Any
    teacher: Any

    def open_teacher(self) -> Any:
        """VAE, prompts, schedule, data and the teacher's UNet, all frozen; returns the UNet."""
        c, root = self.config, Path(self.config.teacher)
        check_teacher(c.teacher)
        fields = json.loads((root / "scheduler" / "scheduler_config.json").read_text())
        self.scheduler: dict[str, Any] = fields
        self.schedule = NoiseSchedule.from_config(fields)
        if len(self.schedule) % c.ddim_steps:
            raise TrainingFault(
                "config",
                f"ddim_steps={c.ddim_steps} does not divide the {len(self.schedule)} levels of the "
                "schedule, so the grid would not end where inference starts; use 20, 25, 40 or 50",
            )
        self.skip = len(self.schedule) // c.ddim_steps
        unet = open_part(root, "unet")
        self.vae = load_vae(str(root / "vae"), self.device)
        self.prompts = Prompts(root, self.device)
        self.empty = self.prompts.empty()
        self.open_data(sized=self.prompts.xl)
        self.texts = self.open_texts()
        return self.placed(unet)

    def open_texts(self) -> Prompts | CachedTexts:
        """What gives embeddings of captions; encodes those of the run that the cache does not hold."""
        data = self.config.data
        if data.text == "online":
            return self.prompts
        from training.data.texts import CachedTexts

        texts = CachedTexts(self.prompts, Path(data.cache), limit_mb=data.text_cache_mb)
        lacking = texts.fill(
            self.every_caption(), lambda done: print(f"encoded {done} captions", flush=True)
        )
        if lacking:
            print(
                f"{lacking} captions are encoded in the step: text_cache_mb={data.text_cache_mb}, or "
                "half of the free disk, is less than they take",
                flush=True,
            )
        return texts

    def levels(self, n: int, g: torch.Generator) -> Tensor:
        """Noise levels t of `n` examples, int64, spread over the grid as the shares say."""
        c = self.config
        u = (torch.arange(n) + torch.rand(n, generator=g)) / n
        where = torch.rand(n, generator=g)
        u = torch.where(where < c.high_share, 0.8 + 0.2 * u, u)
        u = torch.where(where >= 1 - c.low_share, 0.2 * u, u)
        index = (u * c.ddim_steps).long().clamp(max=c.ddim_steps - 1)
        return index * self.skip + self.skip - 1

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        """Data z, noise, the levels t_{n+k} and t_n, omega and captions of Algorithm 1 (Luo et al. 2023)."""
        c, g = self.config, draw.generator
        z, sizes = self.sized_x0(draw)
        t_nk = self.levels(len(z), g)
        w = c.w_min + (c.w_max - c.w_min) * torch.rand(len(z), generator=g) ** c.w_power
        eps = torch.randn(z.shape, generator=g).to(z)
        texts = self.captions(draw, c.proportion_empty_prompts)
        return {
            "z": z,
            "eps": eps,
            "t_nk": t_nk.to(self.device),
            "t_n": (t_nk - self.skip).clamp(min=0).to(self.device),
            "w": w.to(self.device),
            **({"sizes": sizes} if self.prompts.xl else {}),
            **self.texts(texts),
        }

    def conditions(self, batch: dict[str, Tensor]) -> Conditions:
        """The text part of a batch."""
        return {k: batch[k] for k in ("context", "pooled") if k in batch}

    def arguments(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        """What the UNet is told of a batch beside x and t."""
        return unet_arguments(self.conditions(batch), self.config.resolution, batch.get("sizes"))

    def guided(self, unet: Any, batch: dict[str, Tensor], x: Tensor, t: Tensor) -> Any:
        """The teacher's predictions with and without the prompt, in one doubled call."""
        both = join(self.conditions(batch), self.empty)
        arguments = unet_arguments(both, self.config.resolution, batch.get("sizes"))
        return unet(torch.cat([x, x]), torch.cat([t, t]), **arguments).sample.chunk(2)

    def solver(self, unet: Any, batch: dict[str, Tensor]) -> Solver:
        """psi(z_t, t, s): one DDIM step of the guided teacher, with omega and captions of a batch."""

        def psi(z_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
            predict = partial(self.guided, unet, batch)
            return guided_ddim(predict, z_t, t, s, self.w_at(batch["w"], t), self.schedule)

        return psi

    def guided_x0(self, unet: Any, batch: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
        """x_0 (B, C, h, w) of the guided teacher, cond + w (cond - uncond), in the dtype of x."""
        kind = self.schedule.prediction_type
        cond, uncond = self.guided(unet, batch, x, t)
        alpha, sigma = self.schedule.alpha_sigma(t, x)
        return cfg_w(
            to_x0(uncond.to(x.dtype), x, alpha, sigma, kind),
            to_x0(cond.to(x.dtype), x, alpha, sigma, kind),
            self.w_at(batch["w"], t).to(x).reshape(-1, 1, 1, 1),
        )

    def w_at(self, w: Tensor, t: Tensor) -> Tensor:
        """w (B,) of the teacher at timesteps t (B,): 0 from `guided_below` on."""
        return torch.where(t < self.config.guided_below, w, 0.0)

    def consistency(self, unet: Any, batch: dict[str, Tensor], **more: Any) -> Consistency:
        """f(z_t, omega, c, t) of a UNet, with omega and captions of a batch; `more`: arguments of the UNet."""
        arguments = {**self.arguments(batch), **more}

        def f(z_t: Tensor, t: Tensor) -> Tensor:
            return consistency_output(
                lambda x, t: unet(x, t, **arguments).sample,
                z_t,
                t,
                self.schedule,
                timestep_scaling=self.config.timestep_scaling,
            )

        return f

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """d of each example, (B,)."""
        return distance(a, b, kind=self.config.loss_type, c=self.config.huber_c)

    def lcm_scheduler(self) -> Any:
        """LCMScheduler on the teacher's noise levels; the grid is in its config."""
        from diffusers import LCMScheduler

        wanted = (
            "beta_start",
            "beta_end",
            "beta_schedule",
            "prediction_type",
            "trained_betas",
            "rescale_betas_zero_snr",
        )
        return LCMScheduler(
            num_train_timesteps=len(self.schedule),
            clip_sample=False,
            set_alpha_to_one=False,
            original_inference_steps=self.config.ddim_steps,
            timestep_scaling=self.config.timestep_scaling,
            **{k: self.scheduler[k] for k in wanted if k in self.scheduler},
        )

    def make_pipeline(self, unet: Any, *, guided: bool) -> Any:
        """`guided`: w goes into the network (LCM); else classifier-free guidance (LoRA), or SDXL."""
        import diffusers

        parts = {"vae": self.vae, "unet": unet, "scheduler": self.lcm_scheduler()}
        for i, suffix in enumerate(("", "_2")[: len(self.prompts.encoders)]):
            parts[f"text_encoder{suffix}"] = self.prompts.encoders[i]
            parts[f"tokenizer{suffix}"] = self.prompts.tokenizers[i]
        if self.prompts.xl:
            zero = self.prompts.zero_empty
            return diffusers.StableDiffusionXLPipeline(**parts, force_zeros_for_empty_prompt=zero)
        name = "LatentConsistencyModelPipeline" if guided else "StableDiffusionPipeline"
        return getattr(diffusers, name)(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )

    def draw_sheet(self, pipe: Any, path: Path, guidance: float) -> None:
        """Fixed prompts and seeds at 1, 2 and 4 steps."""
        from training.progress.sheets import sheet

        sheet(pipe, self.sheet_prompts(), path, steps=(1, 2, 4), guidance=guidance)

    def teacher_pipeline(self) -> Any:
        """The teacher with the sampler of its folder."""
        import diffusers

        unet, name = self.teacher, self.scheduler.get("_class_name", "DDIMScheduler")
        pipe = self.make_pipeline(unet, guided=False)
        pipe.scheduler = getattr(diffusers, name).from_config(self.scheduler)
        return pipe

    def draw_teacher(self, path: Path) -> None:
        """Guided as the student's pictures are, or at the middle of w where it is given no w."""
        from training.progress.sheets import sheet

        c = self.config
        guidance = c.validation_guidance
        if guidance <= 1:
            guidance = 1 + (c.w_min + c.w_max) / 2
        pipe = self.teacher_pipeline()
        sheet(pipe, self.sheet_prompts(), path, steps=(TEACHER_STEPS,), guidance=guidance)
