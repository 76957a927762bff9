"""Noise levels of the plane: x_t = x_0 + t z for t from T_MIN to T_MAX, and the frame that keeps the cloud in sight."""

from __future__ import annotations

import numpy as np

from lcm_studio.lab.plane_data import SIGMA_DATA
from lcm_studio.lab.plane_mixture import Floats

T_MIN, T_MAX, RHO = 0.01, 5.0, 7.0


def levels(count: int, *, low: float = T_MIN, high: float = T_MAX) -> Floats:
    """`count` falling levels from `high` to `low` (Karras et al. 2022, eq. 5), float64."""
    ramp = np.linspace(0.0, 1.0, count) if count > 1 else np.zeros(1)
    grid: Floats = (high ** (1 / RHO) + ramp * (low ** (1 / RHO) - high ** (1 / RHO))) ** RHO
    grid[0] = high
    if count > 1:
        grid[-1] = low
    return grid


def place(t: float) -> float:
    """Where a level stands on the slider: 0 at T_MAX, 1 at T_MIN, evenly on the grid of `levels`."""
    top, bottom = T_MAX ** (1 / RHO), T_MIN ** (1 / RHO)
    return float((top - max(t, T_MIN) ** (1 / RHO)) / (top - bottom))


def frame_scale(t: float) -> float:
    """The factor of the drawing at level t: SIGMA_DATA / sqrt(SIGMA_DATA^2 + t^2).

    x_t times it has the same spread at every level: variance exploding seen as variance preserving.
    """
    return float(SIGMA_DATA / (SIGMA_DATA**2 + t**2) ** 0.5)


def start(count: int, seed: int) -> Floats:
    """x_T `(count, 2)` ~ N(0, T_MAX^2 I), float32: the same for every sampler with this seed."""
    noise = np.random.default_rng(seed).standard_normal((count, 2))
    return (T_MAX * noise).astype(np.float32)
