"""Denoise: removes white noise of a known or estimated strength."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lcm_studio.edits.task import EditTask, Relaxed, Whole
from lcm_studio.spec.schema import number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lcm_studio.edits.problem import Known, Problem
    from lcm_studio.edits.schedule import EditSchedule
    from lcm_studio.models.protocol import Model
    from lcm_studio.sampling import Report
    from lcm_studio.spec.requests import Edit, Pixels


@dataclass(frozen=True, kw_only=True)
class Settings(Relaxed):
    """The noise."""

    sigma: float | str = number(
        "auto",
        title="Noise",
        help="standard deviation of the noise for pixels in [0, 1], or auto",
        low=0.001,
        high=1,
        choices=("auto",),
    )


def build(request: Edit, settings: Settings, model: Model) -> Problem:
    """Raises BadRequest for a picture that is too large."""
    import numpy as np

    from lcm_studio.edits.finish import to_bytes
    from lcm_studio.edits.framed import problem_in
    from lcm_studio.edits.geometry import check_size
    from lcm_studio.edits.noise_level import estimate_sigma, smoothed
    from lcm_studio.edits.pixels import frame_for, join, split, tensor
    from lcm_studio.edits.schedule import BOTTOM, PIXEL_SPREAD, schedule_for

    rgb, alpha = split(request.image)
    check_size(*rgb.shape[:2])
    estimated = settings.sigma == "auto"
    sigma = max(estimate_sigma(rgb) / 255 if estimated else float(settings.sigma), 1 / 255)
    frame = frame_for(rgb.shape[0], rgb.shape[1], model)
    noisy = frame.pad(rgb)
    # the textbook's top: where a level holds as much noise as the picture does
    top = max(2 * sigma / PIXEL_SPREAD, 2 * BOTTOM)
    schedule = schedule_for(request, settings, model, top=top, noise=sigma)
    known = _known(noisy, sigma, schedule, model)

    def finish(x: NDArray[np.float32], report: Report) -> Pixels:
        return join(to_bytes(frame.cut(x)), alpha)

    def measure(result: Pixels) -> dict[str, Any]:
        gap = (result[..., :3].astype(np.float64) - rgb) / 255
        return {
            "known": "noisy picture",
            "sigma": sigma,
            "sigma_estimated": estimated,
            "residual": float(gap.std()),
            "residual_ratio": float(gap.std() / sigma),
        }

    return problem_in(
        frame,
        model,
        settings,
        schedule,
        start=known.project(tensor(smoothed(noisy, sigma)), 0).clamp(-1, 1),
        known=known,
        finish=finish,
        measure=measure,
        alpha=alpha,
        project_last=known.inverse is not None,
    )


def by_tiles(request: Edit, settings: Settings) -> Whole:
    """One noise for all tiles."""
    from lcm_studio.edits.noise_level import estimate_sigma
    from lcm_studio.edits.pixels import split

    if settings.sigma != "auto":
        return Whole()
    sigma = min(max(estimate_sigma(split(request.image)[0]) / 255, 1 / 255), 1.0)
    return Whole(options={"sigma": sigma}, figures={"sigma_estimated": True})


def _known(noisy: Pixels, sigma: float, schedule: EditSchedule, model: Model) -> Known:
    """The noisy picture, believed as far as the errors of estimates are larger than its noise.

    The textbook: errors are white and as large as the noise of their level, so that the damping is sigma_y^2 / sigma^2; the
    last estimate stays as it is, since no prediction follows that would take out what noise is let through.
    A model may know the spectrum of its own; then its variance takes the place of the level's.
    """
    from lcm_studio.edits.pixels import tensor
    from lcm_studio.edits.problem import Known
    from lcm_studio.edits.schedule import PIXEL_SPREAD
    from lcm_studio.operators import Correlated, Identity

    variance = (2 * sigma) ** 2  # of pixels in [-1, 1]
    fitted = model.info.fitted
    if fitted is None or fitted.errors is None:
        unit = PIXEL_SPREAD if model.latent else 1.0
        spreads = [unit * model.schedule.ve_sigma(level) for level in schedule.levels]
        damping = [variance / spread**2 for spread in spreads]
        return Known(op=Identity(), y=tensor(noisy), damping=tuple(damping))
    every = variance / fitted.errors.power
    damping = [every] * len(schedule.levels)
    damping[-1] *= fitted.errors.last
    inverse = Correlated(fitted.errors.corner)
    return Known(op=Identity(), y=tensor(noisy), damping=tuple(damping), inverse=inverse)


TASK = EditTask(
    name="denoise",
    title="Denoise",
    by_tiles=by_tiles,
    help="remove white noise",
    known="the noisy picture, up to its noise",
    settings=Settings,
    build=build,
    hint="Take the noise out.",
)
