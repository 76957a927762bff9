"""`dmd`: a few-step student by distribution matching (Yin et al. 2024; DMD2, Yin et al. 2024b)."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from lcm_studio.maths.grids import lcm_timesteps
from lcm_studio.maths.parameterization import partly_fresh, to_x0
from training.config import TrainConfig
from training.objectives.critic import CRITIC_SHARE, frozen, hinge, pulled
from training.objectives.diffusion import diffusion_loss
from training.objectives.distribution import distribution_loss
from training.objectives.judge import Judge, watched
from training.recipes.base import Draw
from training.recipes.latents import posterior
from training.recipes.students import StudentConfig, Students, part, student_of

NOISE = (0.02, 0.98)  # least and greatest noise level of the gradient, as shares of the schedule
MIN_SNR = 5.0  # of the loss of the student's diffusion model


class DistributionMatchingConfig(StudentConfig):
    """Fields of the dmd recipe."""

    sampler_steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 2, 4),
        min_length=1,
        description="numbers of steps that the student is trained for, all to the same extent",
    )
    shift: float = Field(1.0, gt=0, le=100, description="shift of the levels of these steps")
    eta: float = Field(
        1.0, ge=0, le=1, description="share of fresh noise between these steps; 1: all of it"
    )
    fake_rate: float = Field(
        4.0,
        gt=0,
        description="learning rate of the diffusion model of the student's pictures / the student's",
    )
    fake_warmup: int = Field(
        100,
        ge=0,
        description="steps at the start in which that model learns alone; the student stands still",
    )
    keep_share: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="share of the examples, noised pictures of the data, that hold the student at levels below those of "
        "its samplers to what it said at the start: edits pass there",
    )
    adversarial_weight: float = Field(
        0.0,
        ge=0,
        description="pull of a judge that tells the student's pictures from those of the data, as a share of the pull "
        "of distribution matching; 0: none",
    )
    judge_rate: float = Field(
        40.0, gt=0, description="learning rate of the judge's heads / the student's"
    )

    @property
    def reads_pictures(self) -> bool:
        """Whether pictures are read beside captions."""
        return bool(self.keep_share or self.adversarial_weight)

    @model_validator(mode="after")
    def _steps_fit_the_grid(self) -> DistributionMatchingConfig:
        if max(self.sampler_steps) > self.ddim_steps:
            raise ValueError(
                f"sampler_steps={list(self.sampler_steps)} has more than ddim_steps={self.ddim_steps} levels; "
                "lower the one or raise the other"
            )
        return self

    @model_validator(mode="after")
    def _judges_are_whole(self) -> DistributionMatchingConfig:
        if self.adversarial_weight and self.sharding == "full":
            raise ValueError(
                f"adversarial_weight={self.adversarial_weight} needs a judge, which cannot be split as "
                "sharding=full asks; set one of them to its default"
            )
        return self


class DistributionMatching(Students):
    """A student, and beside it a diffusion model of what the student makes; the teacher is frozen.

    An example is one step of the student's own sampler: the steps before it are made without gradients (the
    "backward simulation" of DMD2), so that training sees what sampling does. Below the levels of the samplers nothing
    of that is seen: there a share of the examples keeps the consistency function of the start.
    """

    name: ClassVar[str] = "dmd"
    Config: ClassVar[type[TrainConfig]] = DistributionMatchingConfig
    config: DistributionMatchingConfig

    def build(self) -> dict[str, nn.Module]:
        self.teacher = self.open_teacher()
        self.student = self.open_student()
        self.before = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.fake = self.placed(student_of(self.teacher, self.config.time_cond_proj_dim))
        self.chains = [
            lcm_timesteps(n, self.config.ddim_steps, len(self.schedule), shift=self.config.shift)
            for n in self.config.sampler_steps
        ]
        lowest = min(min(chain) for chain in self.chains)
        self.kept_levels = (lowest + 1) // self.skip - 1  # of the grid, below those of the samplers
        networks = {"unet": self.student, "fake": self.fake}
        if self.config.adversarial_weight:
            self.judge = Judge(self.fake.config.block_out_channels).to(self.device)
            networks["judge"] = self.judge
        return networks

    def open_data(self, *, sized: bool = False) -> None:
        """Source and latents; where no picture of the data is wanted, the source for its captions."""
        if self.config.reads_pictures:
            super().open_data(sized=sized)
            self.latent_shape = tuple(self.latents.shape[1:])
            return
        from diffusers import AutoencoderKL

        self.open_source()
        side = self.config.resolution
        with torch.no_grad():
            blank = posterior(self.vae, torch.zeros(1, 3, side, side, device=self.device))
        spread = isinstance(self.vae, AutoencoderKL)
        self.latent_shape = tuple((blank.chunk(2, 1)[0] if spread else blank).shape[1:])

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        """Captions, w, and all noise and levels of a step; `keep_...`: the rows that keep what was there.

        Row i is a step of one of the samplers; rows that come later in theirs stand first. `from_k`, `to_k` and
        `fresh_k` are the level, the next level and the fresh noise of simulated step k of the rows that have it.
        """
        c, g = self.config, draw.generator
        n = len(draw.examples)
        kept = min(n - 1, round(c.keep_share * n)) if self.kept_levels else 0
        n -= kept
        shape = (n, *self.latent_shape)
        turns = [(chain, k) for chain in self.chains for k in range(len(chain))]
        mine = [turns[(draw.step + i * len(turns) // n) % len(turns)] for i in range(n)]
        mine.sort(key=lambda turn: -turn[1])
        w = c.w_min + (c.w_max - c.w_min) * torch.rand(n, generator=g) ** c.w_power
        batch = {
            "x": torch.randn(shape, generator=g),
            "t": torch.tensor([chain[k] for chain, k in mine]),
            "w": w,
            "eps": torch.randn(shape, generator=g),
            "noise_t": self.noise_levels(n, g),
            "fake_eps": torch.randn(shape, generator=g),
            "fake_t": self.noise_levels(n, g, whole=True),
            "pull": torch.tensor(float(draw.step >= c.fake_warmup)),
        }
        for k in range(max(stop for _, stop in mine)):
            steps = [tuple(pairwise(chain))[k] for chain, stop in mine if stop > k]
            batch[f"from_{k}"], batch[f"to_{k}"] = torch.tensor(steps).unbind(1)
            batch[f"fresh_{k}"] = torch.randn((len(steps), *shape[1:]), generator=g)
        batch = {
            name: self.laid_out(v) if v.ndim == 4 else v.to(self.device)
            for name, v in batch.items()
        }
        batch |= self.texts([self.source.caption(*example) for example in draw.examples[:n]])
        if self.prompts.xl:
            size = c.resolution
            batch["sizes"] = torch.tensor([[size, size, 0, 0]]).to(w).repeat(n, 1).to(self.device)
        if kept:
            batch |= self.kept_rows(replace(draw, examples=draw.examples[n:]))
        if c.adversarial_weight:
            batch["real"] = self.x0(replace(draw, examples=draw.examples[:n]))
        return batch

    def kept_rows(self, draw: Draw) -> dict[str, Tensor]:
        """Noised pictures of the data at levels below those of the samplers, and what the student made of them at the start."""
        c, g, n = self.config, draw.generator, len(draw.examples)
        z, sizes = self.sized_x0(draw)
        u = (torch.arange(n) + torch.rand(n, generator=g)) / n
        t = (u * self.kept_levels).long() * self.skip + self.skip - 1
        w = c.w_min + (c.w_max - c.w_min) * torch.rand(n, generator=g) ** c.w_power
        rows = {
            "x": self.schedule.add_noise(
                z, torch.randn(z.shape, generator=g).to(z), t.to(z.device)
            ),
            "t": t.to(self.device),
            "w": w.to(self.device),
            **({"sizes": sizes} if self.prompts.xl else {}),
            **self.texts([self.source.caption(*example) for example in draw.examples]),
        }
        with self.autocast():
            rows["end"] = self.f(self.before, rows)(rows["x"], rows["t"])
        return {f"keep_{name}": value for name, value in rows.items()}

    def noise_levels(self, n: int, g: torch.Generator, *, whole: bool = False) -> Tensor:
        """One timestep of each of n equal parts of the levels in NOISE, or of all, in any order; int64 (n,)."""
        low, high = (0.0, 1.0) if whole else NOISE
        u = (torch.randperm(n, generator=g) + torch.rand(n, generator=g, dtype=torch.float64)) / n
        return ((low + (high - low) * u) * len(self.schedule)).long()

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The student's loss, and beside it that of the diffusion model of its pictures."""
        c, t = self.config, batch["noise_t"]
        estimate = self.f(self.student, batch)(self.simulated(batch), batch["t"])
        shown = estimate.detach()
        x_t = self.schedule.add_noise(shown, batch["eps"], t)
        with torch.no_grad():
            real = self.guided_x0(self.teacher, batch, x_t, t)
        if c.adversarial_weight:
            noised = self.schedule.add_noise(estimate, batch["eps"], t)
            with watched(self.fake) as features:
                said = frozen(self.fake, noised, t, **self.told(batch)).sample.detach()
            scores = frozen(self.judge, features)
        else:
            with torch.no_grad():
                said = self.fake(x_t, t, **self.told(batch)).sample
        fake = self.x0_of(said, x_t, t)
        student = distribution_loss(estimate, real, fake).mean()
        if c.adversarial_weight:
            student = pulled(student, scores, [estimate], c.adversarial_weight)
        self.figures = {"apart": (real - fake).abs().mean()}
        own = self.own_loss(batch, shown)
        if keep := part("keep_", batch):
            f = self.f(self.student, keep)(keep["x"], keep["t"])
            kept = self.distance(f, keep["end"]).mean()
            self.figures["keep_loss"] = kept.detach()
            student = student + kept
        return batch["pull"] * student + own

    @torch.no_grad()
    def simulated(self, batch: dict[str, Tensor]) -> Tensor:
        """Where each row's sampler comes to before the step that is trained, (B, C, h, w)."""
        x, k, eta = batch["x"], 0, self.config.eta
        while f"fresh_{k}" in batch:
            z, before, after = (batch[f"{name}_{k}"] for name in ("fresh", "from", "to"))
            rows = {name: value[: len(z)] for name, value in batch.items() if value.ndim}
            here = x[: len(z)]
            estimate = self.f(self.student, rows)(here, before)
            z = partly_fresh(here, estimate, *self.schedule.alpha_sigma(before, here), z, eta)
            x = torch.cat([self.schedule.add_noise(estimate, z, after), x[len(z) :]])
            k += 1
        return self.laid_out(x)

    def told(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        """What the student and its diffusion model are told beside x and t."""
        return {**self.arguments(batch), "timestep_cond": self.embedded(batch)}

    def own_loss(self, batch: dict[str, Tensor], shown: Tensor) -> Tensor:
        """Of the diffusion model of the student's pictures, and of the judge that reads it."""
        t, told = batch["fake_t"], self.told(batch)
        with watched(self.fake) as features:
            own = diffusion_loss(
                lambda x, t: self.fake(x, t, **told).sample,
                shown,
                batch["fake_eps"],
                t,
                self.schedule,
                gamma=MIN_SNR,
            )
        self.figures["fake_loss"] = own.detach()
        if not self.config.adversarial_weight:
            return own
        with watched(self.fake) as of_data:
            self.fake(self.schedule.add_noise(batch["real"], batch["fake_eps"], t), t, **told)
        judged = hinge(self.judge(of_data), real=True) + hinge(self.judge(features), real=False)
        self.figures["judge_loss"] = judged.detach()
        return own + CRITIC_SHARE * judged

    def x0_of(self, said: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """x_0 that a diffusion model predicts by what it `said` of x at t."""
        alpha, sigma = self.schedule.alpha_sigma(t, x)
        return to_x0(said.to(x.dtype), x, alpha, sigma, self.schedule.prediction_type)

    def sampler(self) -> dict[str, Any]:
        c = self.config
        moved = {name: value for name in ("shift", "eta") if (value := getattr(c, name)) != 1}
        return {"steps": max(c.sampler_steps), **moved}

    def rate(self, name: str) -> float:
        return {"fake": self.config.fake_rate, "judge": self.config.judge_rate}.get(name, 1.0)

    def frozen(self) -> list[nn.Module]:
        return [self.teacher, self.before]
