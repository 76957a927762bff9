"""The probability-flow ODE in fixed steps: Euler, Heun, DPM-Solver++ (2M). Down for pictures, up for inversion."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor

from lcm_studio.maths.solvers import dpmpp_2m_step, euler_step
from lcm_studio.sampling.loop import Steps
from lcm_studio.sampling.samplers.walk import Walk, slope


def euler(walk: Walk, x: Tensor, levels: Sequence[float]) -> Steps:
    """x' = x + (sigma' - sigma) dx/dsigma: DDIM (Song et al. 2021 (DDIM), eq. 13)."""
    for level, following in itertools.pairwise(levels):
        x0_hat = yield from walk.denoise(x, level)
        x = euler_step(x, walk.sigma(level, x), walk.sigma(following, x), x0_hat)
    return x


def heun(walk: Walk, x: Tensor, levels: Sequence[float]) -> Steps:
    """The mean of the slopes at both ends of an Euler step (Karras et al. 2022, Algorithm 1 without churn)."""
    for level, following in itertools.pairwise(levels):
        sigma, sigma_next = walk.sigma(level, x), walk.sigma(following, x)
        first = slope(x, (yield from walk.denoise(x, level)), sigma)
        guess = x + (sigma_next - sigma) * first
        second = slope(guess, (yield from walk.denoise(guess, following)), sigma_next)
        x = x + (sigma_next - sigma) * (first + second) / 2
    return x


def dpmpp(walk: Walk, x: Tensor, levels: Sequence[float]) -> Steps:
    """DPM-Solver++ (2M) (Lu et al. 2022, Algorithm 2); the first step is DDIM's."""
    before: tuple[Tensor, float] | None = None
    for level, following in itertools.pairwise(levels):
        x0_hat = yield from walk.denoise(x, level)
        here, there = (1 / (1 + walk.schedule.ve_sigma(s) ** 2) for s in (level, following))
        x = dpmpp_2m_step(here**0.5 * x, x0_hat, (here, there), before=before) / there**0.5
        before = x0_hat, here
    return x
