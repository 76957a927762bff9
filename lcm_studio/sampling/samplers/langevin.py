"""Annealed Langevin dynamics: at every noise level some steps up the score, with noise (Song & Ermon 2019, 2020)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lcm_studio.maths.score import score
from lcm_studio.maths.sde import langevin_step, step_for
from lcm_studio.sampling.loop import Steps
from lcm_studio.sampling.samplers.walk import Walk


def annealed(walk: Walk, x: Tensor, levels: Sequence[float]) -> Steps:
    """Algorithm 1 of Song & Ermon 2019: T steps at each level, of size a_i = epsilon sigma_i^2 / sigma_L^2.

    `step` is epsilon / sigma_L^2, so that a_i = step sigma_i^2; it does not depend on the smallest level.
    """
    per_level = steps_per_level(
        walk.evaluations, len(levels), denoise=bool(walk.settings["denoise"])
    )
    return (yield from _anneal(walk, x, levels, per_level, float(walk.settings["step"])))


def annealed_2020(walk: Walk, x: Tensor, levels: Sequence[float]) -> Steps:
    """Song & Ermon 2020: many levels, few steps, and the step size under which each level ends with its own variance.

    Their step is x + a score + sqrt(2 a) z, which is `langevin_step` of size 2 a.
    """
    per_level = steps_per_level(walk.evaluations, len(levels), denoise=True)
    top, bottom = (walk.schedule.ve_sigma(level) for level in (levels[0], levels[-1]))
    gamma = (top / bottom) ** (1 / (len(levels) - 1))
    return (yield from _anneal(walk, x, levels, per_level, 2 * step_for(gamma, per_level)))


def steps_per_level(evaluations: int, levels: int, *, denoise: bool) -> int:
    """T, so that L levels and the last clean estimate need no more than `evaluations`; at least 1."""
    return max(1, (evaluations - denoise) // levels)


def _anneal(
    walk: Walk, x: Tensor, levels: Sequence[float], per_level: int, relative: float
) -> Steps:
    one = x.new_ones(())
    for level in levels:
        sigma = walk.sigma(level, x)
        for _ in range(per_level):
            x0_hat = yield from walk.denoise(x, level)
            x = langevin_step(
                x, score(x, x0_hat, one, sigma), walk.noise.draw().to(x), relative * sigma**2
            )
    return x
