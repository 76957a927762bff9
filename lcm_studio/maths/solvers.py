"""One step of a probability-flow ODE solver."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor


def ddim_step(x0: Tensor, eps: Tensor, alpha_prev: Tensor, sigma_prev: Tensor) -> Tensor:
    """x at the earlier level, alpha' x0 + sigma' eps (Song et al. 2021, eq. 12 with eta = 0)."""
    return alpha_prev * x0 + sigma_prev * eps


def euler_step(x: Tensor, sigma: Tensor, sigma_next: Tensor, denoised: Tensor) -> Tensor:
    """First-order step of dx/dsigma = (x - D) / sigma; sigmas `(B, 1, 1, 1)`, sigma > 0."""
    return x + (sigma_next - sigma) * (x - denoised) / sigma


def heun_step(
    x: Tensor,
    sigma: Tensor,
    sigma_next: Tensor,
    denoise: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Second-order step (Karras et al. 2022, Alg. 1) from sigma to sigma_next, both > 0.

    `denoise(x, sigma)` is D(x; sigma); it is called twice.
    """
    slope = (x - denoise(x, sigma)) / sigma
    guess = x + (sigma_next - sigma) * slope
    slope_next = (guess - denoise(guess, sigma_next)) / sigma_next
    return x + (sigma_next - sigma) * (slope + slope_next) / 2


def dpmpp_2m_step(
    x: Tensor,
    x0: Tensor,
    levels: tuple[float, float],
    *,
    before: tuple[Tensor, float] | None = None,
) -> Tensor:
    """Second-order multistep step (Lu et al. 2022, DPM-Solver++, Algorithm 2) between two abars.

    `levels`: abar of `x` and, larger, of the result; `before`: the estimate x0 at the level before and
    its abar, or None for a first-order step, which is DDIM.
    """
    now, after = levels
    alpha, sigma, sigma_now = after**0.5, (1 - after) ** 0.5, (1 - now) ** 0.5
    step = _half_log_snr(after) - _half_log_snr(now)
    estimate = x0
    if before is not None:
        twice = 2 * (_half_log_snr(now) - _half_log_snr(before[1])) / step
        estimate = x0 + (x0 - before[0]) / twice
    result: Tensor = sigma / sigma_now * x + alpha * -math.expm1(-step) * estimate
    return result


def _half_log_snr(bar: float) -> float:
    """log(alpha / sigma); minus infinity for pure noise."""
    return 0.5 * (math.log(bar) - math.log1p(-bar)) if bar > 0 else -math.inf
