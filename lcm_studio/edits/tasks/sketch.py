"""Sketch: strokes become a picture; with a mask, only inside it. SDEdit (Meng et al. 2022) with Algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lcm_studio.edits.task import EditTask, Masked
from lcm_studio.spec.schema import number

if TYPE_CHECKING:
    from lcm_studio.edits.problem import Problem
    from lcm_studio.models.protocol import Model
    from lcm_studio.spec.requests import Edit


@dataclass(frozen=True, kw_only=True)
class Settings(Masked):
    """Those of a mask, and how far the strokes may be left."""

    strength: float = number(
        0.6,
        title="Strength",
        help="how far the picture may be left, 1 forgets it",
        low=0,
        high=1,
        slider=(0.05, 1),
        step=0.05,
    )


def build(request: Edit, settings: Settings, model: Model) -> Problem:
    """Raises BadRequest for strength 0, an empty mask or a picture that is too large."""
    import numpy as np

    from lcm_studio.edits.geometry import check_size
    from lcm_studio.edits.hole import hole_of, hole_problem
    from lcm_studio.edits.pixels import split
    from lcm_studio.edits.schedule import from_strength

    rgb, alpha = split(request.image)
    check_size(*rgb.shape[:2])
    warnings: tuple[str, ...] = ()
    hole = np.ones(rgb.shape[:2], bool)
    if request.mask is not None:
        hole, warnings = hole_of(request.mask, rgb.shape[:2], settings)
    return hole_problem(
        request,
        settings,
        model,
        rgb=rgb,
        alpha=alpha,
        hole=hole,
        warnings=warnings,
        top=from_strength(settings.strength, model),
    )


TASK = EditTask(
    name="sketch",
    title="Sketch",
    help="strokes to a picture",
    known="every pixel outside the mask, if there is one",
    settings=Settings,
    build=build,
    takes=("mask",),
    by_strength=True,
    bound=0.0,
    strokes=True,
    hint="Draw; the words turn it into a picture.",
)
