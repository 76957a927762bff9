"""`cd`, `ct`, `ict`, `ect`: pixel-space consistency models. They differ in how a pair is made.

One class holds networks and targets; a recipe gives the pair (x_t, t), (x_s, s), its weight, the
distance and the decay of the target network.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from training.config import TrainConfig
from training.errors import TrainingFault
from training.objectives.pixels import (
    ct_decay,
    ct_levels,
    ect_partner,
    ict_levels,
    lognormal_levels,
    pair_loss,
    pf_ode_step,
)
from training.recipes.base import Draw
from training.recipes.pixels import PixelConfig, PixelRecipe, load_pixel_unet
from training.state import ema


class ConsistencyRecipe(PixelRecipe):
    """A student, a target network (EMA, or the student itself), and pairs of levels."""

    has_target: ClassVar[bool] = True

    def build(self) -> dict[str, nn.Module]:
        networks = super().build()
        if self.has_target:
            self.target = copy.deepcopy(self.unet).requires_grad_(False).eval()
        return networks

    def extra_state(self) -> dict[str, nn.Module]:
        return {"target": self.target} if self.has_target else {}

    def after_step(self, step: int) -> None:
        if self.has_target:
            live = list(self.unet.parameters())
            ema.update(list(self.target.parameters()), live, self.target_decay(step))

    def target_decay(self, step: int) -> float:
        """EMA decay of the target network after `step` steps."""
        del step
        return 0.0

    @abstractmethod
    def levels(self, draw: Draw) -> dict[str, Tensor]:
        """t, s, weight of each example, float64 (B,) on the CPU."""

    def distance(self) -> float | None:
        """The constant of pseudo-Huber, None for the mean square."""
        return None

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        batch = self.pictures(draw)
        batch |= {k: v.to(self.device) for k, v in self.levels(draw).items()}
        batch["x_t"] = batch["x0"] + batch["t"].to(batch["x0"]).reshape(-1, 1, 1, 1) * batch["z"]
        batch["x_s"] = self.earlier(batch)
        return batch

    def earlier(self, batch: dict[str, Tensor]) -> Tensor:
        """x_s of the same noise: what needs no teacher (Song et al. 2023, theorem 2)."""
        return batch["x0"] + batch["s"].to(batch["x0"]).reshape(-1, 1, 1, 1) * batch["z"]

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        c = self.config
        target = self.target if self.has_target else self.unet
        return pair_loss(
            self.network(self.unet, batch),
            self.network(target, batch),
            x_t=batch["x_t"],
            t=batch["t"],
            x_s=batch["x_s"],
            s=batch["s"],
            weight=batch["weight"],
            c=self.distance(),
            sigma_data=c.sigma_data,
            sigma_min=c.sigma_min,
        ).mean()


def _huber(scale: float, resolution: int) -> float:
    return scale * (3 * resolution * resolution) ** 0.5


class CdConfig(PixelConfig):
    """Fields of the cd recipe."""

    teacher: str = Field("", description="folder of an edm model; the student starts from it")
    solver: Literal["heun", "euler"] = Field("heun", description="step of the teacher's ODE")
    target_ema: float = Field(0.95, ge=0, lt=1, description="EMA of the target network")
    loss_type: Literal["l2", "huber"] = Field("huber", description="distance of two outputs")
    huber_scale: float = Field(0.00054, gt=0, description="pseudo-Huber c / sqrt(numbers)")


class Cd(ConsistencyRecipe):
    """Consistency distillation (Song et al. 2023, Algorithm 2)."""

    name: ClassVar[str] = "cd"
    Config: ClassVar[type[TrainConfig]] = CdConfig
    config: CdConfig

    def build(self) -> dict[str, nn.Module]:
        if not self.config.teacher:
            raise TrainingFault("missing_weights", "cd needs teacher: the folder of an edm model")
        self.config = self.config.model_copy(update={"start_from": self.config.teacher})
        networks = super().build()
        self.teacher = self.placed(load_pixel_unet(self.config.teacher))
        self.teacher.requires_grad_(False).eval()
        return networks

    def frozen(self) -> list[nn.Module]:
        return [self.teacher]

    def target_decay(self, step: int) -> float:
        return self.config.target_ema

    def levels(self, draw: Draw) -> dict[str, Tensor]:
        grid = self.grid(self.config.levels)
        n = len(draw.examples)
        u = (torch.arange(n) + torch.rand(n, generator=draw.generator)) / n
        index = (u * (len(grid) - 1)).long().clamp(max=len(grid) - 2)
        return {"t": grid[index + 1], "s": grid[index], "weight": torch.ones(n)}

    def earlier(self, batch: dict[str, Tensor]) -> Tensor:
        with self.autocast():
            return pf_ode_step(
                self.network(self.teacher, batch),
                batch["x_t"],
                batch["t"],
                batch["s"],
                solver=self.config.solver,
                sigma_data=self.config.sigma_data,
            )

    def draw_teacher(self, path: Path) -> None:
        """Heun's solver over the whole grid."""
        from training.progress.sheets import save_row

        save_row(self.solve(self.teacher, self.config.levels), path)

    def distance(self) -> float | None:
        c = self.config
        return _huber(c.huber_scale, c.resolution) if c.loss_type == "huber" else None


class CtConfig(PixelConfig):
    """Fields of the ct recipe."""

    s0: int = Field(2, ge=2, description="levels at the first step")
    s1: int = Field(150, ge=3, description="levels at the last step")
    mu0: float = Field(0.9, ge=0, lt=1, description="EMA of the target network at s0 levels")


class Ct(ConsistencyRecipe):
    """Consistency training without a teacher (Song et al. 2023, Algorithm 3)."""

    name: ClassVar[str] = "ct"
    Config: ClassVar[type[TrainConfig]] = CtConfig
    config: CtConfig

    def target_decay(self, step: int) -> float:
        c = self.config
        return ct_decay(ct_levels(step, c.steps, c.s0, c.s1), c.s0, c.mu0)

    def levels(self, draw: Draw) -> dict[str, Tensor]:
        c, n = self.config, len(draw.examples)
        grid = self.grid(max(2, ct_levels(draw.step, c.steps, c.s0, c.s1)))
        index = torch.randint(0, len(grid) - 1, (n,), generator=draw.generator)
        return {"t": grid[index + 1], "s": grid[index], "weight": torch.ones(n)}


class IctConfig(PixelConfig):
    """Fields of the ict recipe."""

    s0: int = Field(10, ge=2, description="levels at the first step")
    s1: int = Field(1280, ge=3, description="levels at the last step")
    p_mean: float = Field(-1.1, description="mean of ln sigma")
    p_std: float = Field(2.0, gt=0, description="standard deviation of ln sigma")
    huber_scale: float = Field(0.00054, gt=0, description="pseudo-Huber c / sqrt(numbers)")


class Ict(ConsistencyRecipe):
    """Improved consistency training: no EMA target, doubling levels (Song & Dhariwal 2023)."""

    name: ClassVar[str] = "ict"
    Config: ClassVar[type[TrainConfig]] = IctConfig
    has_target: ClassVar[bool] = False
    config: IctConfig

    def levels(self, draw: Draw) -> dict[str, Tensor]:
        c, n = self.config, len(draw.examples)
        grid = self.grid(ict_levels(draw.step, c.steps, c.s0, c.s1))
        u = torch.rand(n, generator=draw.generator, dtype=torch.float64)
        index = lognormal_levels(u, grid, mean=c.p_mean, std=c.p_std)
        t, s = grid[index + 1], grid[index]
        return {"t": t, "s": s, "weight": 1 / (t - s)}

    def distance(self) -> float | None:
        return _huber(self.config.huber_scale, self.config.resolution)


class EctConfig(PixelConfig):
    """Fields of the ect recipe."""

    teacher: str = Field("", description="folder of the diffusion model that it starts from")
    q: float = Field(2.0, gt=1, description="how fast the pair closes")
    k: float = Field(8.0, ge=0, description="widens pairs at small levels")
    b: float = Field(1.0, gt=0, description="where the widening ends")
    stages: int = Field(8, ge=1, description="halvings over the run")
    p_mean: float = Field(-1.1, description="mean of ln sigma")
    p_std: float = Field(2.0, gt=0, description="standard deviation of ln sigma")
    huber_scale: float = Field(0.0, ge=0, description="pseudo-Huber c / sqrt(numbers); 0 = norm")


class Ect(ConsistencyRecipe):
    """Easy consistency tuning: from a diffusion model to a consistency model (Geng et al. 2024)."""

    name: ClassVar[str] = "ect"
    Config: ClassVar[type[TrainConfig]] = EctConfig
    has_target: ClassVar[bool] = False
    config: EctConfig

    def build(self) -> dict[str, nn.Module]:
        if self.config.teacher:
            self.config = self.config.model_copy(update={"start_from": self.config.teacher})
        return super().build()

    def levels(self, draw: Draw) -> dict[str, Tensor]:
        c, n = self.config, len(draw.examples)
        normal = torch.randn(n, generator=draw.generator, dtype=torch.float64)
        t = (c.p_mean + c.p_std * normal).exp().clamp(c.sigma_min * 1.01, c.sigma_max)
        stage = 1 + draw.step * c.stages // c.steps
        s = ect_partner(t, stage, q=c.q, k=c.k, b=c.b).clamp(min=c.sigma_min)
        return {"t": t, "s": s, "weight": 1 / (t - s)}

    def distance(self) -> float | None:
        return _huber(self.config.huber_scale, self.config.resolution)
