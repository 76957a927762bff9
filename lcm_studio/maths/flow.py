"""Straight paths and circles from pictures to noise, with the same methods as the variance-preserving schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

FINITE = (1e-3, 1e3)  # noise per unit of signal that a solver may start and end at


class _Levels:
    """What schedules of continuous levels share; subclasses say (alpha, sigma)."""

    ends_clean: ClassVar[bool] = True
    count: ClassVar[int] = 1000

    def __len__(self) -> int:
        return self.count

    def level_tensor(self, t: float, batch: int) -> Tensor:
        """`batch` copies of level `t`, float64 `(B,)`."""
        return torch.full((batch,), t, dtype=torch.float64)

    def alpha_sigma(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha_t, sigma_t) for levels `t` `(B,)`, each `(B, 1, ..., 1)` to broadcast on `like`."""
        dtype = like.dtype if like.dtype == torch.float64 else torch.float32
        shape = (-1, *(1,) * (like.ndim - 1))
        alpha, sigma = self._pair(t.double())
        return (
            alpha.to(device=like.device, dtype=dtype).reshape(shape),
            sigma.to(device=like.device, dtype=dtype).reshape(shape),
        )

    def _pair(self, t: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = alpha_t x0 + sigma_t eps for `x0`, `eps` `(B, ...)` and `t` `(B,)`."""
        alpha, sigma = self.alpha_sigma(t, x0)
        return alpha * x0 + sigma * eps

    def renoise(self, x0: Tensor, z: Tensor, t: float) -> Tensor:
        """Back up to level `t`: alpha_t x0 + sigma_t z."""
        return self.add_noise(x0, z, self.level_tensor(t, len(x0)))

    def prior(self, z: Tensor) -> Tensor:
        """The sample that sampling starts from: pure noise of unit variance."""
        return z


@dataclass(frozen=True)
class FlowSchedule(_Levels):
    """x_s = (1 - s) x_0 + s z; a level is s in (0, 1] (Lipman et al. 2023, section 4.1; Liu et al. 2023)."""

    def _pair(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def ve_sigma(self, t: float) -> float:
        """The level in variance-exploding terms: s / (1 - s)."""
        return math.inf if t >= 1 else t / (1 - t)

    def levels_at(self, ve_sigma: Tensor) -> Tensor:
        """The levels, float64 `(B,)`, of noise `ve_sigma` `(B,)` per unit of signal, clamped to `FINITE`."""
        sigma = ve_sigma.detach().to("cpu", torch.float64).clamp(*FINITE)
        return sigma / (1 + sigma)

    def nearest_timestep(self, ve_sigma: float) -> float:
        """The level of a noise per unit of signal."""
        return 1.0 if math.isinf(ve_sigma) else ve_sigma / (1 + ve_sigma)


@dataclass(frozen=True)
class TrigFlowSchedule(_Levels):
    """x_t = cos(t) x_0 + sin(t) z in units of the data's spread; a level is t in (0, pi/2] (Lu & Song 2025, section 3)."""

    def _pair(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return t.cos(), t.sin()

    def ve_sigma(self, t: float) -> float:
        """The level in variance-exploding terms: tan t."""
        return math.inf if t >= math.pi / 2 else math.tan(t)

    def levels_at(self, ve_sigma: Tensor) -> Tensor:
        """The levels, float64 `(B,)`, of noise `ve_sigma` `(B,)` per unit of signal, clamped to `FINITE`."""
        return ve_sigma.detach().to("cpu", torch.float64).clamp(*FINITE).atan()

    def nearest_timestep(self, ve_sigma: float) -> float:
        """The level of a noise per unit of signal."""
        return math.atan(ve_sigma)


def trig_to_flow(t: Tensor) -> Tensor:
    """The level s of a straight path with the signal-to-noise ratio of `t` on the circle: sin t / (sin t + cos t)."""
    return t.sin() / (t.sin() + t.cos())


def trig_velocity(flow: Tensor, x: Tensor, s: Tensor) -> Tensor:
    """The velocity on the circle, of a straight path's `flow` at its input `x` and level `s` `(B, 1, 1, 1)`.

    Chen et al. 2025 (SANA-Sprint), eq. 9.
    """
    norm = (s**2 + (1 - s) ** 2).sqrt()
    velocity: Tensor = ((1 - 2 * s) * x + (1 - 2 * s + 2 * s**2) * flow) / norm
    return velocity
