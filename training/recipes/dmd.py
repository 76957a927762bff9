"""`dmd`: a few-step student by distribution matching (Yin et al. 2024; DMD2, Yin et al. 2024b)."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from lcm_studio.maths.grids import lcm_timesteps
from lcm_studio.maths.parameterization import partly_fresh, to_x0
from training.config import TrainConfig
from training.objectives.diffusion import diffusion_loss
from training.objectives.given import given_parts
from training.recipes.base import Draw
from training.recipes.latents import posterior
from training.recipes.matching import NOISE, Matching, MatchingConfig, Turn, split
from training.recipes.students import StudentConfig, Students, student_of

BARE = 1 / 3  # share of edits without a caption
MIN_SNR = 5.0  # of the loss of the student's diffusion model


class DistributionMatchingConfig(MatchingConfig, StudentConfig):
    """Fields of the dmd recipe."""

    shift: float = Field(1.0, gt=0, le=100, description="shift of the levels of these steps")
    eta: float = Field(
        1.0, ge=0, le=1, description="share of fresh noise between these steps; 1: all of it"
    )
    edit_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the sampler's rows that are edits of pictures of the data: a part is held while the "
        "sampler runs, or it starts from a coarse or a mixed picture; a third of them without caption",
    )

    @property
    def reads_pictures(self) -> bool:
        """Whether pictures are read beside captions."""
        return bool(self.keep_share or self.adversarial_weight or self.edit_share)

    @model_validator(mode="after")
    def _steps_fit_the_grid(self) -> DistributionMatchingConfig:
        if max(self.sampler_steps) > self.ddim_steps:
            raise ValueError(
                f"sampler_steps={list(self.sampler_steps)} has more than ddim_steps={self.ddim_steps} levels; "
                "lower the one or raise the other"
            )
        return self


class DistributionMatching(Students, Matching):
    """Distribution matching of a text-conditional student in latents; it and the fake are told w."""

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
        lowest = min(int(min(chain)) for chain in self.chains)
        self.kept_levels = (lowest + 1) // self.skip - 1  # of the grid, below those of the samplers
        return self.trained()

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
        """Captions, w, and all noise and levels of a step; `keep_...`: the rows that keep what was there."""
        c, g = self.config, draw.generator
        mine, rest = split(draw, self.kept_of(len(draw.examples)) if self.kept_levels else 0)
        n = len(mine.examples)
        shape = (n, *self.latent_shape)
        batch = self.sampler_rows(draw, shape) | {
            "w": c.w_min + (c.w_max - c.w_min) * torch.rand(n, generator=g) ** c.w_power,
            "eps": torch.randn(shape, generator=g),
            "noise_t": self.noise_levels(n, g, *NOISE),
            "fake_eps": torch.randn(shape, generator=g),
            "fake_t": self.noise_levels(n, g),
        }
        batch = self.moved(batch)
        captions = [self.source.caption(*example) for example in mine.examples]
        if "edit" in batch:
            bare = batch["edit"].cpu() & (torch.rand(n, generator=g) < BARE)
            captions = ["" if none else text for none, text in zip(bare, captions, strict=True)]
        batch |= self.texts(captions)
        if self.prompts.xl:
            size = c.resolution
            batch["sizes"] = torch.tensor([[size, size, 0, 0]]).to(batch["w"]).repeat(n, 1)
        if rest.examples:
            batch |= self.kept_rows(rest)
        if c.adversarial_weight or "edit" in batch:
            z = self.x0(mine)
            if c.adversarial_weight:
                batch["real"] = z
            if "edit" in batch:
                self.begin_edits(batch, z, g)
        return batch

    def turns(self, draw: Draw, n: int) -> list[Turn]:
        """The last rows are edits: levels even in t from anywhere above the samplers' lowest down to it."""
        plain, g = super().turns(draw, n), draw.generator
        edits = round(self.config.edit_share * n)
        lowest = min(int(min(chain)) for chain in self.chains)
        highest = max(int(max(chain)) for chain in self.chains)
        for i in range(n - edits, n):
            top, choice, place = torch.rand(3, generator=g).tolist()
            steps = self.config.sampler_steps[int(choice * len(self.config.sampler_steps))]
            # half of them from the top, as holes of any size are filled
            first = highest if top < 0.5 else round(lowest + (2 * top - 1) * (highest - lowest))
            fall = (first - lowest) / max(1, steps - 1)
            plain[i] = Turn(
                [round(first - fall * k) for k in range(steps)], int(place * steps), True
            )
        return plain

    def begin_edits(self, batch: dict[str, Tensor], z: Tensor, g: torch.Generator) -> None:
        """Puts the starts of edits of the latents z (B, C, h, w) into their rows, and what they hold."""
        edit = batch.pop("edit")
        first = batch.pop("first")[edit]
        held = torch.zeros((len(z), 1, *z.shape[2:]), dtype=torch.bool, device=z.device)
        starts, held[edit] = given_parts(z[edit], z.roll(1, 0)[edit], g)
        batch["x"][edit] = self.schedule.add_noise(starts, batch["x"][edit], first)
        batch |= {"held": held, "given": z}

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

    def noise_levels(
        self, n: int, g: torch.Generator, low: float = 0.0, high: float = 1.0
    ) -> Tensor:
        """Timesteps spread over the shares [low, high) of the levels; int64 (n,)."""
        return (self.even(n, g, low, high) * len(self.schedule)).long()

    def teacher_x0(self, batch: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
        return self.guided_x0(self.teacher, batch, x, t)

    def fake_x0(self, unet: Any, batch: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.schedule.alpha_sigma(t, x)
        said = unet(x, t, **self.told(batch)).sample
        return to_x0(said.to(x.dtype), x, alpha, sigma, self.schedule.prediction_type)

    def fake_loss(self, batch: dict[str, Tensor], x0: Tensor) -> Tensor:
        told = self.told(batch)
        return diffusion_loss(
            lambda x, t: self.fake(x, t, **told).sample,
            x0,
            batch["fake_eps"],
            batch["fake_t"],
            self.schedule,
            gamma=MIN_SNR,
        )

    def keep_distance(self, a: Tensor, b: Tensor) -> Tensor:
        return self.distance(a, b)

    def onwards(self, x: Tensor, estimate: Tensor, z: Tensor, t: Tensor, after: Tensor) -> Tensor:
        z = partly_fresh(x, estimate, *self.schedule.alpha_sigma(t, x), z, self.config.eta)
        return super().onwards(x, estimate, z, t, after)

    def told(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        """What the student and its diffusion model are told beside x and t."""
        return {**self.arguments(batch), "timestep_cond": self.embedded(batch)}

    def sampler(self) -> dict[str, Any]:
        c = self.config
        moved = {name: value for name in ("shift", "eta") if (value := getattr(c, name)) != 1}
        return {"steps": max(c.sampler_steps), **moved}

    def frozen(self) -> list[nn.Module]:
        return [self.teacher, self.before]
