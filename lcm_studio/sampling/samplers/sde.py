"""The reverse SDE: Euler-Maruyama, ancestral, predictor-corrector; VP and VE (Song et al. 2021 (SDE))."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor

from lcm_studio.maths.score import score
from lcm_studio.maths.sde import ancestral_step, corrector_size, euler_maruyama_step, langevin_step
from lcm_studio.sampling.loop import Steps
from lcm_studio.sampling.samplers.walk import Walk


def euler_maruyama(walk: Walk, x: Tensor, levels: Sequence[float]) -> Steps:
    """Fixed steps of dx = [f x - g^2 score] dt + g dw, in the model's own scale (eq. 6)."""
    for level, following in itertools.pairwise(levels):
        x = yield from _predictor(walk, x, level, following, "euler-maruyama")
    return x


def ancestral(walk: Walk, x: Tensor, levels: Sequence[float]) -> Steps:
    """Draws of q(x_t' | x_t, x0_hat) (Ho et al. 2020, eq. 7)."""
    for level, following in itertools.pairwise(levels):
        x = yield from _predictor(walk, x, level, following, "ancestral")
    return x


def predictor_corrector(walk: Walk, x: Tensor, levels: Sequence[float]) -> Steps:
    """A predictor's step to each level, then `corrector_steps` of Langevin dynamics there (Algorithms 1 to 5).

    The last level, which is all but clean, gets no corrector: its clean estimate is taken instead.
    """
    ratio, steps = float(walk.settings["snr"]), int(walk.settings["corrector_steps"])
    for level, following in itertools.pairwise(levels):
        x = yield from _predictor(walk, x, level, following, str(walk.settings["predictor"]))
        if following == levels[-1]:
            break
        one = x.new_ones(())
        for _ in range(steps):
            x0_hat = yield from walk.denoise(x, following)
            z = walk.noise.draw().to(x)
            s = score(x, x0_hat, one, walk.sigma(following, x))
            x = langevin_step(x, s, z, corrector_size(s, z, ratio))
    return x


def _predictor(walk: Walk, x: Tensor, level: float, following: float, kind: str) -> Steps:
    """One step between two levels, in the model's own scale x_t = alpha x."""
    start, end = walk.alpha_sigma(level, x), walk.alpha_sigma(following, x)
    x0_hat = yield from walk.denoise(x, level)
    x_t, z = start[0] * x, walk.noise.draw().to(x)
    if kind == "ancestral":
        x_t = ancestral_step(x_t, x0_hat, z, start, end)
    else:
        x_t = euler_maruyama_step(x_t, score(x_t, x0_hat, *start), z, start, end)
    return x_t / end[0]
