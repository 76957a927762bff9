"""Single steps of Langevin dynamics and of the reverse SDE, as pure functions.

The forward SDE dx = f x dt + g dw has x_t = alpha_t x_0 + sigma_t eps for f = d log(alpha)/dt and
g^2 = alpha^2 d(sigma^2/alpha^2)/dt: the VP SDE for alpha^2 + sigma^2 = 1, the VE SDE for alpha = 1
(Song et al. 2021 (SDE), eq. 9 to 11). A step needs only the levels at its two ends: alpha, sigma where it starts and
alpha', sigma' where it ends, less noisy, all broadcasting on x.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

_TINY = 1e-20


def euler_maruyama_step(
    x: Tensor, score: Tensor, z: Tensor, start: tuple[Tensor, Tensor], end: tuple[Tensor, Tensor]
) -> Tensor:
    """x' = x - (F x - G^2 score) + G z for the reverse SDE dx = (f x - g^2 score) dt + g dw.

    F and G^2 are f dt and g^2 dt over the step, with what multiplies the change of alpha and of sigma/alpha frozen at
    `start` = (alpha, sigma). Song et al. 2021 (SDE), eq. 6; weak order 1.
    """
    (alpha, sigma), (alpha_end, sigma_end) = start, end
    drift = (alpha / alpha_end).log()
    variance = alpha**2 * ((sigma / alpha) ** 2 - (sigma_end / alpha_end) ** 2)
    return x - drift * x + variance * score + variance.sqrt() * z


def ancestral_step(
    x: Tensor, x0_hat: Tensor, z: Tensor, start: tuple[Tensor, Tensor], end: tuple[Tensor, Tensor]
) -> Tensor:
    """A draw of q(x' | x, x_0 = x0_hat), the posterior of the forward process between two levels.

    DDPM's sampler (Ho et al. 2020, eq. 7; DDIM with eta = 1) and, for alpha = 1, that of SMLD
    (Song et al. 2021 (SDE), eq. 47).
    """
    (alpha, sigma), (alpha_end, sigma_end) = start, end
    ratio = (sigma_end / alpha_end * alpha / sigma) ** 2
    mean = alpha_end * (x0_hat + ratio * (x / alpha - x0_hat))
    return mean + sigma_end * (1 - ratio).clamp(min=0).sqrt() * z


def langevin_step(x: Tensor, score: Tensor, z: Tensor, size: Tensor | float) -> Tensor:
    """x + (size / 2) score + sqrt(size) z: one step of Langevin dynamics (Song & Ermon 2019, eq. 4)."""
    root = size.sqrt() if isinstance(size, Tensor) else math.sqrt(size)
    return x + size / 2 * score + root * z


def corrector_size(score: Tensor, z: Tensor, ratio: float) -> Tensor:
    """Step size of the Langevin corrector, `(B, 1, ..., 1)`, in the convention of `langevin_step`.

    2 epsilon with epsilon = 2 (r |z| / |score|)^2 per image: `ratio` r is the signal-to-noise ratio
    (Song et al. 2021 (SDE), Algorithms 4 and 5, whose step is x + epsilon score + sqrt(2 epsilon) z).
    """
    shape = (-1, *(1,) * (score.ndim - 1))
    of_noise = torch.linalg.vector_norm(z.flatten(1), dim=1)
    of_score = torch.linalg.vector_norm(score.flatten(1), dim=1).clamp(min=_TINY)
    size: Tensor = 4 * (ratio * of_noise / of_score) ** 2
    return size.reshape(shape)


def levels_for(dimensions: int, largest: float, smallest: float) -> int:
    """How many geometric levels samples of `dimensions` numbers need between two noise levels.

    Song & Ermon 2020, technique 2: the ratio gamma of neighbours with
    Phi(sqrt(2 D) (gamma - 1) + 3 gamma) - Phi(sqrt(2 D) (gamma - 1) - 3 gamma) = 0.5.
    """

    def overlap(gamma: float) -> float:
        shift = math.sqrt(2 * dimensions) * (gamma - 1)
        return _normal_cdf(shift + 3 * gamma) - _normal_cdf(shift - 3 * gamma)

    gamma = _falling_root(lambda g: overlap(g) - 0.5, 1.0, 1e6)
    return max(2, 1 + math.ceil(math.log(largest / smallest) / math.log(gamma)))


def step_for(gamma: float, per_level: int) -> float:
    """The relative step size epsilon / sigma_L^2 for levels of ratio `gamma` > 1 with `per_level` steps each.

    Song & Ermon 2020, technique 4: with e the relative size and c = 2 e / (1 - (1 - e)^2), the variance that T steps
    leave is (1 - e)^(2T) (gamma^2 - c) + c times that of the level, and should be 1. Their step is
    x + a score + sqrt(2 a) z.
    """

    def off(e: float) -> float:
        settled = 2 * e / (1 - (1 - e) ** 2)
        return abs((1 - e) ** (2 * per_level) * (gamma**2 - settled) + settled - 1)

    grid = [10 ** (-4 + 4 * i / 2000) * 0.999 for i in range(2001)]
    return min(grid, key=off)


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _falling_root(f: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if f(middle) > 0 else (low, middle)
    return math.sqrt(low * high)
