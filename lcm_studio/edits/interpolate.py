"""A path between two pictures, two prompts or two seeds; the end pictures stay what they are."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lcm_studio.edits.finish import to_bytes
from lcm_studio.edits.geometry import check_size, resize
from lcm_studio.edits.options import Options
from lcm_studio.edits.prepare import (
    emphasis_of,
    eta_of,
    frame_for,
    levels_of,
    noise_scale_of,
    picture,
    room,
    split,
    tensor,
)
from lcm_studio.edits.problem import Outcome
from lcm_studio.edits.prompts import emphasised
from lcm_studio.edits.schedules import from_strength
from lcm_studio.models.protocol import Cond, Model
from lcm_studio.sampling import (
    Ask,
    Check,
    Compute,
    Decode,
    Embed,
    Encode,
    Finished,
    SeededNoise,
    multistep,
    plan,
)
from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lcm_studio.spec.requests import Edit, Pixels

MAX_FRAMES = 64
KINDS = ("pictures", "prompts", "seeds")
OPTIONS = ("frames", "path", "strength", "kind", "prompt_b", "seed_b")


def slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Along the great circle from `a` to `b`, each image `(B, ...)` with its own angle.

    psi = arccos(<a, b> / (|a| |b|)) per image: a norm over the whole batch, as in some ports, is not it.
    Nearly parallel images are mixed linearly.
    """
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    cos = (flat_a * flat_b).sum(1) / (flat_a.norm(dim=1) * flat_b.norm(dim=1)).clamp(min=1e-12)
    psi = cos.clamp(-1, 1).arccos().reshape(-1, *(1,) * (a.ndim - 1))
    sin = psi.sin()
    line = torch.lerp(a, b, weight)
    circle = ((1 - weight) * psi).sin() / sin * a + (weight * psi).sin() / sin * b
    return torch.where(sin.abs() < 1e-4, line, circle)


def interpolate_session(
    request: Edit, model: Model, seeds: tuple[int, ...], rows: int
) -> Generator[Ask, Any, Outcome]:
    """Frames of the path, first and last included; `seeds[0]` is the seed of all of them.

    Two pictures: both are noised alike to a middle level, the path runs between them there, and each frame
    is sampled from it. Two seeds or prompts: the path runs between the initial noises or conditionings.
    """
    options = Options("interpolate", request.options, OPTIONS)
    frames = options.whole("frames", 9, 2, MAX_FRAMES)
    kind = options.choice("kind", "pictures", KINDS)
    path = options.choice("path", "slerp", ("slerp", "linear"))
    mix = slerp if path == "slerp" else torch.lerp
    weights = [i / (frames - 1) for i in range(frames)]
    rgb_a, _ = split(request.image)
    check_size(*rgb_a.shape[:2])
    height, width = rgb_a.shape[:2]
    said: tuple[str, ...] = ()
    rgb_b = rgb_a
    if kind == "pictures":
        rgb_b, said = _second(request, height, width)
    else:
        height, width = model.info.height, model.info.width
    scale = min(1.0, math.sqrt(room(model) / (height * width)))
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    frame = frame_for(*small, model)
    settled = plan(replace(request, timesteps=None), model, frame.full_width, frame.full_height)
    cond_a = yield Embed((settled.prompt,))
    text_b = options.text("prompt_b", request.prompt)
    prompt_b = replace(settled.prompt, text=text_b or request.prompt)
    cond_b = yield Embed((prompt_b,))
    emphasis = emphasis_of(options, "interpolate", model)
    strong_a = yield from emphasised(settled.prompt, cond_a, emphasis)
    strong_b = yield from emphasised(prompt_b, cond_b, emphasis)
    noise_scale = noise_scale_of(options, "interpolate", request.steps)
    noise = SeededNoise(seeds[:1], settled.shape, device=model.device)
    if kind == "pictures":
        strength = options.number("strength", 0.5, 0.0, 1.0)
        first = from_strength(strength, model) / (1.0 if model.latent else 0.5)
        levels = levels_of(request, options, model, (first, min(0.3, first / 2)))
        shared = noise.draw()
        ends = torch.cat([tensor(frame.pad(resize(x, *small))) for x in (rgb_a, rgb_b)]).to(
            model.device
        )
        if model.latent:
            ends = yield Encode(ends)
        x_a, x_b = model.schedule.renoise(ends.to(shared), noise_scale * shared, levels[0]).chunk(2)
    else:
        levels = settled.levels
        seed_b = options.whole("seed_b", seeds[0] + (kind == "seeds"), 0, 2**53 - 1)
        other = SeededNoise((seed_b,), settled.shape, device=model.device)
        x_a, x_b = noise.draw(), other.draw()
        x_a, x_b = model.schedule.prior(x_a), model.schedule.prior(x_b)
    eta = eta_of(options, "interpolate", levels)
    made: list[NDArray[np.float32]] = []
    flagged: list[bool] = []
    state = [noise.draw() for _ in levels[1:]]
    for start in range(0, frames, rows):
        part = weights[start : start + rows]
        x = torch.cat([mix(x_a, x_b, w) for w in part])
        cond = Cond.join([cond_a.lerp(cond_b, w) for w in part])
        latents = yield from multistep(
            x,
            levels,
            cond,
            schedule=model.schedule,
            noise=_Same(state, len(part)),
            deterministic=settled.deterministic,
            eta=eta,
            noise_scale=noise_scale,
            first=Cond.join([strong_a.lerp(strong_b, w) for w in part]),
        )
        decoded = yield Decode(latents)
        flagged += yield Check(decoded)
        made += [resize(frame.cut(picture(d)), height, width) for d in decoded]
    images = yield Compute(
        lambda report: (
            _with_ends(made, rgb_a, rgb_b, weights)
            if kind == "pictures"
            else [to_bytes(m) for m in made]
        ),
        "Finishing",
    )
    images = [np.zeros_like(i) if bad else i for i, bad in zip(images, flagged, strict=True)]
    yield Finished(tuple(images), tuple(flagged))
    fidelity: dict[str, Any] = {"known": "end frames", "frames": frames}
    if kind == "pictures" and not (flagged[0] or flagged[-1]):
        fidelity["max_error"] = float(
            max(
                np.abs(images[0].astype(int) - rgb_a).max(),
                np.abs(images[-1].astype(int) - rgb_b).max(),
            )
        )
    return Outcome(
        images=tuple(images),
        seeds=(seeds[0],) * frames,
        flagged=tuple(flagged),
        fidelity=fidelity,
        warnings=said,
        settings={
            "levels": [model.schedule.ve_sigma(t) for t in levels],
            "eta": eta,
            "noise_scale": noise_scale,
            "emphasis": emphasis,
        },
    )


class _Same:
    """The same noise for every frame and every batch of frames, so that frames do not flicker."""

    def __init__(self, draws: list[Tensor], count: int) -> None:
        self.draws, self.count, self.at = draws, count, 0

    def draw(self) -> Tensor:
        drawn = self.draws[self.at]
        self.at += 1
        return drawn.expand(self.count, *drawn.shape[1:])


def _second(request: Edit, height: int, width: int) -> tuple[Pixels, tuple[str, ...]]:
    if request.image_b is None:
        raise BadRequest(
            "interpolate needs a second picture (image_b), or kind=prompts or kind=seeds"
        )
    rgb, _ = split(request.image_b)
    check_size(rgb.shape[0], rgb.shape[1], "the second picture")
    if rgb.shape[:2] == (height, width):
        return rgb, ()
    said = (
        f"the second picture of {rgb.shape[1]} x {rgb.shape[0]} was resized to {width} x {height}"
    )
    return to_bytes(resize(rgb, height, width)), (said,)


def _with_ends(
    made: list[NDArray[np.float32]], a: Pixels, b: Pixels, weights: list[float]
) -> list[Pixels]:
    """The frames, with what sampling lost of either end given back near that end; the ends are copies."""
    lost_a, lost_b = a - made[0], b - made[-1]
    out = [
        to_bytes(x + (1 - w) ** 4 * lost_a + w**4 * lost_b)
        for x, w in zip(made, weights, strict=True)
    ]
    return [a.copy(), *out[1:-1], b.copy()]
