"""A request's sampling settings, resolved for one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lcm_studio.models.protocol import Model, Prompt
from lcm_studio.spec.requests import Edit, Sampling

if TYPE_CHECKING:
    from lcm_studio.spec.models import ModelInfo


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `multistep` needs: falling levels, the prompt, the sample's shape and the way back up."""

    levels: tuple[float, ...]
    prompt: Prompt
    shape: tuple[int, int, int]
    deterministic: bool


def uses_consistency(request: Sampling, info: ModelInfo) -> bool:
    """Whether f is a consistency function here: by the model, or by an LCM-LoRA (its file name says lcm)."""
    if request.sampler != "auto":
        return request.sampler == "consistency"
    return info.consistency or any(
        "lcm" in lora.path.replace("\\", "/").rsplit("/", 1)[-1].lower() for lora in request.loras
    )


def plan(request: Sampling, model: Model, width: int, height: int) -> Plan:
    """Resolves steps, guidance and sampler of `request` for pictures of `width` x `height` pixels.

    Raises BadRequest where the model's grid does not have these steps.
    """
    consistency = uses_consistency(request, model.info)
    guidance = request.guidance
    if guidance is None:
        guidance = model.info.guidance_for(request.task if isinstance(request, Edit) else "")
    return Plan(
        levels=tuple(model.grid(request.steps, request.timesteps, consistency=consistency)),
        prompt=Prompt(
            text=request.prompt,
            negative=request.negative,
            guidance=guidance,
            label=request.class_label,
            width=width,
            height=height,
            consistency=consistency,
        ),
        shape=model.sample_shape(width, height),
        deterministic=not consistency,
    )
