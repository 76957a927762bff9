"""Losses of pixel-space models on Karras noise levels: diffusion, and consistency of pairs.

A network F(c_in x, 250 ln sigma) is passed as `Network`; levels are float64 `(B,)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lcm_studio.maths.boundary import cm_scalings, edm_scalings
from lcm_studio.maths.solvers import euler_step, heun_step

Network = Callable[[Tensor, Tensor], Tensor]  # (c_in x (B, C, H, W), 250 ln sigma (B,)) -> F


def _wide(v: Tensor, like: Tensor) -> Tensor:
    return v.to(like).reshape(-1, *(1,) * (like.ndim - 1))


def noise_condition(sigma: Tensor) -> Tensor:
    """250 ln sigma: 1000 x EDM's c_noise, as diffusers' CMStochasticIterativeScheduler."""
    return 250 * (sigma + 1e-44).log()


def edm_output(network: Network, x: Tensor, sigma: Tensor, *, sigma_data: float = 0.5) -> Tensor:
    """D(x; sigma) = c_skip x + c_out F (Karras et al. 2022, eq. 7)."""
    c_skip, c_out, c_in = (_wide(c, x) for c in edm_scalings(sigma, sigma_data=sigma_data))
    return c_skip * x + c_out * network(c_in * x, noise_condition(sigma).to(x.device)).to(x.dtype)


def cm_output(
    network: Network, x: Tensor, sigma: Tensor, *, sigma_data: float = 0.5, sigma_min: float = 0.002
) -> Tensor:
    """f(x, sigma) with f(x, sigma_min) = x (Song et al. 2023, eq. 5 and appendix C)."""
    scalings = cm_scalings(sigma, sigma_data=sigma_data, sigma_min=sigma_min)
    c_skip, c_out, c_in = (_wide(c, x) for c in scalings)
    return c_skip * x + c_out * network(c_in * x, noise_condition(sigma).to(x.device)).to(x.dtype)


def edm_loss(
    network: Network, x0: Tensor, z: Tensor, sigma: Tensor, *, sigma_data: float = 0.5
) -> Tensor:
    """Weighted square error of the denoiser, mean (Karras et al. 2022, table 1)."""
    denoised = edm_output(network, x0 + _wide(sigma, x0) * z, sigma, sigma_data=sigma_data)
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    error = (denoised - x0).float().square().flatten(1).mean(1)
    return (weight.to(error) * error).mean()


@torch.no_grad()
def pf_ode_step(
    teacher: Network, x_t: Tensor, t: Tensor, s: Tensor, *, solver: str, sigma_data: float = 0.5
) -> Tensor:
    """x_s from x_t by one Heun or Euler step of the teacher's ODE, s < t."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return edm_output(teacher, x, sigma.flatten(), sigma_data=sigma_data)

    wide_t, wide_s = _wide(t, x_t), _wide(s, x_t)
    if solver == "heun":
        return heun_step(x_t, wide_t, wide_s, denoise)
    return euler_step(x_t, wide_t, wide_s, denoise(x_t, wide_t))


def pseudo_huber(a: Tensor, b: Tensor, c: float) -> Tensor:
    """sqrt(||a - b||^2 + c^2) - c of each example (Song & Dhariwal 2023, eq. 8); c = 0 is the norm."""
    square = (a - b).float().square().flatten(1).sum(1)
    return (square + c * c).clamp(min=1e-20).sqrt() - c


def pair_loss(
    student: Network,
    target: Network,
    *,
    x_t: Tensor,
    t: Tensor,
    x_s: Tensor,
    s: Tensor,
    weight: Tensor,
    c: float | None = None,
    sigma_data: float = 0.5,
    sigma_min: float = 0.002,
) -> Tensor:
    """weight x distance(f(x_t, t), f_target(x_s, s)) of each example, (B,).

    `c` is the constant of pseudo-Huber; None takes the mean square (Song et al. 2023, eq. 7 and 10).
    """
    options = {"sigma_data": sigma_data, "sigma_min": sigma_min}
    with torch.no_grad():
        wanted = cm_output(target, x_s, s, **options)
    found = cm_output(student, x_t, t, **options)
    if c is None:
        apart = (found - wanted).float().square().flatten(1).mean(1)
    else:
        apart = pseudo_huber(found, wanted, c)
    return weight.to(apart) * apart


def ct_levels(step: int, steps: int, s0: int, s1: int) -> int:
    """N(k) of consistency training (Song et al. 2023, appendix C)."""
    root = math.sqrt(step / steps * ((s1 + 1) ** 2 - s0**2) + s0**2)
    return math.ceil(root - 1) + 1


def ct_decay(levels: int, s0: int, mu0: float) -> float:
    """mu(k) = exp(s0 ln mu0 / N(k)) (Song et al. 2023, appendix C)."""
    return math.exp(s0 * math.log(mu0) / levels) if mu0 > 0 else 0.0


def ict_levels(step: int, steps: int, s0: int, s1: int) -> int:
    """N(k) = min(s0 2^floor(k / K'), s1) + 1: it doubles (Song & Dhariwal 2023, eq. 9)."""
    every = max(1, math.floor(steps / (math.log2(s1 // s0) + 1)))
    return min(s0 * 2 ** (step // every), s1) + 1


def lognormal_levels(u: Tensor, sigmas: Tensor, *, mean: float = -1.1, std: float = 2.0) -> Tensor:
    """Indices i into rising `sigmas` for uniform u: p(i) ~ mass of ln sigma in [ln s_i, ln s_i+1].

    Song & Dhariwal 2023, eq. 10. u (B,) in [0, 1); indices in [0, len(sigmas) - 2].
    """
    edges = torch.erf((sigmas.log() - mean) / (math.sqrt(2) * std))
    chances = (edges[1:] - edges[:-1]).clamp(min=0)
    steps = torch.cumsum(chances, 0) / chances.sum()
    return torch.searchsorted(steps, u.to(steps), right=True).clamp(max=len(sigmas) - 2)


def ect_partner(t: Tensor, stage: int, *, q: float = 2.0, k: float = 8.0, b: float = 1.0) -> Tensor:
    """r = t (1 - n(t) / q^stage) with n(t) = 1 + k sigmoid(-b t), at least 0 (Geng et al. 2024)."""
    n = 1 + k * torch.sigmoid(-b * t)
    return (t * (1 - n / q**stage)).clamp(min=0)
