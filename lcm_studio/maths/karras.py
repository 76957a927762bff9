"""Variance-exploding noise levels, with the same methods as the variance-preserving schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lcm_studio.maths.grids import karras_sigmas
from lcm_studio.spec.errors import ModelError


@dataclass(frozen=True, kw_only=True, eq=False)
class KarrasSchedule:
    """x_sigma = x_0 + sigma eps; a level is its sigma itself, float64, in [sigma_min, sigma_max].

    Source: Song et al. 2023, section 6.1 and Algorithm 1; diffusers' CMStochasticIterativeScheduler.
    """

    ends_clean: ClassVar[bool] = True
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5
    rho: float = 7.0
    levels: int = 40
    s_noise: float = 1.0
    clip_denoised: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.sigma_min < self.sigma_max and self.sigma_data > 0 and self.levels >= 2):
            raise ModelError(
                f"sigma_min={self.sigma_min}, sigma_max={self.sigma_max}, sigma_data={self.sigma_data}, "
                f"levels={self.levels} are no Karras schedule; needed: 0 < sigma_min < sigma_max, "
                "sigma_data > 0 and at least two levels"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> KarrasSchedule:
        """Builds the schedule of a diffusers `scheduler_config.json` of a consistency model."""
        return cls(
            sigma_min=float(config.get("sigma_min", 0.002)),
            sigma_max=float(config.get("sigma_max", 80.0)),
            sigma_data=float(config.get("sigma_data", 0.5)),
            rho=float(config.get("rho", 7.0)),
            levels=int(config.get("num_train_timesteps", 40)),
            s_noise=float(config.get("s_noise", 1.0)),
            clip_denoised=bool(config.get("clip_denoised", True)),
        )

    def __len__(self) -> int:
        return self.levels

    def sigma_at(self, index: int) -> float:
        """sigma of an index into the grid that counts from sigma_max (0) to sigma_min (levels - 1)."""
        grid = karras_sigmas(
            self.levels, sigma_min=self.sigma_min, sigma_max=self.sigma_max, rho=self.rho
        )
        return float(grid[index])

    def level_tensor(self, t: float, batch: int) -> Tensor:
        """`batch` copies of level `t`, `(B,)`, in the dtype that the other methods take."""
        return torch.full((batch,), t, dtype=torch.float64)

    def alpha_sigma(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """(1, sigma) for levels `t` `(B,)`, each `(B, 1, ..., 1)` to broadcast on `like`."""
        dtype = like.dtype if like.dtype == torch.float64 else torch.float32
        sigma = t.to(device=like.device, dtype=dtype).reshape(-1, *(1,) * (like.ndim - 1))
        return torch.ones_like(sigma), sigma

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_sigma = x0 + sigma eps for `x0`, `eps` `(B, ...)` and `t` `(B,)`."""
        return x0 + self.alpha_sigma(t, x0)[1] * eps

    def renoise(self, x0: Tensor, z: Tensor, t: float) -> Tensor:
        """x0 + sqrt(sigma^2 - sigma_min^2) z: back up to level `t` (Song et al. 2023, Algorithm 1)."""
        sigma = min(max(t, self.sigma_min), self.sigma_max)
        scale = self.s_noise * (sigma**2 - self.sigma_min**2) ** 0.5
        noised: Tensor = x0 + scale * z
        return noised

    def prior(self, z: Tensor) -> Tensor:
        """The sample that sampling starts from: sigma_max z."""
        return z * self.sigma_max

    def ve_sigma(self, t: float) -> float:
        """The level in variance-exploding terms: itself."""
        return float(t)

    def levels_at(self, ve_sigma: Tensor) -> Tensor:
        """The levels, float64 `(B,)`, of noise `ve_sigma` `(B,)`: itself, within the model's range."""
        return ve_sigma.detach().to("cpu", torch.float64).clamp(self.sigma_min, self.sigma_max)

    def nearest_timestep(self, ve_sigma: float) -> float:
        """The level for a noise per unit of signal: itself, within the model's range."""
        return min(max(float(ve_sigma), self.sigma_min), self.sigma_max)
