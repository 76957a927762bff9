"""A request's sampling settings, resolved for one model."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lcm_studio.images.control import rgb
from lcm_studio.maths.flow import FlowSchedule
from lcm_studio.models.kinds import Kind, kind_of, row_of
from lcm_studio.models.kinds.recognise import resolve
from lcm_studio.models.protocol import Cond, ImagePrompt, Model, Prompt
from lcm_studio.sampling.asks import Ask, Embed
from lcm_studio.sampling.samplers import grid_for
from lcm_studio.sampling.ways import Ancestral, Ode, Tcd, Way
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import Edit, Generate, Sampling
from lcm_studio.spec.samplers import SAMPLERS


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `multistep` and `steps_of` need: falling levels, the prompt, the sample's shape, the sampler.

    `way`: to the next level, where the sampler leaves that to the kind of model. `lead`: the prompts of the first levels, where
    they are conditioned otherwise than by `prompt`. `guided_below`: the level from which on guidance acts; a sampler that
    follows the score takes the first prompt of `lead` at those above it.
    """

    levels: tuple[float, ...]
    prompt: Prompt
    shape: tuple[int, int, int]
    way: Way
    kind: Kind
    sampler: str
    settings: Mapping[str, Any]
    evaluations: int
    lead: tuple[Prompt, ...] = ()
    guided_below: float = math.inf


def plan(request: Sampling, model: Model, width: int, height: int) -> Plan:
    """Resolves kind, steps, guidance and sampler of `request` for pictures of `width` x `height` pixels.

    Raises BadRequest where the model's grid does not have these steps.
    """
    info = resolve(request, model.info)
    kind = row_of(info)
    guidance = request.guidance
    if guidance is None:
        guidance = info.guidance_for(request.task if isinstance(request, Edit) else "")
    shape = model.sample_shape(width, height)
    sampler = request.sampler
    if sampler == "auto":
        sampler = "consistency" if info.consistency else "ddim"
    if SAMPLERS[sampler].score:
        way = Way()
    elif sampler == "ddim" and kind.way == "renoise":
        way = Ode(end=None if model.schedule.ends_clean else 0)
    else:
        spaced = request.timesteps is None and not kind.levels
        eta = info.eta if request.eta is None else request.eta
        way = kind_way(kind, model, steps=request.steps if spaced else None, eta=eta)
    prompt = Prompt(
        text=request.prompt,
        negative=request.negative,
        guidance=1.0 if info.guidance == "none" else guidance,
        label=request.class_label,
        width=width,
        height=height,
        kind=kind.name,
        embeddings=request.embeddings,
        clip_skip=request.clip_skip,
        image=image_prompt(request),
    )
    levels = _levels(sampler, request, model, shape, kind, (width, height))
    lead: tuple[Prompt, ...] = ()
    unguided = replace(prompt, guidance=1.0)
    below = guided_below(request, info, model)
    if request.guided_steps is not None and info.takes_guided_steps:
        lead, prompt = (prompt,) * request.guided_steps, unguided
    free = sum(level >= below for level in levels)
    if free and guidance != 1:
        lead = (unguided,) * free + lead[free:]
    return Plan(
        levels=levels,
        prompt=prompt,
        lead=lead,
        guided_below=below,
        shape=shape,
        way=way,
        kind=kind,
        sampler=sampler,
        settings=dict(request.sampler_settings),
        evaluations=request.steps,
    )


def guided_below(request: Sampling, info: ModelInfo, model: Model) -> float:
    """The level that is `guidance_start` of the way from noise to picture; inf where guidance acts from the first on."""
    if not isinstance(request, Generate) or info.guidance != "cfg":
        return math.inf
    start = request.guidance_start
    start = info.guidance_start if start is None else start
    if not start:
        return math.inf
    top = 1.0 if isinstance(model.schedule, FlowSchedule) else float(len(model.schedule))
    return (1 - start) * top


def image_prompt(request: Sampling) -> ImagePrompt | None:
    """The picture of the request's IP-Adapter."""
    spec = request.ip_adapter
    return None if spec is None else ImagePrompt(pixels=rgb(spec.image), strength=spec.strength)


def _levels(
    sampler: str,
    request: Sampling,
    model: Model,
    shape: tuple[int, int, int],
    kind: Kind,
    size: tuple[int, int],
) -> tuple[float, ...]:
    """The levels of the model's own grid, or those that a sampler which follows the score wants for its evaluations."""
    if request.timesteps is not None or not SAMPLERS[sampler].score:
        if sampler == "ddim" and kind.way == "renoise":
            kind = kind_of("plain")
        return tuple(model.grid(request.steps, request.timesteps, kind=kind, size=size))
    return grid_for(
        sampler,
        model.schedule,
        evaluations=request.steps,
        settings=request.sampler_settings,
        model_grid=lambda count: model.grid(count, kind=kind_of("plain")),
        dimensions=math.prod(shape),
    )


def by_seed(
    one: Cond, settled: Plan, model: Model, seeds: Sequence[int]
) -> Generator[Ask, Any, Cond]:
    """`one`, the conditioning of a single picture, for each of `seeds`.

    Where a class-conditional model is told no class, each seed draws its own, so that picture i stays that of its seed.
    """
    classes = model.info.classes
    if not classes or settled.prompt.label is not None:
        return one.repeat(len(seeds))
    prompts = tuple(replace(settled.prompt, label=seed % classes) for seed in seeds)
    each: Cond = yield Embed(prompts)
    return each


def kind_way(
    kind: Kind, model: Model, *, steps: int | None = None, eta: float | None = None
) -> Way:
    """The way to the next level that a kind has in stock diffusers.

    `steps`: how many the levels were spaced for, None where they were listed. `eta`: instead of the kind's own.
    """
    if kind.eta is not None and eta is None:
        eta = kind.eta
    if kind.way == "tcd":
        return Tcd(eta=0.3 if eta is None else eta)
    if kind.way == "ancestral":
        return Ancestral(unit_start=False)
    if kind.way == "renoise":
        return Way() if eta is None else Way(eta=eta)
    if kind.way == "euler":
        return Ode(unit_start=not kind.level_start)
    clean = bool(model.scheduler.get("set_alpha_to_one", True))
    stride = None if steps is None else float(len(model.schedule) // steps)
    return Ode(stride=stride, end=None if clean else 0)
