"""Deblur: undoes a blur, which is given or found in the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lcm_studio.edits.task import EditTask, Relaxed, Whole
from lcm_studio.spec.schema import choice, text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lcm_studio.edits.blur_level import Blur
    from lcm_studio.edits.motion_level import Motion
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
ROUNDING = 12**-0.5  # the noise of rounding, of 255
ROUNDED_ONLY = 0.4  # noise that is that of rounding, and little more
# how far a fit may move the picture for what it corrects, as root mean squares: beyond, it amplifies what y has of rounding and of
# another blur into a pattern
MOST_GAIN = 6
EXACT = ("auto", "always", "never")
LENS = 0.45  # pixels: the blur that sharp pictures have by themselves
SHARP = 0.65
LEAST = 0.5


@dataclass(frozen=True, kw_only=True)
class Settings(Relaxed):
    """The blur."""

    kernel: str = text(
        "auto",
        title="Blur to undo",
        help="the blur, in pixels of the picture; auto: estimated from it",
        example="auto, gaussian:SIGMA or motion:LENGTH,ANGLE",
        offers=("auto", "gaussian:1", "gaussian:2", "gaussian:3", "motion:9,0", "motion:9,30"),
    )
    exact: str = choice(
        "auto",
        title="Make it exact",
        help="fit the blurred picture to the last 1/255; auto: where the blur is given and there is no noise",
        choices=EXACT,
    )


def build(request: Edit, settings: Settings, model: Model) -> Problem:
    """Raises BadRequest for an unknown kernel, one that outgrows the picture, or a picture that is too large."""
    import numpy as np

    from lcm_studio.edits.blur_level import estimate_blur
    from lcm_studio.edits.blurs import SMOOTH_DAMPING, blur_operator, reach_of
    from lcm_studio.edits.finish import meet_operator, to_bytes
    from lcm_studio.edits.framed import problem_in
    from lcm_studio.edits.geometry import check_size
    from lcm_studio.edits.motion_level import estimate_motion
    from lcm_studio.edits.pixels import errors, frame_for, join, picture, split, tensor
    from lcm_studio.edits.problem import Known
    from lcm_studio.edits.schedule import schedule_for, top_of_extent

    rgb, alpha = split(request.image)
    check_size(*rgb.shape[:2])
    found, motion = estimate_blur(rgb), estimate_motion(rgb)
    kernel, warnings = kernel_of(settings.kernel, found, motion)
    given = settings.kernel != "auto"
    noise = found.noise if found is not None and found.sigma > SHARP else ROUNDING
    tries = settings.exact == "always" or (
        settings.exact == "auto" and given and noise < ROUNDED_ONLY
    )
    height, width = rgb.shape[:2]
    exact = blur_operator(kernel, height, width)
    frame = frame_for(height, width, model)
    whole = (frame.full_height, frame.full_width)
    op = exact if whole == (height, width) else blur_operator(kernel, *whole)
    y = tensor(frame.pad(rgb))

    damping = SMOOTH_DAMPING * max(1.0, noise / ROUNDING)

    def finish(x: NDArray[np.float32], report: Report) -> Pixels:
        made, wanted = frame.cut(x), rgb.astype(np.float32)
        if not tries:
            return join(to_bytes(made), alpha)
        for goal in GOALS:
            met = meet_operator(exact, made, wanted, damping=DAMPING, goal=goal, report=report)
            if not 1 < gap(met)["max_error"] < ROUNDED:  # met, or out of reach
                break
        if settings.exact == "auto":
            moved, corrected = errors(made.clip(0, 255), met), gap(made.clip(0, 255))
            if moved["rms_error"] > MOST_GAIN * corrected["rms_error"]:
                met = to_bytes(made)
        return join(met, alpha)

    def gap(made: NDArray[Any]) -> dict[str, float]:
        return errors(picture(exact.A(tensor(made).double())[0]), rgb)

    def measure(result: Pixels) -> dict[str, Any]:
        left = gap(result[..., :3])
        figures = {"known": f"{kernel} blur", "kernel": kernel, "kernel_estimated": not given}
        figures |= left | {"noise": noise}
        if given and (words := denied(kernel, found, motion, left["rms_error"], noise)):
            figures["denied"] = words
        return figures

    schedule = schedule_for(request, settings, model, top=top_of_extent(reach_of(kernel), model))
    return problem_in(
        frame,
        model,
        settings,
        schedule,
        start=op.pinv(y, DAMPING).clamp(-1, 1),
        known=Known(op=op, y=y, damping=(damping,)),
        finish=finish,
        measure=measure,
        alpha=alpha,
        warnings=warnings,
    )


def kernel_of(
    kernel: str, found: Blur | None, motion: Motion | None
) -> tuple[str, tuple[str, ...]]:
    """The blur to undo, and what is to be said of the one that was found."""
    if kernel != "auto":
        return kernel, ()
    if motion is not None:
        return motion.kernel, ()
    if found is None:
        return "gaussian:1", (
            "the picture says too little of its blur, so gaussian:1 is undone; give the blur if you know it",
        )
    if found.sigma < SHARP:
        return f"gaussian:{LEAST}", ("no blur was found in the picture, so hardly any is undone",)
    return proposal(found), ()


def proposal(found: Blur) -> str:
    """What was added to a sharp picture's own blur; rather too little, since what is undone too much rings."""
    sigma = math.sqrt(max(found.sigma**2 - LENS**2, LEAST**2))
    return f"gaussian:{math.floor(10 * sigma) / 10:g}"


def denied(
    kernel: str, found: Blur | None, motion: Motion | None, misfit: float, noise: float
) -> str:
    """One sentence where the picture cannot come from this blur; empty elsewhere. `misfit`: of the result, blurred, in RMS of 255."""
    name, _, size = kernel.partition(":")
    better = f"; it fits {proposal(found)}" if found and found.sigma >= SHARP else ""
    if motion is not None:
        better = f"; it fits {motion.kernel}"
    if found and name == "gaussian" and float(size) > 1.25 * found.sigma + 0.3:
        what = better or ", and no blur was found in it"
        return f"the picture is sharper than a blur of {kernel} leaves one{what}"
    if misfit > 2 * noise + 1:
        return f"the picture does not come from a blur of {kernel}{better}; take auto where you do not know the blur"
    return ""


def by_tiles(request: Edit, settings: Settings) -> Whole:
    """One blur for all tiles, which share as much as it reaches, and what is made of it by undoing it."""
    from lcm_studio.edits.blur_level import estimate_blur
    from lcm_studio.edits.blurs import reach_of
    from lcm_studio.edits.motion_level import estimate_motion
    from lcm_studio.edits.pixels import split

    rgb = split(request.image)[0]
    found, motion = estimate_blur(rgb), estimate_motion(rgb)
    kernel, _ = kernel_of(settings.kernel, found, motion)
    reach = math.ceil(3 * reach_of(kernel))
    if settings.kernel != "auto":
        # what a single tile shows of its blur may be little
        return Whole(reach=reach, figures={"denied": denied(kernel, found, motion, 0.0, 0.0)})
    exact = "never" if settings.exact == "auto" else settings.exact
    figures = {"kernel_estimated": True, "denied": ""}
    return Whole(reach=reach, options={"kernel": kernel, "exact": exact}, figures=figures)


TASK = EditTask(
    name="deblur",
    title="Deblur",
    by_tiles=by_tiles,
    help="undo a blur",
    known="the blurred picture",
    settings=Settings,
    build=build,
    hint="Undo a blur, which is found in the picture.",
)
