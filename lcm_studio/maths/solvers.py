"""One step of a probability-flow ODE solver."""

from __future__ import annotations

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
