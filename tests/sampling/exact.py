"""Data whose score, noised law and ODE are known in closed form: mixtures of Gaussians, in either family of schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lcm_studio.models.protocol import Cond, Prompt


class Mixture:
    """x_0 ~ sum_k weight_k N(mean_k, s^2 I), each coordinate by itself; predicts E[x_0 | x_t], as a diffusion model does.

    In VE scale x = x_t / alpha the noised law is the same mixture with variance s^2 + sigma^2.
    """

    def __init__(
        self,
        schedule: Any,
        means: Sequence[float] = (-1.0, 0.8),
        weights: Sequence[float] = (0.35, 0.65),
        s: float = 0.2,
    ) -> None:
        self.schedule, self.s = schedule, s
        self.means = torch.tensor(means, dtype=torch.float64)
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.calls = 0
        self.rows = 0

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        self.calls += 1
        self.rows += len(x_t)
        alpha, sigma = self.schedule.alpha_sigma(t, x_t)
        return self.denoise(x_t / alpha, sigma / alpha)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x_0 | x] in VE scale."""
        variance = self.s**2 + sigma**2
        away = x[..., None] - self.means.to(x)
        share = torch.softmax(
            self.weights.to(x).log() - away**2 / (2 * variance[..., None]), dim=-1
        )
        gain = self.s**2 / variance
        return (share * (self.means.to(x) + gain[..., None] * away)).sum(-1)

    def log_density(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """log p_t(x_t) summed over all coordinates of each row."""
        variance = (alpha**2 * self.s**2 + sigma**2)[..., None]
        away = x_t[..., None] - alpha[..., None] * self.means.to(x_t)
        logs = self.weights.to(x_t).log() - away**2 / (2 * variance)
        logs = logs - 0.5 * (2 * math.pi * variance).log()
        return torch.logsumexp(logs, dim=-1).flatten(1).sum(1)

    def cdf(self, x: Tensor, sigma: float) -> Tensor:
        """P(X <= x) of one coordinate at noise `sigma`, in VE scale."""
        spread = math.sqrt(2 * (self.s**2 + sigma**2))
        return (
            0.5 * torch.special.erfc((self.means.to(x) - x[..., None]) / spread) * self.weights
        ).sum(-1)

    def quantile(self, p: Tensor, sigma: float) -> Tensor:
        """The x with cdf(x, sigma) = p, by bisection."""
        low, high = torch.full_like(p, -1e3), torch.full_like(p, 1e3)
        for _ in range(100):
            middle = (low + high) / 2
            over = self.cdf(middle, sigma) > p
            low, high = torch.where(over, low, middle), torch.where(over, middle, high)
        return (low + high) / 2

    def follow(self, x: Tensor, sigma: float, end: float) -> Tensor:
        """Where the ODE carries `x` from noise `sigma` to `end`: in one dimension it keeps the quantile."""
        return self.quantile(self.cdf(x, sigma), end)

    def embed(self, prompts: Sequence[Prompt]) -> Cond:
        return Cond(batch=len(prompts))


class Draws:
    """Unit noise in float64 from one generator."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.shape = shape
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self) -> Tensor:
        return torch.randn(self.shape, generator=self.generator, dtype=torch.float64)


class OneAtATime:
    """Noise that is 1 in row k + 1 of draw k and 0 elsewhere: a sampler that is affine shows its coefficients."""

    def __init__(self, rows: int) -> None:
        self.rows, self.count = rows, 0

    def draw(self) -> Tensor:
        z = torch.zeros(self.rows, 1, 1, 1, dtype=torch.float64)
        z[self.count + 2] = 1
        self.count += 1
        return z


def affine_law(run: Any, draws: int, mean: float, std: float) -> tuple[float, float, int]:
    """(mean, std, draws made) of what an affine sampler makes of N(mean, std^2), exactly, without sampling.

    `run(x, noise)`: the sampler on a batch. Row 0 starts from 0 without noise, row 1 from 1, row k + 2 takes draw k.
    """
    noise = OneAtATime(draws + 2)
    x = torch.zeros(draws + 2, 1, 1, 1, dtype=torch.float64)
    x[1] = 1
    out = run(x, noise).flatten()
    offset, of_x, of_z = out[0], out[1] - out[0], out[2:] - out[0]
    variance = (of_x * std) ** 2 + (of_z**2).sum()
    return float(offset + of_x * mean), float(variance.sqrt()), noise.count
