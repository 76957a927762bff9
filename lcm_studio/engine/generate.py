"""A new picture as a problem: an edit with nothing known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from lcm_studio.edits.problem import Problem, Results
from lcm_studio.edits.schedule import EditSchedule
from lcm_studio.maths.pixels import to_pixels
from lcm_studio.sampling import Report, plan

if TYPE_CHECKING:
    from lcm_studio.models.protocol import Model
    from lcm_studio.spec.requests import Generate, Pixels


def problem_of(request: Generate, model: Model) -> Problem:
    """From the prior down the model's own grid. Raises BadRequest where that does not have these steps."""
    width, height = request.width or model.info.width, request.height or model.info.height
    planned = plan(request, model, width, height)
    return Problem(
        schedule=EditSchedule(levels=planned.levels),
        size=(height, width),
        finish=finish,
    )


def silent(share: float) -> None:
    """A report of progress for what takes no time."""


def finish(decoded: Tensor, report: Report) -> Results:
    """As stock diffusers rounds."""
    return [(pixels, {}) for pixels in to_pixels(decoded)]


def blacken(images: tuple[Pixels, ...], flags: tuple[bool, ...]) -> tuple[Pixels, ...]:
    """Flagged pictures in black, as stock diffusers returns them."""
    return tuple(np.zeros_like(i) if flag else i for i, flag in zip(images, flags, strict=True))
