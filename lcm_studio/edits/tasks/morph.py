"""Morph: a path between two pictures, two prompts or two seeds; the end pictures stay what they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lcm_studio.edits.task import EditSettings, EditTask
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.limits import MAX_SEED
from lcm_studio.spec.schema import choice, number, text, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from lcm_studio.edits.geometry import Frame
    from lcm_studio.edits.problem import Problem, Results
    from lcm_studio.models.protocol import Model
    from lcm_studio.sampling import Plan, Report, Way
    from lcm_studio.spec.requests import Edit, Pixels

KINDS = ("pictures", "prompts", "seeds")
PATHS = ("slerp", "linear")


@dataclass(frozen=True, kw_only=True)
class Settings(EditSettings):
    """What the path runs between, and how."""

    frames: int = whole(9, title="Frames", help="with both ends", low=2, high=64, slider=(2, 32))
    path: str = choice("slerp", title="Path", help="between two samples", choices=PATHS)
    strength: float = number(
        0.5,
        title="Strength",
        help="how far it leaves the pictures",
        low=0,
        high=1,
        slider=(0.05, 1),
        step=0.05,
    )
    kind: str = choice("pictures", title="Between", help="what the ends are", choices=KINDS)
    prompt_b: str = text("", title="Last prompt", help="the last frame's prompt")
    seed_b: int | None = whole(
        None, title="Last seed", help="the last frame's seed", low=0, high=MAX_SEED
    )


def build(request: Edit, settings: Settings, model: Model) -> Problem:
    """Frames of the path, first and last included; the request's seed is the seed of all of them.

    Two pictures: both are noised alike to a middle level, the path runs between them there, and each frame
    is sampled from it. Two seeds or prompts: the path runs between the initial noises or conditionings.
    Raises BadRequest without a second picture where one is needed.
    """
    import torch

    from lcm_studio.edits.geometry import resize
    from lcm_studio.edits.path import slerp
    from lcm_studio.edits.pixels import fitting, frame_for, split, tensor
    from lcm_studio.edits.problem import Path, Problem
    from lcm_studio.edits.schedule import from_strength, schedule_for
    from lcm_studio.sampling import plan

    rgb_a, _ = split(request.image)
    between_pictures = settings.kind == "pictures"
    rgb_b = rgb_a
    warnings: tuple[str, ...] = ()
    if between_pictures:
        rgb_b, warnings = _second(request, *rgb_a.shape[:2])
        height, width = rgb_a.shape[:2]
    else:
        height, width = model.info.height, model.info.width
    small = fitting(height, width, model)
    frame = frame_for(*small, model)
    top = from_strength(settings.strength, model) if between_pictures else 1.0
    schedule = schedule_for(request, settings, model, top=top, by_strength=True)
    planned = plan(request, model, frame.full_width, frame.full_height)
    if not between_pictures and settings.levels is None:
        schedule = replace(schedule, levels=planned.levels)
    starts = None
    if between_pictures:
        starts = torch.cat([tensor(frame.pad(resize(x, *small))) for x in (rgb_a, rgb_b)])
    weights = tuple(i / (settings.frames - 1) for i in range(settings.frames))
    seed_b = request.seed + (settings.kind == "seeds")

    def finish(decoded: Tensor, report: Report) -> Results:
        ends = (rgb_a, rgb_b) if between_pictures else None
        return _frames(decoded, frame, (height, width), weights, ends)

    return Problem(
        schedule=schedule,
        size=(frame.full_height, frame.full_width),
        start=starts,
        finish=finish,
        together=True,
        path=Path(
            weights=weights,
            mix=slerp if settings.path == "slerp" else torch.lerp,
            prompt_b=settings.prompt_b or request.prompt,
            seed_b=seed_b if settings.seed_b is None else settings.seed_b,
        ),
        way=_way(planned, schedule.levels),
        warnings=warnings,
    )


def _way(planned: Plan, levels: Sequence[float]) -> Way | None:
    """That of the model's kind; None where all noise is fresh, whose share can be chosen."""
    from lcm_studio.sampling import Ode

    if planned.kind.way == "renoise" and not isinstance(planned.way, Ode):
        return None
    if tuple(levels) == planned.levels:
        return planned.way
    return Ode() if isinstance(planned.way, Ode) else None


def _frames(
    decoded: Tensor,
    frame: Frame,
    size: tuple[int, int],
    weights: tuple[float, ...],
    ends: tuple[Pixels, Pixels] | None,
) -> Results:
    """Finished frames; the first and the last are copies of `ends`, if those are pictures."""
    import numpy as np

    from lcm_studio.edits.finish import to_bytes
    from lcm_studio.edits.geometry import resize
    from lcm_studio.edits.path import with_ends
    from lcm_studio.edits.pixels import picture

    made: list[NDArray[np.float32]] = [resize(frame.cut(picture(d)), *size) for d in decoded]
    figures: dict[str, Any] = {"known": "end frames", "frames": len(weights)}
    if ends is None:
        return [(to_bytes(x), figures) for x in made]
    images = with_ends(made, *ends, weights)
    exact = [
        {**figures, "max_error": float(np.abs(image.astype(int) - end).max())}
        for image, end in zip((images[0], images[-1]), ends, strict=True)
    ]
    told = [exact[0], *([figures] * (len(images) - 2)), exact[1]]
    return list(zip(images, told, strict=True))


def _second(request: Edit, height: int, width: int) -> tuple[Pixels, tuple[str, ...]]:
    """The last picture at the size of the first, and what is to say of it."""
    from lcm_studio.edits.finish import to_bytes
    from lcm_studio.edits.geometry import resize
    from lcm_studio.edits.pixels import split

    if request.image_b is None:
        raise BadRequest(
            "interpolate needs a second picture (image_b), or kind=prompts, or kind=seeds"
        )
    rgb, _ = split(request.image_b)
    if rgb.shape[:2] == (height, width):
        return rgb, ()
    words = (
        f"the second picture of {rgb.shape[1]} x {rgb.shape[0]} was resized to {width} x {height}"
    )
    return to_bytes(resize(rgb, height, width)), (words,)


TASK = EditTask(
    name="interpolate",
    title="Morph",
    help="frames between two pictures",
    known="the first and the last frame",
    settings=Settings,
    build=build,
    takes=("image_b",),
    by_strength=True,
    bound=0.0,
    takes_control=False,
    in_one_piece=True,
    hint="Go from one picture to another.",
)
