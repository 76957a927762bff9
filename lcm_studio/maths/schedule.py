"""Variance-preserving noise schedules, held in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lcm_studio.spec.errors import ModelError

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def make_betas(name: str, start: float, end: float, count: int) -> Tensor:
    """Betas of a named diffusers schedule, float64 `(count,)`.

    Raises ModelError for a schedule name that diffusers' DDPM family does not define.
    """
    if name == "linear":
        return torch.linspace(start, end, count, dtype=torch.float64)
    if name == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
    if name == "squaredcos_cap_v2":
        t = torch.linspace(0, 1, count + 1, dtype=torch.float64)
        bar = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
        return (1 - bar[1:] / bar[:-1]).clamp(max=0.999)
    raise ModelError(
        f"beta_schedule={name!r} is unknown; allowed: linear, scaled_linear, squaredcos_cap_v2"
    )


def rescale_zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """Shifts and scales sqrt(abar) so that the last level is pure noise (Lin et al. 2023, Alg. 1).

    `alphas_cumprod`: `(T,)`, decreasing. Returns the same shape; the last entry is 0.
    """
    root = alphas_cumprod.sqrt()
    first, last = root[0].clone(), root[-1].clone()
    return ((root - last) * first / (first - last)) ** 2


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseSchedule:
    """x_t = alpha_t x_0 + sigma_t eps with alpha_t = sqrt(abar_t), sigma_t = sqrt(1 - abar_t).

    `alphas_cumprod`: float64 `(T,)`, strictly decreasing, in [0, 1].
    `prediction_type`: what the network of this schedule predicts.
    `ends_clean`: False where DDIM is to stop at the lowest level instead of at x_0_hat (diffusers'
    set_alpha_to_one=false, as Stable Diffusion has it).
    Source: Ho et al. 2020, eq. 4; Luo et al. 2023, section 3.
    """

    alphas_cumprod: Tensor
    prediction_type: str = "epsilon"
    ends_clean: bool = True

    def __post_init__(self) -> None:
        bar = self.alphas_cumprod
        if bar.dtype != torch.float64 or bar.ndim != 1 or len(bar) < 2:
            raise ModelError(
                f"alphas_cumprod has dtype {bar.dtype} and shape {tuple(bar.shape)}; "
                "it must be a float64 vector of at least two levels"
            )
        if not bool((bar[1:] < bar[:-1]).all()) or bar[0] > 1 or bar[-1] < 0:
            raise ModelError("alphas_cumprod must decrease strictly within [0, 1]")
        if self.prediction_type not in PREDICTION_TYPES:
            raise ModelError(
                f"prediction_type={self.prediction_type!r} is unknown; "
                f"allowed: {', '.join(PREDICTION_TYPES)}"
            )
        if bar[-1] == 0 and self.prediction_type == "epsilon":
            raise ModelError(
                "zero terminal SNR with epsilon prediction divides by zero at the last level; "
                "use a v_prediction or sample model"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """Builds the schedule of a diffusers `scheduler_config.json`.

        Raises ModelError where the config names a schedule or prediction type that is not VP.
        """
        trained = config.get("trained_betas")
        if trained is not None:
            betas = torch.tensor(trained, dtype=torch.float64)
        else:
            betas = make_betas(
                config.get("beta_schedule", "scaled_linear"),
                float(config.get("beta_start", 0.00085)),
                float(config.get("beta_end", 0.012)),
                int(config.get("num_train_timesteps", 1000)),
            )
        bar = torch.cumprod(1 - betas, dim=0)
        if config.get("rescale_betas_zero_snr", False):
            bar = rescale_zero_terminal_snr(bar)
        return cls(
            alphas_cumprod=bar,
            prediction_type=config.get("prediction_type", "epsilon"),
            ends_clean=config.get("_class_name") != "DDIMScheduler"
            or bool(config.get("set_alpha_to_one", True)),
        )

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def alpha_sigma(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha_t, sigma_t) for levels `t` `(B,)`, each `(B, 1, ..., 1)` to broadcast on `like`.

        Computed in float64 and cast last, so that 1 - abar keeps its digits at small t. Between two timesteps
        log(sigma/alpha) is linear, so that solvers may stop anywhere; levels beyond the ends count as the ends.
        """
        bar = self._bar(t)
        shape = (-1, *(1,) * (like.ndim - 1))
        dtype = like.dtype if like.dtype == torch.float64 else torch.float32
        alpha = bar.sqrt().to(device=like.device, dtype=dtype).reshape(shape)
        sigma = (1 - bar).sqrt().to(device=like.device, dtype=dtype).reshape(shape)
        return alpha, sigma

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = alpha_t x0 + sigma_t eps for `x0`, `eps` `(B, ...)` and `t` `(B,)`."""
        alpha, sigma = self.alpha_sigma(t, x0)
        return alpha * x0 + sigma * eps

    def level_tensor(self, t: float, batch: int) -> Tensor:
        """`batch` copies of timestep `t` `(B,)`: int64 for a whole one, else float64."""
        if float(t).is_integer():
            return torch.full((batch,), int(t), dtype=torch.long)
        return torch.full((batch,), float(t), dtype=torch.float64)

    def renoise(self, x0: Tensor, z: Tensor, t: float) -> Tensor:
        """Back up to level `t`: alpha_t x0 + sigma_t z (Luo et al. 2023, Algorithm 3)."""
        return self.add_noise(x0, z, self.level_tensor(t, len(x0)))

    def prior(self, z: Tensor) -> Tensor:
        """The sample that sampling starts from: pure noise of unit variance."""
        return z

    def ve_sigma(self, t: float) -> float:
        """The level in variance-exploding terms: sigma_t / alpha_t (noise per unit of signal)."""
        bar = float(self._bar(self.level_tensor(t, 1))[0])
        return float("inf") if bar == 0 else ((1 - bar) / bar) ** 0.5

    def levels_at(self, ve_sigma: Tensor) -> Tensor:
        """The levels, float64 `(B,)`, whose `ve_sigma` is `ve_sigma` `(B,)`, clamped to the schedule's finite ones."""
        table = self._log_ve_sigma()
        wanted = ve_sigma.detach().to("cpu", torch.float64).log().clamp(table[0], table[-1])
        above = torch.searchsorted(table, wanted).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        levels: Tensor = above - 1 + (wanted - low) / (high - low)
        return levels

    def _bar(self, t: Tensor) -> Tensor:
        """abar at levels `t` `(B,)`, float64; exactly the table's entry at whole ones."""
        if not t.is_floating_point():
            return self.alphas_cumprod[t.to("cpu", torch.long)]
        at = t.detach().to("cpu", torch.float64).clamp(0, len(self) - 1)
        low = at.floor().long()
        share = at - low
        entry = self.alphas_cumprod[low]
        if not bool(share.any()):
            return entry
        logs = ((1 - self.alphas_cumprod) / self.alphas_cumprod).log()
        between = torch.sigmoid(
            -torch.lerp(logs[low], logs[(low + 1).clamp(max=len(self) - 1)], share)
        )
        return torch.where(share == 0, entry, between)

    def _log_ve_sigma(self) -> Tensor:
        """log(sigma/alpha) of every timestep but those of pure noise, rising, float64."""
        bar = self.alphas_cumprod[self.alphas_cumprod > 0]
        return 0.5 * ((1 - bar) / bar).log()

    def nearest_timestep(self, ve_sigma: float) -> float:
        """The timestep (a whole number) whose `ve_sigma` is nearest to the one asked for."""
        bar = 1 / (1 + ve_sigma**2)
        return float((self.alphas_cumprod - bar).abs().argmin())
