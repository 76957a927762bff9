"""Deblur: undoes a known blur."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lcm_studio.edits.task import EditTask, Relaxed, Whole
from lcm_studio.spec.schema import text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lcm_studio.edits.problem import Problem
    from lcm_studio.models.protocol import Model
    from lcm_studio.sampling import Report
    from lcm_studio.spec.requests import Edit, Pixels

# y is rounded, so a closer fit than this, of 255, would amplify its rounding into a texture; rounding adds about 0.1
GOALS = (0.9, 0.87, 0.84)
ROUNDED = (
    1.2  # an error just above 1 is that of rounding the result, which a closer fit makes room for
)
DAMPING = 0.02  # of the start and the finish


@dataclass(frozen=True, kw_only=True)
class Settings(Relaxed):
    """The blur."""

    kernel: str = text(
        "gaussian:2",
        title="Blur to undo",
        help="the blur, in pixels of the picture",
        example="gaussian:SIGMA or motion:LENGTH,ANGLE",
        offers=("gaussian:1", "gaussian:2", "gaussian:3", "motion:9,0", "motion:9,30"),
    )


def build(request: Edit, settings: Settings, model: Model) -> Problem:
    """Raises BadRequest for an unknown kernel, one that outgrows the picture, or a picture that is too large."""
    import numpy as np

    from lcm_studio.edits.blurs import SMOOTH_DAMPING, blur_operator, reach_of
    from lcm_studio.edits.finish import meet_operator
    from lcm_studio.edits.geometry import check_size
    from lcm_studio.edits.methods import method_of
    from lcm_studio.edits.pixels import errors, frame_for, join, picture, split, tensor, tile_for
    from lcm_studio.edits.problem import Known, Problem, one_by_one
    from lcm_studio.edits.schedule import schedule_for, top_of_extent

    rgb, alpha = split(request.image)
    check_size(*rgb.shape[:2])
    kernel = settings.kernel
    height, width = rgb.shape[:2]
    exact = blur_operator(kernel, height, width)
    frame = frame_for(height, width, model)
    whole = (frame.full_height, frame.full_width)
    op = exact if whole == (height, width) else blur_operator(kernel, *whole)
    y = tensor(frame.pad(rgb))

    def finish(x: NDArray[np.float32], report: Report) -> Pixels:
        made, wanted = frame.cut(x), rgb.astype(np.float32)
        for goal in GOALS:
            met = meet_operator(exact, made, wanted, damping=DAMPING, goal=goal, report=report)
            if not 1 < gap(met)["max_error"] < ROUNDED:  # met, or out of reach
                break
        return join(met, alpha)

    def gap(made: Pixels) -> dict[str, float]:
        return errors(picture(exact.A(tensor(made).double())[0]), rgb)

    def measure(result: Pixels) -> dict[str, Any]:
        return {"known": f"{kernel} blur", **gap(result[..., :3])}

    schedule = schedule_for(request, settings, model, top=top_of_extent(reach_of(kernel), model))
    return Problem(
        schedule=schedule,
        size=whole,
        start=op.pinv(y, DAMPING).clamp(-1, 1),
        finish=one_by_one(finish, measure),
        known=Known(op=op, y=y, damping=(SMOOTH_DAMPING,)),
        method=method_of(settings, schedule),
        tile=tile_for(frame, model),
    )


def by_tiles(request: Edit, settings: Settings) -> Whole:
    """Tiles share as much as the blur reaches, and what is made of it by undoing it."""
    from lcm_studio.edits.blurs import reach_of

    return Whole(reach=math.ceil(3 * reach_of(settings.kernel)))


TASK = EditTask(
    name="deblur",
    title="Deblur",
    by_tiles=by_tiles,
    help="undo a known blur",
    known="the blurred picture",
    settings=Settings,
    build=build,
    hint="Undo a blur.",
)
