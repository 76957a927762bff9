"""Widen: adds borders and paints them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lcm_studio.edits.task import EditTask, Masked
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.schema import numbers

if TYPE_CHECKING:
    from lcm_studio.edits.problem import Problem
    from lcm_studio.models.protocol import Model
    from lcm_studio.spec.requests import Edit

MOST_BORDER = 1024


@dataclass(frozen=True, kw_only=True)
class Settings(Masked):
    """Those of a mask, and the borders."""

    borders: tuple[float, ...] | None = numbers(
        None,
        title="Borders",
        help="pixels to add: left, top, right, bottom",
        low=0,
        high=MOST_BORDER,
        count=(4, 4),
        unit="px",
        example="0, 0, 64, 0",
        parts=("left", "top", "right", "bottom"),
        start=(0, 0, 32, 0),
        slider=(0, 512),
        step=8,
    )


def build(request: Edit, settings: Settings, model: Model) -> Problem:
    """Raises BadRequest where there is no border, or the widened picture is too large."""
    import numpy as np

    from lcm_studio.edits.geometry import Box, check_size
    from lcm_studio.edits.hole import hole_of, hole_problem
    from lcm_studio.edits.pixels import split

    rgb, alpha = split(request.image)
    left, top, right, bottom = borders_of(settings.borders)
    height, width = rgb.shape[:2]
    check_size(height + top + bottom, width + left + right, "the widened picture")
    pads = ((top, bottom), (left, right))
    hole = np.pad(np.zeros((height, width), bool), pads, constant_values=True)
    warnings: tuple[str, ...] = ()
    if request.mask is not None:
        extra, warnings = hole_of(request.mask, (height, width), settings)
        hole[top : top + height, left : left + width] |= extra
    wide = np.pad(rgb, (*pads, (0, 0)), mode="symmetric")
    wide_alpha = None if alpha is None else np.pad(alpha, pads, constant_values=255)
    return hole_problem(
        request, settings, model, rgb=wide, alpha=wide_alpha, hole=hole, warnings=warnings,
        own=Box(top, left, top + height, left + width),
    )  # fmt: skip


def borders_of(value: Sequence[float] | None) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of pixels to add. Raises BadRequest unless they are whole and one is not 0."""
    borders = tuple(int(v) for v in value or ())
    if value is None or not any(borders) or any(v != int(v) for v in value):
        words = ", ".join(f"{v:g}" for v in value or ())
        raise BadRequest(
            f"borders={words} must be four whole numbers from 0 to {MOST_BORDER} (left, top, right, bottom), not all 0"
        )
    left, top, right, bottom = borders
    return left, top, right, bottom


TASK = EditTask(
    name="outpaint",
    title="Widen",
    help="widen the picture",
    known="every pixel of the picture",
    settings=Settings,
    build=build,
    takes=("mask",),
    bound=0.0,
    hint="Add picture at the borders.",
)
