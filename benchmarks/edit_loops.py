"""Published editing loops, written from their papers, on the studio's own problems and models.

Each takes (model, problem, cond, noise, steps) and returns pictures `(1, 3, H, W)` in [-1, 1], finished as published.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lcm_studio.edits.problem import Problem
from lcm_studio.edits.schedules import geometric, on_grid
from lcm_studio.models.protocol import Cond
from lcm_studio.operators import project


def _pixels(model: Any, z: Tensor, problem: Problem, k: int = 0) -> Tensor:
    u = model.decode(z).clamp(-1, 1)
    if problem.known is None:
        return u
    return project(problem.known.op, u, problem.known.y, problem.known.damping_at(k))


def algorithm4(model: Any, problem: Problem, cond: Cond, noise: Any, steps: int) -> Tensor:
    """Song et al. 2023, Algorithm 4, in latents: y's own fill, then the published Karras levels from the top."""
    levels = on_grid(geometric(14.0, 0.1, steps), model)
    known = problem.known
    assert known is not None
    x0 = model.encode(known.op.pinv(known.y, known.damping_at(0)).clamp(-1, 1))
    z = model.schedule.renoise(x0, noise.draw(), levels[0])
    for k, level in enumerate(levels):
        x0 = model.predict(z, model.schedule.level_tensor(level, 1), cond)
        u = _pixels(model, x0, problem, k)
        if k + 1 == len(levels):
            return u
        z = model.schedule.renoise(model.encode(u.clamp(-1, 1)), noise.draw(), levels[k + 1])
    raise AssertionError


def cm4ir(model: Any, problem: Problem, cond: Cond, noise: Any, steps: int) -> Tensor:
    """CM4IR: starts at A+ y, damped projection, and re-noises partly with minus the estimated noise."""
    levels = on_grid(geometric(1.2, 0.1, steps), model)
    known = problem.known
    assert known is not None
    fresh, eta = None, 0.1
    x0 = model.encode(problem.start)
    z = model.schedule.renoise(x0, noise.draw(), levels[0])
    for k, level in enumerate(levels):
        t = model.schedule.level_tensor(level, 1)
        x0 = model.predict(z, t, cond)
        u = model.decode(x0).clamp(-1, 1)
        u = project(known.op, u, known.y, max(known.damping_at(k), 0.05))
        if k + 1 == len(levels):
            return u
        alpha, sigma = model.schedule.alpha_sigma(t, z)
        fixed = model.encode(u.clamp(-1, 1))
        guess = (z - alpha * fixed) / sigma
        fresh = noise.draw()
        mixed = -((1 - eta) ** 0.5) * guess + eta**0.5 * fresh
        z = model.schedule.renoise(fixed, mixed, levels[k + 1])
    raise AssertionError


def latino(model: Any, problem: Problem, cond: Cond, noise: Any, steps: int) -> Tensor:
    """LATINO: encode, noise, predict, decode, proximal step, again; the output is a plain decode."""
    levels = on_grid(geometric(1.5, 0.1, steps), model)
    known = problem.known
    assert known is not None
    u = problem.start
    for k, level in enumerate(levels):
        z = model.schedule.renoise(model.encode(u.clamp(-1, 1)), noise.draw(), level)
        u = model.decode(model.predict(z, model.schedule.level_tensor(level, 1), cond)).clamp(-1, 1)
        if k + 1 < len(levels):
            u = project(known.op, u, known.y, max(known.damping_at(k), 0.02))
    return u


def blended(model: Any, problem: Problem, cond: Cond, noise: Any, steps: int) -> Tensor:
    """diffusers' mask blending: at each level the latents outside a nearest-sampled mask are the noised original."""
    levels = model.grid(steps)
    known = problem.known
    assert known is not None
    x0 = model.encode((known.y + (known.y == 0) * 0).clamp(-1, 1))
    cells = tuple(x0.shape[-2:])
    keep = torch.nn.functional.interpolate(known.op.keep, cells, mode="nearest")  # type: ignore[attr-defined]
    z = model.schedule.renoise(torch.zeros_like(x0), noise.draw(), levels[0])
    for k, level in enumerate(levels):
        made = model.predict(z, model.schedule.level_tensor(level, 1), cond)
        if k + 1 == len(levels):
            return model.decode(keep * x0 + (1 - keep) * made).clamp(-1, 1)
        fresh = noise.draw()
        z = keep * model.schedule.renoise(x0, fresh, levels[k + 1]) + (
            1 - keep
        ) * model.schedule.renoise(made, fresh, levels[k + 1])
    raise AssertionError


def _teacher_step(
    model: Any, z: Tensor, level: float, lower: float | None, x0: Tensor, noise: Any, eta: float
) -> Tensor:
    """DDIM with eta (Song et al. 2021, eq. 12) from `level` to `lower`."""
    if lower is None:
        return x0
    alpha, sigma = model.schedule.alpha_sigma(model.schedule.level_tensor(level, 1), z)
    alpha2, sigma2 = model.schedule.alpha_sigma(model.schedule.level_tensor(lower, 1), z)
    eps = (z - alpha * x0) / sigma
    extra = eta * (sigma2 / sigma) * (1 - (alpha / alpha2) ** 2).clamp(min=0).sqrt()
    return alpha2 * x0 + (sigma2**2 - extra**2).clamp(min=0).sqrt() * eps + extra * noise.draw()


def repaint(model: Any, problem: Problem, cond: Cond, noise: Any, steps: int) -> Tensor:
    """RePaint (Lugmayr et al. 2022) in latents: known cells noised at every level, two passes of each step."""
    levels = model.grid(steps // 2, consistency=False)
    known = problem.known
    assert known is not None
    x0 = model.encode(problem.start)
    keep = torch.nn.functional.interpolate(known.op.keep, tuple(x0.shape[-2:]), mode="area").floor()  # type: ignore[attr-defined]
    z = model.schedule.prior(noise.draw())
    made = x0
    for k, level in enumerate(levels):
        lower = levels[k + 1] if k + 1 < len(levels) else None
        for again in range(2):
            z = keep * model.schedule.renoise(x0, noise.draw(), level) + (1 - keep) * z
            made = model.predict(z, model.schedule.level_tensor(level, 1), cond)
            down = _teacher_step(model, z, level, lower, made, noise, 1.0)
            if again == 0 and lower is not None:
                a, s = model.schedule.alpha_sigma(model.schedule.level_tensor(level, 1), z)
                a2, s2 = model.schedule.alpha_sigma(model.schedule.level_tensor(lower, 1), z)
                ratio = a / a2
                z = ratio * down + (s**2 - (ratio * s2) ** 2).clamp(min=0).sqrt() * noise.draw()
        z = down
    return model.decode(keep * x0 + (1 - keep) * made).clamp(-1, 1)


def ddnm(model: Any, problem: Problem, cond: Cond, noise: Any, steps: int) -> Tensor:
    """DDNM (Wang et al. 2022) in latents: the clean estimate of every step is projected, eta 0.85."""
    levels = model.grid(steps, consistency=False)
    z = model.schedule.prior(noise.draw())
    for k, level in enumerate(levels):
        x0 = model.predict(z, model.schedule.level_tensor(level, 1), cond)
        u = _pixels(model, x0, problem, len(levels))
        if k + 1 == len(levels):
            return u
        z = _teacher_step(model, z, level, levels[k + 1], model.encode(u.clamp(-1, 1)), noise, 0.85)
    raise AssertionError


LOOPS: dict[str, Callable[..., Tensor]] = {
    "alg4": algorithm4,
    "cm4ir": cm4ir,
    "latino": latino,
    "blend": blended,
    "repaint": repaint,
    "ddnm": ddnm,
}
