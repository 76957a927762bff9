"""Inpainting by replacement, the ancestor of the edits: at every look the network sees the known part, noised to its level."""

from __future__ import annotations

from torch import Tensor

from lcm_studio.models.protocol import Schedule
from lcm_studio.sampling.asks import Predict
from lcm_studio.sampling.loop import Noise, Steps


def replaced(
    steps: Steps, known: Tensor, keep: Tensor, *, schedule: Schedule, noise: Noise
) -> Steps:
    """Any sampler's `steps`, with x_t <- keep (alpha y + sigma z) + (1 - keep) x_t before each evaluation, fresh z.

    `known`: y, `(B, ...)` as the network's samples are; `keep`: 1 where it is known, broadcasting on it. What comes back has y
    there. Steps of all samplers work on each number by itself (but for the size of a corrector's step), so it is the same as
    replacing within them. Song & Ermon 2019, Algorithm 2 (appendix B.3); Song et al. 2021 (SDE), appendix I.2.
    """
    try:
        ask = next(steps)
        while True:
            if isinstance(ask, Predict):
                alpha, sigma = schedule.alpha_sigma(ask.t, ask.x_t)
                noised = alpha * known.to(ask.x_t) + sigma * noise.draw().to(ask.x_t)
                seen = keep.to(noised) * noised + (1 - keep.to(noised)) * ask.x_t
                ask = Predict(seen, ask.t, ask.cond)
            value = yield ask
            ask = steps.send(value)
    except StopIteration as end:
        x0: Tensor = end.value
        return keep.to(x0) * known.to(x0) + (1 - keep.to(x0)) * x0
