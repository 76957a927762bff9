"""The multistep loop. There is no other: generation, editing, teachers and validation all run through it."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from lcm_studio.maths.parameterization import partly_fresh
from lcm_studio.maths.solvers import ddim_step
from lcm_studio.models.protocol import Cond, Schedule
from lcm_studio.sampling.asks import Ask, Estimate, Predict
from lcm_studio.sampling.ways import Way
from lcm_studio.spec.errors import BadRequest

Steps: TypeAlias = Generator[Ask, Any, Tensor]


class Noise(Protocol):
    """A source of unit noise, one draw per call."""

    def draw(self) -> Tensor: ...


class Refine(Protocol):
    """Changes a clean estimate between prediction and renoising; may ask for Decode and Encode itself."""

    def __call__(self, x0_hat: Tensor, k: int, x_t: Tensor) -> Steps: ...


def multistep(
    x_t: Tensor,
    timesteps: Sequence[float],
    cond: Cond,
    *,
    schedule: Schedule,
    noise: Noise,
    refine: Refine | None = None,
    way: Way | None = None,
    lead: Sequence[Cond] = (),
    noise_scale: float = 1.0,
) -> Steps:
    """Samples from `x_t` `(B, C, H, W)` at level `timesteps[0]`; returns the last x0_hat, of the same shape.

    x0_hat = f(x_t, t); then on to the next level, the noise there c fresh and sqrt(1 - c^2) what the network took x_t to
    hold, before `refine` (`sampling.ways`). `refine` is the one hook of editing.
    `way`: what c is at each level, and where it ends; by default all noise is fresh (Song et al. 2023, Algorithm 1; Luo et
    al. 2023, Algorithm 3). An end that is not clean holds only where nothing is refined.
    Starting in the middle is passing x_t noised to `timesteps[0]`.
    `noise_scale`: of the fresh noise; below 1 the network is told more than is put in, as the estimate itself is off
    (Garber & Tirer 2025 (CM4IR), delta = 1 / noise_scale - 1).
    `lead`: the conditionings of the first levels, where they are others than `cond`.

    Raises BadRequest where `timesteps` is empty or does not fall.
    """
    if not timesteps:
        raise BadRequest("there are no steps to take; ask for at least one")
    if any(b >= a for a, b in itertools.pairwise(timesteps)):
        raise BadRequest(
            f"timesteps={list(timesteps)} do not fall; give them in strictly falling order"
        )
    if way is None:
        way = Way()
    total = len(timesteps)
    x0_hat = x_t
    for k, level in enumerate(timesteps):
        t = schedule.level_tensor(level, len(x_t))
        x0_hat = own = yield Predict(x_t, t, lead[k] if k < len(lead) else cond)
        if refine is not None:
            x0_hat = yield from refine(x0_hat, k, x_t)
        yield Estimate(k + 1, total, x0_hat)
        last = k + 1 == total
        target = way.target(level, None if last else timesteps[k + 1])
        if last and (target is None or refine is not None):
            break
        if target is None:
            x_t = x0_hat
        elif last or not (fresh := way.fresh(schedule, level, target)):
            x_t = _ddim(x0_hat, _noise_in(x_t, own, t, schedule), target, schedule)
        else:
            z = noise_scale * noise.draw()
            z = partly_fresh(x_t, own, *schedule.alpha_sigma(t, x_t), z, fresh)
            x_t = schedule.renoise(x0_hat, z, target)
        if last:
            return x_t
    return x0_hat


def _noise_in(x_t: Tensor, x0_hat: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """eps with x_t = alpha x0_hat + sigma eps."""
    alpha, sigma = schedule.alpha_sigma(t, x_t)
    return (x_t - alpha * x0_hat) / sigma.clamp(min=torch.finfo(sigma.dtype).tiny)


def _ddim(x0_hat: Tensor, eps: Tensor, level: float, schedule: Schedule) -> Tensor:
    """The sample at `level` with the noise `eps`."""
    alpha, sigma = schedule.alpha_sigma(schedule.level_tensor(level, len(x0_hat)), x0_hat)
    return ddim_step(x0_hat, eps, alpha, sigma)
