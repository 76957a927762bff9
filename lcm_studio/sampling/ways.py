"""Ways from a clean estimate to the next level: how much of the noise is fresh there, and where sampling ends.

Every one of them is x' = alpha' x0_hat + sigma' (c z + sqrt(1 - c^2) eps) with fresh noise z and the noise eps that
(x_t, x0_hat) imply. They differ in c, the share of fresh noise, and in the level that they go to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lcm_studio.models.protocol import Schedule
from lcm_studio.spec.errors import BadRequest


@dataclass(frozen=True, kw_only=True)
class Way:
    """Renoising: all noise is fresh (Song et al. 2023, Algorithm 1; Luo et al. 2023, Algorithm 3).

    `eta` in [0, 1]: the share of fresh noise where it is chosen. `end`: the level of what is returned; None is the clean
    estimate. `unit_start`: False starts from noise as strong as the first level's alone, in place of the schedule's prior.
    """

    eta: float = 1.0
    end: float | None = None
    unit_start: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise BadRequest(f"eta={self.eta} is out of range; use 0 to 1")

    def target(self, level: float, following: float | None) -> float | None:
        """The level to go to from `level`; `following` is the next of the list, None after the last one."""
        return self.end if following is None else following

    def fresh(self, schedule: Schedule, level: float, target: float) -> float:
        """The share of fresh noise at `target`, in [0, 1]."""
        return self.eta

    def start(self, z: Tensor, schedule: Schedule, level: float) -> Tensor:
        """The sample at the first level, of unit noise `z`."""
        if self.unit_start:
            return schedule.prior(z)
        return schedule.renoise(torch.zeros_like(z), z, level)


@dataclass(frozen=True, kw_only=True)
class Ode(Way):
    """Along the probability-flow ODE, by DDIM's step: no fresh noise (Song et al. 2021, eq. 12).

    `stride`: diffusers' DDIMScheduler goes to `level - stride` whatever the next level is; None goes to the next level.
    """

    eta: float = 0.0
    stride: float | None = None

    def target(self, level: float, following: float | None) -> float | None:
        if self.stride is None:
            return super().target(level, following)
        return level - self.stride if level >= self.stride else self.end


@dataclass(frozen=True, kw_only=True)
class Tcd(Way):
    """Down to s = floor((1 - eta) t'), then up to t' with fresh noise (Zheng et al. 2024, Algorithm 4, gamma = eta)."""

    eta: float = 0.3
    end: float | None = 0.0

    def fresh(self, schedule: Schedule, level: float, target: float) -> float:
        alpha, sigma = _alpha_sigma(schedule, target)
        alpha_s, _ = _alpha_sigma(schedule, math.floor((1 - self.eta) * target))
        return math.sqrt(max(0.0, 1 - (alpha / alpha_s) ** 2)) / sigma


@dataclass(frozen=True, kw_only=True)
class Ancestral(Way):
    """Euler's ancestral step: sigma_up of the noise is fresh (k-diffusion's `get_ancestral_step`, eta = 1)."""

    def fresh(self, schedule: Schedule, level: float, target: float) -> float:
        here, there = schedule.ve_sigma(level), schedule.ve_sigma(target)
        return self.eta * math.sqrt(max(0.0, 1 - (there / here) ** 2))


def way_of(schedule: Schedule, consistency: bool) -> Way:
    """Fresh noise for a consistency function; DDIM, ending where the schedule does, for a plain diffusion model."""
    return Way() if consistency else Ode(end=None if schedule.ends_clean else 0)


def _alpha_sigma(schedule: Schedule, level: float) -> tuple[float, float]:
    t = schedule.level_tensor(level, 1)
    alpha, sigma = schedule.alpha_sigma(t, torch.zeros(1, dtype=torch.float64))
    return float(alpha), float(sigma)
