"""The problem of an edit that samples its whole picture at once, in a frame that the model can take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lcm_studio.edits.methods import method_of
from lcm_studio.edits.pixels import tile_for, unframed
from lcm_studio.edits.problem import Problem, one_by_one
from lcm_studio.edits.view import View

if TYPE_CHECKING:
    from torch import Tensor

    from lcm_studio.edits.geometry import Frame
    from lcm_studio.edits.problem import Floats, Known
    from lcm_studio.edits.schedule import EditSchedule
    from lcm_studio.edits.task import EditSettings
    from lcm_studio.models.protocol import Model
    from lcm_studio.sampling import Report
    from lcm_studio.spec.requests import Pixels


def problem_in(
    frame: Frame,
    model: Model,
    settings: EditSettings,
    schedule: EditSchedule,
    *,
    start: Tensor,
    known: Known,
    finish: Callable[[Floats, Report], Pixels],
    measure: Callable[[Pixels], Mapping[str, Any]],
    alpha: Pixels | None = None,
    project_last: bool = True,
    warnings: tuple[str, ...] = (),
) -> Problem:
    """The edit of the picture that lies in `frame`.

    `finish`, `measure`: of one picture, see `one_by_one`. `alpha`: of a result that is not finished yet, uint8 `(H, W)`.
    """
    return Problem(
        schedule=schedule,
        size=(frame.full_height, frame.full_width),
        start=start,
        finish=one_by_one(finish, measure),
        unfinished=unframed(frame, alpha),
        known=known,
        project_last=project_last,
        method=method_of(settings, schedule),
        tile=tile_for(frame, model),
        warnings=warnings,
        view=View(size=(frame.height, frame.width), frame=frame),
    )
