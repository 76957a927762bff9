"""Published editing loops, written from their papers, on the studio's own problems and models.

Each takes (model, problem, cond, noise, steps) and is a generator of asks that returns pictures `(B, 3, H, W)` in
[-1, 1], finished as published. Most were published for pixel-space models. Here the model is latent, so a projection
decodes the clean estimate, projects the pixels and encodes them again, and levels given for pixels of spread 1/2 are
doubled for latents of unit spread. What else is simplified is said at each loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lcm_studio.edits.problem import Known, Problem
from lcm_studio.edits.schedule import on_grid
from lcm_studio.maths.grids import karras_sigmas
from lcm_studio.maths.schedule import make_betas
from lcm_studio.models.kinds import kind_of
from lcm_studio.models.protocol import Cond
from lcm_studio.operators import Mask, project
from lcm_studio.sampling import Decode, Encode, Predict

Loop = Generator[Any, Any, Tensor]
SPREAD = 2.0  # sigma of latents for a sigma of pixels in [-1, 1]


def algorithm4(model: Any, problem: Problem, cond: Cond, noise: Any, steps: int) -> Loop:
    """Zero-shot editing (Song et al. 2023, Algorithm 4): sigma_max down the Karras grid, A+ y with zeros as the start.

    The levels are `steps` of Karras et al. 2022, eq. 5, between the model's own largest and smallest sigma, the last
    one excluded, as in the published sampler. The paper's denoising is another algorithm, and is not this one.
    Deblurring is not in the paper; its A+ is damped as ours is.
    """
    known = _known(problem)
    top, bottom = (model.schedule.ve_sigma(t) for t in _ends(model))
    sigmas = karras_sigmas(steps + 1, sigma_min=bottom, sigma_max=top).tolist()[:-1]
    levels = on_grid(sigmas, model)
    x0 = yield from _encode(known.op.pinv(known.y, known.damping_at(0)), model)
    for k, level in enumerate(levels):
        z = model.schedule.renoise(x0, noise.draw(), level)
        x0 = yield Predict(z, model.schedule.level_tensor(level, len(z)), cond)
        u = (yield from _decode(x0, model)).clamp(-1, 1)
        u = project(known.op, u, known.y, known.damping_at(k))
        if k + 1 < len(levels):
            x0 = yield from _encode(u, model)
    return u


# (i_N, gamma): Garber & Tirer 2025, the settings published with the method, without its optional deltas
CM4IR = {
    "inpaint": (150, 0.2),
    "outpaint": (150, 0.2),
    "superres2": (50, 0.01),
    "superres4": (400, 0.7),
    "superres8": (400, 0.7),
    "deblur": (75, 0.01),
}
CM4IR_ETA = 0.1


def cm4ir_sigmas(first: int, gamma: float, steps: int) -> list[float]:
    """Pixel sigmas sqrt(1 - abar): abar starts at DDPM's level `first` + 1 and grows by 1 + `gamma` each step."""
    bar = float(torch.cumprod(1 - make_betas("linear", 1e-4, 0.02, 1000), 0)[first + 1])
    sigmas = []
    for _ in range(steps):
        sigmas.append((1 - bar) ** 0.5)
        bar = min(bar * (1 + gamma), 0.9999)
    return sigmas


def cm4ir(
    model: Any,
    problem: Problem,
    cond: Cond,
    noise: Any,
    steps: int,
    *,
    task: str = "superres4",
) -> Loop:
    """CM4IR (Garber & Tirer 2025, Algorithm 1): A+ y + noise, back-projection, eta fresh and minus the estimated noise.

    eta 0.1, step size 1, and levels from i_N and gamma as published per task (those of its least noise). 8x is not in
    the paper and takes the levels of 4x; holes start from a smooth continuation in place of the paper's running median.
    y has no noise here, so zeta has no part, and deblurring is damped as ours is.
    """
    known = _known(problem)
    first, gamma = CM4IR[task]
    levels = [on_grid([s * SPREAD], model)[0] for s in cm4ir_sigmas(first, gamma, steps)]
    damping = known.damping_at(0)
    start = known.op.pinv(known.y, damping)
    z = yield from _encode(problem.start if _is_hole(known) else start, model)
    z = model.schedule.renoise(z, noise.draw(), levels[0])
    for k, level in enumerate(levels):
        t = model.schedule.level_tensor(level, len(z))
        x0 = yield Predict(z, t, cond)
        alpha, sigma = model.schedule.alpha_sigma(t, z)
        minus = (alpha * x0 - z) / sigma
        u = (yield from _decode(x0, model)).clamp(-1, 1)
        u = project(known.op, u, known.y, damping)
        if k + 1 < len(levels):
            x0 = yield from _encode(u, model)
            mixed = CM4IR_ETA * noise.draw() + (1 - CM4IR_ETA**2) ** 0.5 * minus
            z = model.schedule.renoise(x0, mixed, levels[k + 1])
    return u


LATINO_SIGMA_Y = 0.02  # of the published runs, for pixels in [-1, 1]


def latino(model: Any, problem: Problem, cond: Cond, noise: Any, steps: int) -> Loop:
    """LATINO (Spagnoletti et al. 2025, Algorithm 1): encode, noise, predict, decode, proximal step, again.

    The LCM's own grid of `steps` levels from the top. The proximal step has gamma = delta (1 - abar_t) / sigma_y^2,
    delta 1 above t = 500 and 1/2 below: what the published code has for holes; for other tasks it scales delta by the
    residual with constants per data set, which is left out. The result is a plain decode of the encoded proximal step,
    as in that code.
    """
    known = _known(problem)
    x0 = yield from _encode(problem.start, model)
    for level in model.grid(steps):
        z = model.schedule.renoise(x0, noise.draw(), level)
        t = model.schedule.level_tensor(level, len(z))
        x0 = yield Predict(z, t, cond)
        u = (yield from _decode(x0, model)).clamp(-1, 1)
        _, sigma = model.schedule.alpha_sigma(t[:1], z)
        delta = 1.0 if level > 500 else 0.5
        damping = max(LATINO_SIGMA_Y**2 / (delta * float(sigma) ** 2), known.damping_at(0))
        x0 = yield from _encode(project(known.op, u, known.y, damping), model)
    return (yield from _decode(x0, model))


def blended(model: Any, problem: Problem, cond: Cond, noise: Any, steps: int) -> Loop:
    """Mask blending as in diffusers' inpainting with a plain model: known cells are the noised original at each level.

    Strength 1, one fixed noise for the original, the mask sampled to the nearest cell, a plain decode. The original's
    hole holds the smooth continuation, so that nothing of the truth leaks.
    """
    known = _known(problem)
    levels = model.grid(steps)
    original = yield from _encode(problem.start, model)
    fixed = noise.draw()
    keep = F.interpolate(_keep(known).float(), tuple(fixed.shape[-2:]), mode="nearest").to(fixed)
    z = model.schedule.prior(fixed)
    for k, level in enumerate(levels):
        made = yield Predict(z, model.schedule.level_tensor(level, len(z)), cond)
        if k + 1 < len(levels):
            below = model.schedule.renoise(original, fixed, levels[k + 1])
            z = keep * below + (1 - keep) * model.schedule.renoise(
                made, noise.draw(), levels[k + 1]
            )
    return (yield from _decode(keep * original + (1 - keep) * made, model))


REPAINT_JUMP, REPAINT_PASSES = 4, 2


def travel(total: int, jump: int, passes: int) -> Iterator[tuple[int, int]]:
    """RePaint's walk over levels total - 1 ... 0, -1 (clean): pairs (from, to), up by `jump` between passes.

    Lugmayr et al. 2022, section 4.2: each stretch of `jump` levels is run `passes` times.
    """
    left = dict.fromkeys(range(0, total - jump, jump), passes - 1)
    t = total - 1
    while t >= 0:
        yield t, t - 1
        t -= 1
        if left.get(t, 0) > 0:
            left[t] -= 1
            yield t, t + jump
            t += jump


def repaint_levels(evaluations: int) -> int:
    """The most levels whose walk takes at most `evaluations` predictions (52 for 100)."""
    fits = [
        n
        for n in range(1, evaluations + 1)
        if sum(b < a for a, b in travel(n, REPAINT_JUMP, REPAINT_PASSES)) <= evaluations
    ]
    return fits[-1]


def repaint(model: Any, problem: Problem, cond: Cond, noise: Any, steps: int) -> Loop:
    """RePaint (Lugmayr et al. 2022, Algorithm 1) with jumps of 4 levels and 2 passes: 52 levels, 100 evaluations.

    The paper runs 250 levels, jumps of 10 and 10 passes (about 4,600 evaluations). In latents: the known part are the
    cells whose pixels are all known; known pixels are pasted at the end, which is exact in pixel space already.
    The forward steps of a jump are drawn as one, which has the same law.
    """
    known = _known(problem)
    levels = model.grid(repaint_levels(steps), kind=kind_of("plain"))[::-1]
    original = yield from _encode(problem.start, model)
    z = model.schedule.prior(noise.draw())
    keep = F.interpolate(_keep(known).float(), tuple(z.shape[-2:]), mode="area").floor().to(z)
    for a, b in travel(len(levels), REPAINT_JUMP, REPAINT_PASSES):
        here = model.schedule.level_tensor(levels[a], len(z))
        if b > a:
            there = model.schedule.level_tensor(levels[b], len(z))
            (alpha, sigma), (alpha2, sigma2) = (
                model.schedule.alpha_sigma(t, z) for t in (here, there)
            )
            ratio = alpha2 / alpha
            z = ratio * z + (sigma2**2 - (ratio * sigma) ** 2).clamp(min=0).sqrt() * noise.draw()
            continue
        made = yield Predict(z, here, cond)
        if b < 0:
            z = keep * original + (1 - keep) * made
        else:
            kept = model.schedule.renoise(original, noise.draw(), levels[b])
            z = keep * kept + (1 - keep) * _ancestral(model, z, made, levels[a], levels[b], noise)
    u = yield from _decode(z, model)
    return known.op.A(problem.start) + (1 - _keep(known).to(u)) * u


def _ancestral(model: Any, z: Tensor, x0: Tensor, level: float, lower: float, noise: Any) -> Tensor:
    """A draw of q(x_lower | x_level, x0) (Ho et al. 2020, eq. 7, as DDIM with eta 1)."""
    alpha, sigma = model.schedule.alpha_sigma(model.schedule.level_tensor(level, len(z)), z)
    alpha2, sigma2 = model.schedule.alpha_sigma(model.schedule.level_tensor(lower, len(z)), z)
    eps = (z - alpha * x0) / sigma
    extra = sigma2 * (1 - (alpha * sigma2 / (alpha2 * sigma)) ** 2).clamp(min=0).sqrt()
    return alpha2 * x0 + (sigma2**2 - extra**2).clamp(min=0).sqrt() * eps + extra * noise.draw()


DDNM_ETA = 0.85


def ddnm(
    model: Any, problem: Problem, cond: Cond, noise: Any, steps: int, *, sigma_y: float = 0.0
) -> Loop:
    """DDNM (Wang et al. 2023, Algorithm 1 and eq. 13): every clean estimate is projected; eta 0.85, no time travel.

    x_next = alpha x0' + sigma (eta n + sqrt(1 - eta^2) eps), eps the network's own. For a noisy y the projection is
    scaled by lambda_t of DDNM+ (eq. 19) with sigma_y doubled for latents, its noise term left as it is.
    """
    known = _known(problem)
    levels = model.grid(steps, kind=kind_of("plain"))
    noisy = sigma_y > 0
    z = model.schedule.prior(noise.draw())
    for k, level in enumerate(levels):
        t = model.schedule.level_tensor(level, len(z))
        x0 = yield Predict(z, t, cond)
        lower = levels[k + 1] if k + 1 < len(levels) else None
        u = (yield from _decode(x0, model)).clamp(-1, 1)
        share = 1.0
        if noisy:
            below = 0.0 if lower is None else model.schedule.ve_sigma(lower)
            share = min(1.0, below / (SPREAD * sigma_y))
        u = u + share * known.op.pinv(
            known.y - known.op.A(u), 0.0 if noisy else known.damping_at(0)
        )
        if lower is None:
            return u
        alpha, sigma = model.schedule.alpha_sigma(t, z)
        eps = (z - alpha * x0) / sigma
        x0 = yield from _encode(u, model)
        mixed = DDNM_ETA * noise.draw() + (1 - DDNM_ETA**2) ** 0.5 * eps
        z = model.schedule.renoise(x0, mixed, lower)
    raise AssertionError("a grid has at least one level")


def _known(problem: Problem) -> Known:
    if problem.known is None:
        raise ValueError("this loop needs a known part; give the problem of a task that has one")
    return problem.known


def _is_hole(known: Known) -> bool:
    return isinstance(known.op, Mask)


def _keep(known: Known) -> Tensor:
    """Ones where a pixel is known."""
    if not isinstance(known.op, Mask):
        raise ValueError(f"this loop is for holes, not for {type(known.op).__name__}")
    return known.op.keep


def _ends(model: Any) -> tuple[float, float]:
    """The model's highest and lowest level."""
    return model.grid(1)[0], model.grid(model.info.max_steps)[-1]


def _decode(x0: Tensor, model: Any) -> Generator[Any, Any, Tensor]:
    return (yield Decode(x0)) if model.latent else x0


def _encode(u: Tensor, model: Any) -> Generator[Any, Any, Tensor]:
    return (yield Encode(u.clamp(-1, 1).float())) if model.latent else u


LOOPS: dict[str, Callable[..., Loop]] = {
    "alg4": algorithm4,
    "cm4ir": cm4ir,
    "latino": latino,
    "blend": blended,
    "repaint": repaint,
    "ddnm": ddnm,
}
TEACHER_LOOPS = ("repaint", "ddnm")
