"""A request's sampling settings, resolved for one model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lcm_studio.models.protocol import Model, Prompt
from lcm_studio.sampling.samplers import grid_for
from lcm_studio.sampling.ways import Way, way_of
from lcm_studio.spec.requests import Edit, Sampling, lcm_lora
from lcm_studio.spec.samplers import SAMPLERS

if TYPE_CHECKING:
    from lcm_studio.spec.models import ModelInfo


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `multistep` and `steps_of` need: falling levels, the prompt, the sample's shape, the sampler and its way."""

    levels: tuple[float, ...]
    prompt: Prompt
    shape: tuple[int, int, int]
    way: Way
    sampler: str
    settings: Mapping[str, Any]
    evaluations: int


def uses_consistency(request: Sampling, info: ModelInfo) -> bool:
    """Whether f is a consistency function here: by the model, or by an LCM-LoRA (its file name says lcm)."""
    if request.sampler != "auto":
        return request.sampler == "consistency"
    return info.consistency or lcm_lora(request.loras)


def plan(request: Sampling, model: Model, width: int, height: int) -> Plan:
    """Resolves steps, guidance and sampler of `request` for pictures of `width` x `height` pixels.

    Raises BadRequest where the model's grid does not have these steps.
    """
    consistency = uses_consistency(request, model.info)
    guidance = request.guidance
    if guidance is None:
        guidance = model.info.guidance_for(request.task if isinstance(request, Edit) else "")
    shape = model.sample_shape(width, height)
    sampler = request.sampler
    if sampler == "auto":
        sampler = "consistency" if consistency else "ddim"
    return Plan(
        levels=_levels(sampler, request, model, shape, consistency=consistency),
        prompt=Prompt(
            text=request.prompt,
            negative=request.negative,
            guidance=guidance,
            label=request.class_label,
            width=width,
            height=height,
            consistency=consistency,
        ),
        shape=shape,
        way=way_of(model.schedule, consistency),
        sampler=sampler,
        settings=dict(request.sampler_settings),
        evaluations=request.steps,
    )


def _levels(
    sampler: str,
    request: Sampling,
    model: Model,
    shape: tuple[int, int, int],
    *,
    consistency: bool,
) -> tuple[float, ...]:
    """The levels of the model's own grid, or those that a sampler which follows the score wants for its evaluations."""
    if request.timesteps is not None or not SAMPLERS[sampler].score:
        return tuple(model.grid(request.steps, request.timesteps, consistency=consistency))
    return grid_for(
        sampler,
        model.schedule,
        evaluations=request.steps,
        settings=request.sampler_settings,
        model_grid=lambda count: model.grid(count, consistency=False),
        dimensions=math.prod(shape),
    )
