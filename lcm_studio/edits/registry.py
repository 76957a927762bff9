"""The seven tools (and outpainting, a mask tool of its own), by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    from lcm_studio.edits.problem import Problem
    from lcm_studio.models.protocol import Model
    from lcm_studio.spec.requests import Edit

Build = Callable[["Edit", "Model"], "Problem"]


@dataclass(frozen=True, kw_only=True)
class EditTask:
    """One tool. `known`: what stays; `needs`: inputs beside the picture; `build` is None for interpolation.

    `bound`: the largest error of the known part that the finished file may show, of 255; None = reported only.
    """

    name: str
    title: str
    known: str
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    bound: float | None = None
    build: Build | None = None


def _lazy(module: str, name: str) -> Build:
    def build(request: Edit, model: Model) -> Problem:
        from importlib import import_module

        made: Problem = getattr(import_module(f"lcm_studio.edits.{module}"), name)(request, model)
        return made

    return build


_MASK = ("grow", "feather", "invert", "context", "blend")

TASKS: dict[str, EditTask] = {
    task.name: task
    for task in (
        EditTask(
            name="inpaint",
            title="Repaint",
            known="every pixel outside the mask",
            options=_MASK,
            needs=("mask",),
            bound=0.0,
            build=_lazy("holes", "inpaint"),
        ),
        EditTask(
            name="outpaint",
            title="Widen",
            known="every pixel of the picture",
            options=(*_MASK, "borders"),
            bound=0.0,
            build=_lazy("holes", "outpaint"),
        ),
        EditTask(
            name="colorize",
            title="Colour",
            known="the luma of every pixel",
            options=("relax",),
            bound=1.0,
            build=_lazy("measured", "colorize"),
        ),
        EditTask(
            name="superres",
            title="Enlarge",
            known="the mean of every block of pixels",
            options=("scale", "operator", "relax"),
            bound=1.0,
            build=_lazy("measured", "superres"),
        ),
        EditTask(
            name="denoise",
            title="Denoise",
            known="the noisy picture, up to its noise",
            options=("sigma", "relax"),
            build=_lazy("measured", "denoise"),
        ),
        EditTask(
            name="deblur",
            title="Deblur",
            known="the blurred picture",
            options=("kernel", "relax"),
            build=_lazy("measured", "deblur"),
        ),
        EditTask(
            name="sketch",
            title="Sketch",
            known="every pixel outside the mask, if there is one",
            options=(*_MASK, "strength"),
            bound=0.0,
            build=_lazy("holes", "sketch"),
        ),
        EditTask(
            name="interpolate",
            title="Morph",
            known="the first and the last frame",
            options=("frames", "path", "strength", "kind", "prompt_b", "seed_b"),
            bound=0.0,
        ),
    )
}


def task_of(name: str) -> EditTask:
    """The task of a name. Raises BadRequest for an unknown one, listing them."""
    if name not in TASKS:
        raise BadRequest(f"edit task {name!r} is unknown; use {', '.join(TASKS)}")
    return TASKS[name]
