"""Repaint: paints where a mask is white."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lcm_studio.edits.task import EditTask, Masked
from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    from lcm_studio.edits.problem import Problem
    from lcm_studio.models.protocol import Model
    from lcm_studio.spec.requests import Edit


@dataclass(frozen=True, kw_only=True)
class Settings(Masked):
    """Those of a mask."""


def build(request: Edit, settings: Settings, model: Model) -> Problem:
    """Raises BadRequest for a missing or empty mask."""
    from lcm_studio.edits.geometry import check_size
    from lcm_studio.edits.hole import hole_of, hole_problem
    from lcm_studio.edits.pixels import split

    rgb, alpha = split(request.image)
    check_size(*rgb.shape[:2])
    if request.mask is None:
        raise BadRequest(
            "inpaint needs a mask: paint or upload one, white where the picture may change"
        )
    hole, warnings = hole_of(request.mask, rgb.shape[:2], settings)
    return hole_problem(
        request, settings, model, rgb=rgb, alpha=alpha, hole=hole, warnings=warnings
    )


TASK = EditTask(
    name="inpaint",
    title="Repaint",
    help="repaint where a mask is white",
    known="every pixel outside the mask",
    settings=Settings,
    build=build,
    needs=("mask",),
    bound=0.0,
    hint="Paint over what should change.",
)
