"""A picture up the probability-flow ODE to its noise, and back: inversion, with what the round trip loses."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lcm_studio.lab.film import Camera, generate_of, never
from lcm_studio.lab.lanes import Show, check_frames, events, on_lane
from lcm_studio.models.kinds import kind_of
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.lab import Inversion, Inverted, System
from lcm_studio.spec.samplers import sampler_info
from lcm_studio.spec.settings import to_settings

if TYPE_CHECKING:
    from torch import Tensor

    from lcm_studio.engine import Engine
    from lcm_studio.models.load import LoadedModel
    from lcm_studio.models.protocol import Cond
    from lcm_studio.sampling import Ask
    from lcm_studio.spec.owners import Owner
    from lcm_studio.spec.requests import Pixels

PROBES = 2
LIKELIHOOD_CALLS = 400


def invert(
    engine: Engine,
    request: Inversion,
    cancelled: Callable[[], bool] = never,
    *,
    owner: Owner | None = None,
) -> Iterator[Any]:
    """Frames of both ways; the last event is Inverted, Failed or Stopped."""
    return events(_inverted(engine, request, cancelled, owner))


def _inverted(
    engine: Engine, request: Inversion, cancelled: Callable[[], bool], owner: Owner | None
) -> Generator[Any, None, Inverted]:
    info = engine.info(request.model)
    image = request.image
    if getattr(image, "ndim", 0) != 3 or image.shape[2] not in (3, 4):
        raise BadRequest("image: give a colour picture, (height, width, 3)")
    height, width = image.shape[:2]
    settings = _settings(request)
    system = System(
        model=request.model,
        sampler=request.sampler,
        evaluations=request.evaluations,
        settings=settings,
    )
    check_frames(request.frames)
    asked = replace(generate_of(request, system), width=width, height=height)
    warnings = engine.validate(asked)
    if sampler_info(request.sampler).family != "ode" or not sampler_info(request.sampler).score:
        raise BadRequest(
            f"sampler={request.sampler!r} has no way up; use ode-heun, ode-euler, dpmpp or rk45"
        )

    def make(model: LoadedModel, show: Show) -> Generator[Ask, Any, dict[str, Any]]:
        return _session(request, settings, model, show)

    outcome = yield from on_lane(engine, request.model, make, cancelled, owner)
    about = to_settings(asked, info, task="invert", width=width, height=height)
    return Inverted(
        **outcome.result,
        evaluations=outcome.evaluations,
        seconds=outcome.seconds,
        settings=about,
        warnings=warnings,
    )


def _settings(request: Inversion) -> dict[str, Any]:
    """The sampler's settings; levels are spaced by sigma, since a scheduler's own grid may not reach the clean end."""
    takes = {s.name for s in sampler_info(request.sampler).settings}
    return ({"spacing": "karras"} if "spacing" in takes else {}) | dict(request.settings)


def _session(
    request: Inversion, settings: dict[str, Any], model: LoadedModel, show: Show
) -> Generator[Ask, Any, dict[str, Any]]:
    import torch

    from lcm_studio.engine.generate import blacken
    from lcm_studio.maths.pixels import from_pixels, to_pixels
    from lcm_studio.models.protocol import Prompt
    from lcm_studio.sampling import Check, Decode, Embed, Encode, grid_for

    height, width = request.image.shape[:2]
    source = from_pixels((request.image[..., :3],)).to(model.device)
    z0 = yield Encode(source)
    prompt = Prompt(
        text=request.prompt,
        negative=request.negative,
        guidance=request.guidance,
        label=request.class_label,
        width=width,
        height=height,
        kind="plain",
    )
    cond = yield Embed((prompt,))
    levels = grid_for(
        request.sampler,
        model.schedule,
        evaluations=request.evaluations,
        settings=settings,
        model_grid=lambda count: model.grid(count, kind=kind_of("plain")),
    )
    if math.isinf(model.schedule.ve_sigma(levels[0])):
        levels = levels[
            1:
        ]  # the highest level with a trace of signal: none leads back from pure noise
    x_T = yield from _go(request, settings, model, cond, z0, levels[::-1], show, way=0)
    back = yield from _go(request, settings, model, cond, x_T, levels, show, way=1)
    unit = x_T / _spread(model, levels[0])
    alpha, _ = model.schedule.alpha_sigma(model.schedule.level_tensor(levels[-1], 1), back)
    decoded = yield Decode(torch.cat([unit, alpha * back, z0]))
    flags = yield Check(decoded)
    noise, image, again = blacken(to_pixels(decoded), flags)
    bits = None
    if request.likelihood:
        bits = yield from _bits(request, model, cond, z0, (levels[0], levels[-1]))
    return {
        "noise": noise,
        "image": image,
        "noise_std": float(unit.std()),
        "bits_per_dim": bits,
        "round_trip": _round_trip(request.image[..., :3], again, image)
        | {"latent_rmse": float((alpha * back - z0).square().mean().sqrt())},
    }


def _go(
    request: Inversion,
    settings: dict[str, Any],
    model: LoadedModel,
    cond: Cond,
    x: Tensor,
    levels: tuple[float, ...],
    show: Show,
    *,
    way: int,
) -> Generator[Ask, Any, Tensor]:
    """`x` in VE scale from the first of `levels` to the last, up or down, with frames."""
    from lcm_studio.sampling import SeededNoise, recorded
    from lcm_studio.sampling.samplers.grids import cost
    from lcm_studio.sampling.samplers.run import TABLE
    from lcm_studio.sampling.samplers.walk import Walk

    chosen = sampler_info(request.sampler).checked(settings)
    walk = Walk(
        schedule=model.schedule,
        cond=cond,
        noise=SeededNoise((request.seed,), (x.shape[1], x.shape[2], x.shape[3])),
        settings=chosen,
        evaluations=cost(request.sampler, levels, settings, request.evaluations),
    )
    camera = Camera(model, show, system=way, frames=request.frames // 2, total=walk.evaluations)
    moved: Tensor = yield from recorded(TABLE[request.sampler](walk, x, levels), camera)
    return moved


def _bits(
    request: Inversion, model: LoadedModel, cond: Cond, z0: Tensor, ends: tuple[float, float]
) -> Generator[Ask, Any, float]:
    """Bits per number: of the latents, or of an 8-bit picture in a pixel model (its step is 2/255)."""
    from lcm_studio.sampling import SeededNoise
    from lcm_studio.sampling.likelihood import log_likelihood, rademacher
    from lcm_studio.sampling.samplers.walk import Walk

    shape = (z0.shape[1], z0.shape[2], z0.shape[3])
    walk = Walk(
        schedule=model.schedule,
        cond=cond,
        noise=SeededNoise((request.seed,), shape),
        evaluations=LIKELIHOOD_CALLS,
    )
    found = yield from log_likelihood(
        walk, z0, ends, probes=rademacher(PROBES, shape, request.seed)
    )
    bits = -float(found.log_p[0]) / math.prod(shape) / math.log(2)
    return bits if model.latent else bits + math.log2(255 / 2)


def _spread(model: LoadedModel, level: float) -> float:
    """Spread of what sampling starts from, in VE scale."""
    import torch

    one = torch.ones(1, 1, 1, 1)
    alpha, _ = model.schedule.alpha_sigma(model.schedule.level_tensor(level, 1), one)
    return float(model.schedule.prior(one) / alpha)


def _round_trip(source: Pixels, again: Pixels, image: Pixels) -> dict[str, float]:
    """What the ODE lost, of what the autoencoder makes of the picture, and what the autoencoder loses by itself."""
    import numpy as np

    error = np.abs(image.astype(float) - again.astype(float))
    rmse = math.sqrt(float((error**2).mean()))
    lost = source.astype(float) - again.astype(float)
    return {
        "rmse": rmse,
        "max": float(error.max()),
        "psnr": math.inf if rmse == 0 else 20 * math.log10(255 / rmse),
        "autoencoder_rmse": math.sqrt(float((lost**2).mean())),
    }
