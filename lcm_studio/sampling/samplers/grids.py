"""The noise levels that a sampler visits for a number of evaluations, and the evaluations that levels cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from lcm_studio.maths.grids import karras_sigmas
from lcm_studio.maths.sde import levels_for
from lcm_studio.models.protocol import Schedule
from lcm_studio.sampling.samplers.langevin import steps_per_level
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.samplers import sampler_info

ModelGrid = Callable[[int], Sequence[float]]
_RHO = 7.0


def grid_for(
    name: str,
    schedule: Schedule,
    *,
    evaluations: int,
    settings: Mapping[str, Any] | None = None,
    model_grid: ModelGrid | None = None,
    dimensions: int = 3 * 64 * 64,
) -> tuple[float, ...]:
    """Falling levels for a sampler that follows the score, so that it needs at most `evaluations`.

    `model_grid(n)`: n levels of the model's own scheduler; without one, Karras spacing takes its place.
    `dimensions`: numbers in one sample, which the 2020 choices depend on. Raises BadRequest for too few evaluations.
    """
    row = sampler_info(name)
    chosen = row.checked(settings or {})
    if evaluations < row.least:
        raise BadRequest(f"{name} needs at least {row.least} evaluations, not {evaluations}")
    if name == "rk45":
        return spaced(schedule, 2, "log-snr")
    if row.family == "langevin":
        return spaced(
            schedule, _annealing_levels(name, schedule, evaluations, chosen, dimensions), "log-snr"
        )
    count = _count(name, evaluations, chosen)
    spacing = str(chosen["spacing"])
    if spacing == "model" and model_grid is not None:
        return tuple(model_grid(count))
    levels = spaced(schedule, count, "karras" if spacing == "model" else spacing)
    if model_grid is not None:
        top = model_grid(1)[0]
        if (
            math.isinf(schedule.ve_sigma(top)) and count > 1
        ):  # pure noise lies above every finite level
            return (top, *spaced(schedule, count - 1, spacing))
    return levels


def cost(name: str, levels: Sequence[float], settings: Mapping[str, Any], evaluations: int) -> int:
    """Network evaluations of one image, the last clean estimate with them; of rk45 the most that it may use."""
    count, chosen = len(levels), sampler_info(name).checked(settings)
    if name == "rk45":
        return evaluations
    if name == "ode-heun":
        return 2 * count - 1
    if name == "pc":
        return count + max(0, count - 2) * int(chosen["corrector_steps"])
    if name.startswith("langevin"):
        denoise = bool(chosen.get("denoise", True))
        return count * steps_per_level(evaluations, count, denoise=denoise) + denoise
    return count


def spaced(schedule: Schedule, count: int, spacing: str) -> tuple[float, ...]:
    """`count` falling levels from the schedule's highest finite one to its lowest, both included; one is the highest."""
    ends = schedule.levels_at(torch.tensor([math.inf, 0.0], dtype=torch.float64))
    top, bottom = (schedule.ve_sigma(float(level)) for level in ends)
    if spacing == "karras":
        sigmas = karras_sigmas(count, sigma_min=bottom, sigma_max=top, rho=_RHO)
    elif count == 1:
        sigmas = torch.tensor([top], dtype=torch.float64)
    else:
        steps = torch.linspace(0, 1, count, dtype=torch.float64)
        sigmas = top * (bottom / top) ** steps
    levels = [float(level) for level in schedule.levels_at(sigmas)]
    if count > 1:  # the ends exactly, whatever the powers round to
        levels[0], levels[-1] = float(ends[0]), float(ends[1])
    return tuple(levels)


def _count(name: str, evaluations: int, settings: Mapping[str, Any]) -> int:
    if name == "ode-heun":
        return (evaluations + 1) // 2
    if name == "pc":
        corrections = int(settings["corrector_steps"])
        return max(2, (evaluations + 2 * corrections) // (1 + corrections))
    return evaluations


def _annealing_levels(
    name: str, schedule: Schedule, evaluations: int, settings: Mapping[str, Any], dimensions: int
) -> int:
    if name == "langevin":
        return max(2, min(int(settings["levels"]), evaluations - bool(settings["denoise"])))
    top, bottom = (schedule.ve_sigma(level) for level in spaced(schedule, 2, "log-snr"))
    wanted = levels_for(dimensions, top, bottom)
    return max(2, min(wanted, (evaluations - 1) // int(settings["per_level"])))
