"""What a learned answer is measured with: the exact consistency function, and distances of clouds and functions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from lcm_studio.lab.plane_levels import T_MIN, levels
from lcm_studio.lab.plane_mixture import Floats, Mixture
from lcm_studio.lab.plane_samplers import Denoise

STEPS = (
    48  # of Runge-Kutta 4 from T_MAX; tests hold its error against an adaptive solver of order 8
)
DIRECTIONS = 32


def path(denoise: Denoise, x: Floats, grid: Sequence[float] | Floats) -> list[Floats]:
    """The solution of the probability-flow ODE from x at grid[0], at every level of `grid` (falling or rising).

    Classical Runge-Kutta of order 4 in s with t = levels' own ramp, t = s^rho, where the path bends evenly.
    """
    from lcm_studio.lab.plane_levels import RHO

    def slope(s: float, at: Floats) -> Floats:
        t = s**RHO
        return (at - denoise(at, t)) * (RHO / s)  # dx/ds = (x - D) / t * dt/ds

    points = [x]
    for t, after in itertools.pairwise(grid):
        s, end = float(t) ** (1 / RHO), float(after) ** (1 / RHO)
        h = end - s
        k1 = slope(s, x)
        k2 = slope(s + h / 2, x + h / 2 * k1)
        k3 = slope(s + h / 2, x + h / 2 * k2)
        k4 = slope(end, x + h * k3)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        points.append(x)
    return points


def exact_consistency(mixture: Mixture, x: Floats, t: float, steps: int = STEPS) -> Floats:
    """f(x, t), where the ODE's path through x at level t ends: `(N, 2)` -> `(N, 2)`."""
    if t <= T_MIN:
        return x
    return path(mixture.denoise, x, levels(steps + 1, high=t))[-1]


def sliced_distance(a: Floats, b: Floats) -> float:
    """Sliced Wasserstein-2 distance of two clouds `(N, 2)`, `(M, 2)`: mean over directions in the half circle."""
    angles = np.pi * (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS
    directions = np.stack([np.cos(angles), np.sin(angles)])
    count = min(len(a), len(b))
    ranks = (np.arange(count) + 0.5) / count
    one = np.quantile(a @ directions, ranks, axis=0)
    other = np.quantile(b @ directions, ranks, axis=0)
    return float(np.sqrt(((one - other) ** 2).mean()))


def rms(difference: Floats) -> float:
    """Root mean square length of rows `(N, 2)`."""
    return float(np.sqrt((np.asarray(difference, dtype=np.float64) ** 2).sum(axis=1).mean()))


def score_error(denoise: Denoise, mixture: Mixture, t: float, x: Floats) -> float:
    """Relative error of a learned score at level t over points `x` of p_t: |s - s*| / |s*|, root mean squares."""
    exact = mixture.denoise(x, t)
    return rms(denoise(x, t) - exact) / max(rms(exact - x), 1e-12)
