"""`pixel-dmd`: a pixel-space consistency model by distribution matching (Yin et al. 2024; DMD2, Yin et al. 2024b)."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from lcm_studio.maths.grids import cm_timesteps
from training.config import TrainConfig
from training.errors import TrainingFault
from training.objectives.latent import Consistency, distance
from training.objectives.pixels import cm_output, edm_loss, edm_output
from training.recipes.base import Draw
from training.recipes.matching import NOISE, Matching, MatchingConfig, split
from training.recipes.pixels import PixelConfig, PixelRecipe, load_pixel_unet


class PixelDistributionMatchingConfig(MatchingConfig, PixelConfig):
    """Fields of the pixel-dmd recipe."""

    teacher: str = Field("", description="folder of an edm model")
    start_from: str = Field(
        "", description="folder of a consistency model to go on from; '' = the teacher's weights"
    )
    p_mean: float = Field(-1.2, description="mean of ln sigma of the second diffusion model")
    p_std: float = Field(1.2, gt=0, description="standard deviation of ln sigma there")

    @model_validator(mode="after")
    def _steps_fit_the_grid(self) -> PixelDistributionMatchingConfig:
        if max(self.sampler_steps) > self.levels:
            raise ValueError(
                f"sampler_steps={list(self.sampler_steps)} has more than levels={self.levels}; "
                "lower the one or raise the other"
            )
        return self


class PixelDistributionMatching(PixelRecipe, Matching):
    """Distribution matching in pixels, on Karras noise levels, with class labels or without."""

    name: ClassVar[str] = "pixel-dmd"
    Config: ClassVar[type[TrainConfig]] = PixelDistributionMatchingConfig
    config: PixelDistributionMatchingConfig

    def build(self) -> dict[str, nn.Module]:
        teacher = self.config.teacher
        if not teacher:
            raise TrainingFault(
                "missing_weights", "pixel-dmd needs teacher: the folder of an edm model"
            )
        if not self.config.start_from:
            self.config = self.config.model_copy(update={"start_from": teacher})
        super().build()
        self.student = self.unet
        self.teacher = self.placed(load_pixel_unet(teacher)).requires_grad_(False).eval()
        theirs, ours = (net.config.num_class_embeds or 0 for net in (self.teacher, self.student))
        if theirs != ours:
            raise TrainingFault(
                "config",
                f"the teacher in {teacher} has {theirs} classes and the student {ours}; give a student of this teacher",
            )
        self.fake = self.placed(load_pixel_unet(teacher))
        self.before = copy.deepcopy(self.student).requires_grad_(False).eval()
        grid, levels = self.grid(self.config.levels).flip(0), self.config.levels
        self.chains = [
            [float(grid[i]) for i in reversed(cm_timesteps(n, levels))]
            for n in self.config.sampler_steps
        ]
        return self.trained()

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        """Labels, and all noise and levels of a step; `keep_...`: the rows that keep what was there."""
        c, g = self.config, draw.generator
        pictures = self.pictures(draw)
        mine, rest = split(draw, self.kept_of(len(draw.examples)))
        n = len(mine.examples)
        shape = (n, *pictures["x0"].shape[1:])
        rows = self.sampler_rows(draw, shape)
        rows["x"] = self.schedule.prior(rows["x"])
        normal = torch.special.ndtri(self.even(n, g).clamp(1e-9, 1 - 1e-9))
        batch = self.moved(
            rows
            | {
                "eps": torch.randn(shape, generator=g),
                "noise_t": self.level_at(self.even(n, g, *NOISE)),
                "fake_eps": torch.randn(shape, generator=g),
                "fake_t": (c.p_mean + c.p_std * normal).exp(),
            }
        )
        if c.classes:
            batch["labels"] = pictures["labels"][:n]
        if c.adversarial_weight:
            batch["real"] = pictures["x0"][:n]
        if rest.examples:
            batch |= self.kept_rows({name: value[n:] for name, value in pictures.items()}, g)
        return batch

    def kept_rows(self, pictures: dict[str, Tensor], g: torch.Generator) -> dict[str, Tensor]:
        """Noised pictures at levels below those of the samplers, and what the student made of them at the start."""
        n, lowest = len(pictures["x0"]), min(min(chain) for chain in self.chains)
        c = self.config
        low, high = c.sigma_min ** (1 / c.rho), lowest ** (1 / c.rho)
        t = (self.even(n, g, low, high) ** c.rho).to(self.device)
        rows = {"x": self.schedule.add_noise(pictures["x0"], pictures["z"], t), "t": t}
        if c.classes:
            rows["labels"] = pictures["labels"]
        with self.autocast():
            rows["end"] = self.f(self.before, rows)(rows["x"], t)
        return {f"keep_{name}": value for name, value in rows.items()}

    def level_at(self, u: Tensor) -> Tensor:
        """The level at shares u of the way from sigma_min to sigma_max, as the grid goes; float64."""
        c = self.config
        low, high = c.sigma_min ** (1 / c.rho), c.sigma_max ** (1 / c.rho)
        level: Tensor = (low + u * (high - low)) ** c.rho
        return level

    def f(self, unet: Any, batch: dict[str, Tensor]) -> Consistency:
        c, network = self.config, self.network(unet, batch)
        return lambda x, t: cm_output(network, x, t, sigma_data=c.sigma_data, sigma_min=c.sigma_min)

    def teacher_x0(self, batch: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
        return self.fake_x0(self.teacher, batch, x, t)

    def fake_x0(self, unet: Any, batch: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
        return edm_output(self.network(unet, batch), x, t, sigma_data=self.config.sigma_data)

    def fake_loss(self, batch: dict[str, Tensor], x0: Tensor) -> Tensor:
        network, data = self.network(self.fake, batch), self.config.sigma_data
        return edm_loss(network, x0, batch["fake_eps"], batch["fake_t"], sigma_data=data)

    def keep_distance(self, a: Tensor, b: Tensor) -> Tensor:
        return distance(a, b)

    def onwards(self, x: Tensor, estimate: Tensor, z: Tensor, t: Tensor, after: Tensor) -> Tensor:
        """As stock diffusers: the estimate within [-1, 1], and back up (Song et al. 2023, Algorithm 1)."""
        up = (after**2 - self.config.sigma_min**2).clamp(min=0).sqrt()
        return super().onwards(x, estimate.clamp(-1, 1), z, t, up)

    def export(self, folder: Path) -> None:
        """The folder, which says how many steps the model was trained for."""
        from training.state.sharding import writes

        super().export(folder)
        if writes():
            about = {"steps": max(self.config.sampler_steps)}
            (folder / "studio.json").write_text(json.dumps(about, indent=1) + "\n")

    def frozen(self) -> list[nn.Module]:
        return [self.teacher, self.before]
