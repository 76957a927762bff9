"""How likely a picture is: the probability-flow ODE carries its density along, by the divergence of its slope."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lcm_studio.sampling.adaptive import Vector, integrate
from lcm_studio.sampling.asks import Ask
from lcm_studio.sampling.samplers.walk import Walk, slope
from lcm_studio.spec.errors import BadRequest

_REACH = (
    0.02  # of a difference quotient, in units of the noise: the scale that a denoiser changes on
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Likelihood:
    """`log_p` `(B,)`: natural logarithms, of the density at the lowest level. `x`: the noise reached, in VE scale."""

    log_p: Tensor
    x: Tensor


def log_likelihood(
    walk: Walk,
    x0: Tensor,
    levels: Sequence[float],
    *,
    tolerance: float = 1e-3,
    probes: Tensor | None = None,
) -> Generator[Ask, Any, Likelihood]:
    """log p_0(x0) = log p_T(x_T) + int div (dx/dsigma) dsigma for `x0` `(B, ...)` (Song et al. 2021 (SDE), eq. 39).

    `levels`: the two ends, falling. The divergence is that of (x - D) / sigma, where v . dD/dx v is a difference of two
    evaluations of D; over `probes` `(P, ...)` of mean 0 and covariance I it is Hutchinson's estimate, and over the
    axes (None) it is exact, for few dimensions. Solved by RK45 with `tolerance`, each image by itself.
    Raises BadRequest where `walk.evaluations` (of calls, each 1 + 2 P rows) do not suffice.
    """
    shape, size = x0.shape[1:], math.prod(x0.shape[1:])
    scale = 1.0
    if probes is None:
        probes, scale = (
            torch.eye(size, dtype=x0.dtype, device=x0.device).reshape(size, *shape),
            size,
        )
    directions = probes.to(x0)
    weight = scale / len(directions)

    def ask(points: Sequence[tuple[int, float, Vector]]) -> Generator[Ask, Any, list[Vector]]:
        values = []
        for row, sigma, y in points:
            x = torch.from_numpy(np.ascontiguousarray(y[:-1])).to(x0).reshape(1, *shape)
            reach = _REACH * sigma
            batch = torch.cat([x, x + reach * directions, x - reach * directions])
            at = torch.full((len(batch),), sigma, dtype=torch.float64)
            estimates = yield from walk.denoise_rows(batch, at, [row] * len(batch))
            ahead, behind = estimates[1:].chunk(2)
            trace = weight * float((directions * (ahead - behind)).double().sum()) / (2 * reach)
            change = slope(x, estimates[:1], x.new_tensor(sigma)).flatten().double().cpu().numpy()
            values.append(np.append(change, (size - trace) / sigma))
        return values

    end, start = (walk.schedule.ve_sigma(level) for level in levels)
    states = [np.append(row, 0.0) for row in x0.flatten(1).double().cpu().numpy()]
    solutions = yield from integrate(
        ask, states, start, end, tolerance=tolerance, most=walk.evaluations
    )
    if not all(s.finished for s in solutions):
        raise BadRequest(
            f"the likelihood needs more than {walk.evaluations} evaluations at tolerance={tolerance:g}; "
            "allow more or a larger tolerance"
        )
    reached = np.stack([s.y for s in solutions])
    x = torch.from_numpy(reached[:, :-1]).to(x0).reshape(x0.shape)
    spread = _prior_spread(walk, levels[0], x0)
    log_prior = -0.5 * (x.double() / spread).flatten(1).square().sum(1)
    log_prior = log_prior - size * (0.5 * math.log(2 * math.pi) + math.log(spread))
    return Likelihood(log_p=log_prior.cpu() + torch.from_numpy(reached[:, -1]), x=x)


def _prior_spread(walk: Walk, level: float, like: Tensor) -> float:
    """Standard deviation of what sampling starts from, in VE scale."""
    alpha, _ = walk.alpha_sigma(level, like)
    return float(walk.schedule.prior(torch.ones(())) / alpha.flatten()[0].double())


def rademacher(count: int, shape: Sequence[int], seed: int) -> Tensor:
    """Probes `(count, *shape)` of independent signs (Hutchinson 1990)."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (count, *shape), generator=generator)
    return signs.float() * 2 - 1
