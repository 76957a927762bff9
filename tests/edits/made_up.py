"""A task that no product file knows, with a setting of each kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lcm_studio.edits.task import EditSettings, EditTask
from lcm_studio.spec.schema import choice, number, numbers, switch, text, whole

if TYPE_CHECKING:
    from lcm_studio.edits.problem import Problem
    from lcm_studio.models.protocol import Model
    from lcm_studio.spec.requests import Edit


@dataclass(frozen=True, kw_only=True)
class Ripples(EditSettings):
    """One of each kind."""

    height: float = number(0.5, title="Height", help="how high they go", low=0.1, high=2, unit="px")
    rings: int = whole(3, title="Rings", help="how many", low=1, high=9)
    colour: str = choice("blue", title="Colour", help="of the water", choices=("blue", "green"))
    label: str = text("", title="Label", help="written on it")
    mirrored: bool = switch(False, title="Mirrored", help="from both sides")
    at: tuple[float, ...] | None = numbers(
        None, title="At", help="where", low=0, high=1, count=(2, 2), example="0.2, 0.8"
    )


def build(request: Edit, settings: Ripples, model: Model) -> Problem:
    """Paints the whole picture anew."""
    import numpy as np

    from lcm_studio.edits.hole import hole_problem
    from lcm_studio.edits.pixels import split

    rgb, alpha = split(request.image)
    hole = np.ones(rgb.shape[:2], bool)
    return hole_problem(request, settings, model, rgb=rgb, alpha=alpha, hole=hole, warnings=())


TASK = EditTask(
    name="ripples",
    title="Ripples",
    help="waves on water",
    known="nothing",
    settings=Ripples,
    build=build,
    by_strength=True,
)
