"""Text to images as a generator of asks."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lcm_studio.maths.pixels import to_pixels
from lcm_studio.models.load import LoadedModel
from lcm_studio.sampling import (
    Ask,
    Check,
    Decode,
    Embed,
    Finished,
    SeededNoise,
    plan,
    steps_of,
)
from lcm_studio.spec.requests import Generate

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels

Outcome: TypeAlias = "tuple[tuple[Pixels, ...], tuple[bool, ...], tuple[str, ...]]"


def generate_session(
    request: Generate, model: LoadedModel, seeds: tuple[int, ...], rows: int
) -> Generator[Ask, Any, Outcome]:
    """All pictures of a request, at most `rows` at a time; returns (pictures, flagged by the safety checker, warnings)."""
    width = request.width or model.info.width
    height = request.height or model.info.height
    settled = plan(request, model, width, height)
    one = yield Embed((settled.prompt,))
    images: list[Pixels] = []
    flagged: list[bool] = []
    warnings: list[str] = []
    for start in range(0, len(seeds), rows):
        part = seeds[start : start + rows]
        noise = SeededNoise(part, settled.shape, device=model.device)
        latents = yield from steps_of(
            settled.sampler,
            model.schedule.prior(noise.draw()),
            settled.levels,
            one.repeat(len(part)),
            schedule=model.schedule,
            noise=noise,
            settings=settled.settings,
            evaluations=settled.evaluations,
            warnings=warnings,
        )
        decoded = yield Decode(latents)
        flags = yield Check(decoded)
        made = blacken(to_pixels(decoded), flags)
        images.extend(made)
        flagged.extend(flags)
        yield Finished(made, flags)
    return tuple(images), tuple(flagged), tuple(dict.fromkeys(warnings))


def blacken(images: tuple[Pixels, ...], flags: tuple[bool, ...]) -> tuple[Pixels, ...]:
    """Flagged pictures in black, as stock diffusers returns them."""
    return tuple(np.zeros_like(i) if flag else i for i, flag in zip(images, flags, strict=True))
