"""The probability-flow ODE in steps that the solver chooses (Dormand-Prince 4(5), as Song et al. 2021 (SDE), sec. 4.3)."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lcm_studio.maths.solvers import euler_step
from lcm_studio.sampling.adaptive import Vector, integrate
from lcm_studio.sampling.asks import Ask
from lcm_studio.sampling.loop import Steps
from lcm_studio.sampling.samplers.walk import Walk, slope
from lcm_studio.spec.errors import BadRequest


def rk45(walk: Walk, x: Tensor, levels: Sequence[float]) -> Steps:
    """The ODE from the first to the last of `levels`, with `tolerance` for each image by itself.

    It is solved in y = x cos(theta) over theta = atan(sigma), where dy/dtheta = cos(theta) eps_hat - sin(theta) x0_hat: y has
    about the data's spread at every level, so that one tolerance means the same everywhere.
    One evaluation is kept for the last clean estimate, and a quarter for where the others do not suffice: then as many
    Euler steps, spaced as in Karras et al. 2022, go the rest of the way, and a warning says so.
    """
    start, end = (math.atan(walk.schedule.ve_sigma(level)) for level in (levels[0], levels[-1]))
    tolerance = float(walk.settings["tolerance"])
    kept = max(1, walk.evaluations // 4)
    groups = [range(len(x))] if walk.together else [range(i, i + 1) for i in range(len(x))]

    def ask(points: Sequence[tuple[int, float, Vector]]) -> Generator[Ask, Any, list[Vector]]:
        y = torch.cat([_samples(state, x) for _, _, state in points])
        rows = [row for group, _, _ in points for row in groups[group]]
        theta = _column([at for group, at, _ in points for _ in groups[group]], y)
        sample = y / theta.cos()
        x0_hat = yield from walk.denoise_rows(sample, theta.flatten().double().tan(), rows)
        eps_hat = slope(sample, x0_hat, theta.tan())
        change = iter((theta.cos() * eps_hat - theta.sin() * x0_hat).double().cpu().numpy())
        return [
            np.concatenate([next(change).ravel() for _ in groups[group]]) for group, _, _ in points
        ]

    solutions = yield from integrate(
        ask,
        [
            math.cos(start) * x[group.start : group.stop].flatten().double().cpu().numpy()
            for group in groups
        ],
        start,
        end,
        tolerance=tolerance,
        most=walk.evaluations - 1 - kept,
    )
    result = torch.cat([_samples(s.y / math.cos(s.t), x) for s in solutions])
    short = [i for i, s in enumerate(solutions) if not s.finished]
    if short and end > start:
        raise BadRequest(
            f"rk45 did not reach the noise within {walk.evaluations} evaluations at tolerance={tolerance:g}; "
            "allow more evaluations or a larger tolerance"
        )
    if short:
        reached = max(math.tan(solutions[i].t) for i in short)
        walk.warnings.append(
            f"rk45 needs more than {walk.evaluations} evaluations for tolerance={tolerance:g}; "
            f"from sigma={reached:.3g} on {kept} Euler steps took its place"
        )
        rows = [row for i in short for row in groups[i]]
        sigma = torch.tensor(
            [solutions[i].t for i in short for _ in groups[i]], dtype=torch.float64
        ).tan()
        result[rows] = yield from _by_euler(walk, result[rows], rows, sigma, math.tan(end), kept)
    return result


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    """One value for each row of `like`, broadcasting on it."""
    return torch.tensor(values, dtype=torch.float64).to(like).reshape(-1, *(1,) * (like.ndim - 1))


def _by_euler(
    walk: Walk, x: Tensor, rows: Sequence[int], sigma: Tensor, end: float, steps: int
) -> Steps:
    """`x` `(R, ...)`, each row from its own `sigma` `(R,)`, in `steps` to noise `end`."""
    wide = (-1, *(1,) * (x.ndim - 1))
    for k in range(steps):
        share = (steps - k - 1) / (steps - k)  # of what is left, in sigma^(1/7)
        following = (end ** (1 / 7) + share * (sigma ** (1 / 7) - end ** (1 / 7))) ** 7
        x0_hat = yield from walk.denoise_rows(x, sigma, rows)
        x = euler_step(x, sigma.to(x).reshape(wide), following.to(x).reshape(wide), x0_hat)
        sigma = following
    return x


def _samples(y: Vector, like: Tensor) -> Tensor:
    """The flat state of some samples as `(R, ...)`, in the shape and type of `like`."""
    return torch.from_numpy(np.asarray(y)).to(like).reshape(-1, *like.shape[1:])
