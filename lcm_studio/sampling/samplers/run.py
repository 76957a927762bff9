"""A sampler with its two ends: from the model's prior to the clean estimate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lcm_studio.maths.solvers import ddim_step
from lcm_studio.models.protocol import Cond, Schedule
from lcm_studio.sampling.loop import Noise, Steps, multistep
from lcm_studio.sampling.samplers import langevin, ode, rk45, sde
from lcm_studio.sampling.samplers.grids import cost
from lcm_studio.sampling.samplers.walk import Sampler, Walk
from lcm_studio.sampling.ways import Way, way_of
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.samplers import SAMPLERS, sampler_info

TABLE: Mapping[str, Sampler] = {
    "langevin": langevin.annealed,
    "langevin-2020": langevin.annealed_2020,
    "sde": sde.euler_maruyama,
    "ancestral": sde.ancestral,
    "pc": sde.predictor_corrector,
    "ode-euler": ode.euler,
    "ode-heun": ode.heun,
    "dpmpp": ode.dpmpp,
    "rk45": rk45.rk45,
}


def steps_of(
    name: str,
    x_t: Tensor,
    levels: Sequence[float],
    cond: Cond,
    *,
    schedule: Schedule,
    noise: Noise,
    settings: Mapping[str, Any] | None = None,
    evaluations: int | None = None,
    together: bool = False,
    warnings: list[str] | None = None,
    way: Way | None = None,
    lead: Sequence[Cond] = (),
    guided_below: float = math.inf,
) -> Steps:
    """Samples from `x_t` `(B, ...)` at `levels[0]` by the sampler `name` of spec.samplers; returns x_0.

    `levels` fall (`grid_for`). `evaluations`: at most so many of the network; None = as the levels need. `together`: see
    `Walk`. `warnings` gets sentences for the user. `way`, `lead`: of `multistep`, where no score is followed;
    else the first of `lead` holds at the levels from `guided_below` up.
    Raises BadRequest for levels that do not fall, unknown names and wrong settings.
    """
    chosen = sampler_info(name).checked(settings or {})
    if not SAMPLERS[name].score:
        return (
            yield from multistep(
                x_t,
                levels,
                cond,
                schedule=schedule,
                noise=noise,
                way=way or way_of(schedule, name != "ddim"),
                lead=lead,
            )
        )
    if not levels or any(b >= a for a, b in itertools.pairwise(levels)):
        raise BadRequest(
            f"levels={list(levels)} do not fall; give at least one, in strictly falling order"
        )
    walk = Walk(
        schedule=schedule,
        cond=cond,
        noise=noise,
        early=lead[0] if lead and guided_below < math.inf else None,
        guided_below=guided_below,
        settings=chosen,
        evaluations=cost(name, levels, chosen, evaluations or len(levels)),
        together=together,
        warnings=[] if warnings is None else warnings,
    )
    return (yield from solve(TABLE[name], walk, x_t, levels))


def solve(sampler: Sampler, walk: Walk, x_t: Tensor, levels: Sequence[float]) -> Steps:
    """From x_t in the model's own scale to x_0: the sampler's way, then the clean estimate of its end.

    The clean estimate is Euler's step to sigma = 0 and Tweedie's denoising (Song et al. 2021 (SDE), app. G).
    """
    if math.isinf(walk.schedule.ve_sigma(levels[0])):
        x, levels = yield from _leave_pure_noise(walk, x_t, levels)
    else:
        x = x_t / walk.alpha_sigma(levels[0], x_t)[0]
    x = yield from sampler(walk, x, levels)
    if not walk.settings.get("denoise", True):
        return walk.alpha_sigma(levels[-1], x)[0] * x
    x0_hat = yield from walk.denoise(x, levels[-1])
    own_grid = walk.settings.get("spacing") == "model"
    if sampler is ode.euler and own_grid and not walk.schedule.ends_clean:
        return _as_diffusers_ends(walk, x, x0_hat, levels[-1])
    return x0_hat


def _leave_pure_noise(walk: Walk, x_t: Tensor, levels: Sequence[float]) -> Any:
    """(x, the levels that are left): where alpha = 0 there is no VE scale, and every sampler's step is DDIM's."""
    x0_hat = yield from walk.predict(
        x_t, walk.schedule.level_tensor(levels[0], len(x_t)), walk.cond_at(levels[0])
    )
    if len(levels) == 1:
        return x0_hat, levels
    return x0_hat + walk.sigma(levels[1], x_t) * x_t, levels[1:]


def _as_diffusers_ends(walk: Walk, x: Tensor, x0_hat: Tensor, level: float) -> Tensor:
    """At the lowest timestep instead of clean, where the model's own scheduler has it (set_alpha_to_one=false)."""
    eps = (x - x0_hat) / walk.sigma(level, x)
    return ddim_step(x0_hat, eps, *walk.alpha_sigma(0, x))
