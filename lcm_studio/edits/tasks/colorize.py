"""Colour: new colours for the luma of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lcm_studio.edits.task import EditTask, Relaxed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lcm_studio.edits.problem import Problem
    from lcm_studio.models.protocol import Model
    from lcm_studio.sampling import Report
    from lcm_studio.spec.requests import Edit, Pixels

TOP = 1.0  # noise as large as the data: colours are free, and what the tones show of the picture stays


@dataclass(frozen=True, kw_only=True)
class Settings(Relaxed):
    """Those of every edit."""


def build(request: Edit, settings: Settings, model: Model) -> Problem:
    """Large pictures are coloured small: colour may be coarse, luma not. Raises BadRequest for one that is too large."""
    import math

    import numpy as np
    import torch

    from lcm_studio.edits.finish import luma_of, meet_luma, strips
    from lcm_studio.edits.geometry import check_size, resize
    from lcm_studio.edits.methods import method_of
    from lcm_studio.edits.pixels import errors, fitting, frame_for, join, picture, split, tensor
    from lcm_studio.edits.problem import Known, Problem, one_by_one
    from lcm_studio.edits.schedule import schedule_for
    from lcm_studio.edits.view import View
    from lcm_studio.operators import LUMA, Luma, Neutral

    rgb, alpha = split(request.image)
    check_size(*rgb.shape[:2])
    y = luma_of(rgb)
    height, width = y.shape
    small = fitting(height, width, model)
    frame = frame_for(*small, model)
    full = frame.pad(resize(y.astype(np.float32), *small))[..., None]
    known = torch.from_numpy(full[..., 0].copy())[None, None] / 127.5 - sum(LUMA)

    def finish(x: NDArray[np.float32], report: Report) -> Pixels:
        made = frame.cut(x)
        chroma = made - (made @ np.asarray(LUMA, np.float32))[..., None]
        coloured = np.empty((height, width, 3), np.uint8)
        large = resize(chroma, height, width)
        for rows in strips(height, width):
            part = large[rows] + y[rows, :, None].astype(np.float32)
            coloured[rows] = meet_luma(part, y[rows])
            report(rows.stop / height)
        return join(coloured, alpha)

    def unfinished(estimates: torch.Tensor) -> tuple[Pixels, ...]:
        return tuple(finish(picture(x), lambda share: None) for x in estimates)

    def measure(result: Pixels) -> dict[str, Any]:
        largest, squares = 0.0, 0.0
        for rows in strips(height, width):
            gap = errors(result[rows, :, :3].astype(np.float64) @ np.asarray(LUMA), y[rows])
            largest = max(largest, gap["max_error"])
            squares += gap["rms_error"] ** 2 * (rows.stop - rows.start) / height
        return {"known": "luma", "max_error": largest, "rms_error": math.sqrt(squares)}

    schedule = schedule_for(request, settings, model, top=TOP)
    return Problem(
        schedule=schedule,
        size=(frame.full_height, frame.full_width),
        start=tensor(np.repeat(full, 3, axis=2)),
        finish=one_by_one(finish, measure),
        unfinished=unfinished,
        known=Known(op=Luma(), y=known, inverse=Neutral()),
        method=method_of(settings, schedule),
        view=View(size=(height, width), frame=frame),
    )


TASK = EditTask(
    name="colorize",
    title="Colour",
    help="new colours for its luma",
    known="the luma of every pixel",
    settings=Settings,
    build=build,
    bound=1.0,
    hint="Give a grey picture colours.",
)
