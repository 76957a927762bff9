"""The schedule of an edit: noise levels and what goes with them, from the user, the model's own numbers, or the textbook.

A sigma here is noise per unit of signal (sigma_t / alpha_t) in the space that the model samples in, for data of unit
spread (latents); pixel models have a spread of 1/2.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    from lcm_studio.edits.task import EditSettings
    from lcm_studio.models.protocol import Model
    from lcm_studio.spec.fitted import Fit
    from lcm_studio.spec.requests import Edit

MAX_LEVELS = 50
BOTTOM = 0.3  # of the textbook: at less noise than that a network only polishes
TEXTBOOK = "textbook"
PIXEL_SPREAD = 0.5  # of pictures in [-1, 1]


@dataclass(frozen=True, kw_only=True)
class EditSchedule:
    """`levels`: the model's own, falling. `eta`: share of fresh noise on the way to the next level, 1 = all of it.

    `noise_scale`: of all noise that is put in, also at the start (`sampling.multistep`).
    `relax`: the clean estimate of each level goes (1 + relax) times as far from the start: over-relaxation; 0 where there
    is no entry. An unknown part starts as a guess that the network takes for seen, so that estimates stay too near to it.
    `emphasis`: of the prompt at the first level (`prompts.emphasised`). `source`: where the numbers come from.
    """

    levels: tuple[float, ...]
    eta: float = 1.0
    noise_scale: float = 1.0
    relax: tuple[float, ...] = ()
    emphasis: float = 0.0
    source: str = TEXTBOOK


def schedule_for(
    request: Edit,
    settings: EditSettings,
    model: Model,
    *,
    top: float,
    bottom: float | None = None,
    like: str = "",
    noise: float | None = None,
    by_strength: bool = False,
) -> EditSchedule:
    """The schedule of one request.

    `top`, `bottom`: the first and the last sigma of the textbook, between which levels fall geometrically; by default
    `bottom` is BOTTOM, or half of the top. `like`: the name of the task in the model's own numbers, if it is another.
    `noise`: of the picture, for pixels in [0, 1], where levels go by it. `by_strength`: the user's strength sets the
    levels, whatever was fitted.
    Raises BadRequest for levels that do not fall or more relaxations than levels.
    """
    fitted = model.info.fitted
    name = like or request.task
    anchors: tuple[float, ...] = (top, min(BOTTOM, top / 2) if bottom is None else bottom)
    fit = None if fitted is None else fitted.fit(name, request.steps)
    if fit is not None and not by_strength:
        anchors = anchors_of(fit, noise)
    levels = _levels(request, settings, model, anchors)
    fit = None if fitted is None else fitted.fit(name, len(levels))
    emphasis = settings.emphasis
    return EditSchedule(
        levels=levels,
        eta=_given(settings.eta, fit.eta if fit else 1.0),
        noise_scale=_given(settings.noise_scale, _noise_scale(fit, len(levels))),
        relax=_relax(getattr(settings, "relax", None), fit, len(levels), noise),
        emphasis=model.info.emphasis_for(request.task) if emphasis is None else emphasis,
        source=fitted.source if fitted and fit else TEXTBOOK,
    )


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def anchors_of(fit: Fit, noise: float | None = None) -> tuple[float, ...]:
    """The sigmas that levels go along; where they were fitted at one noise, those for `noise`."""
    if noise is None or fit.sigma is None:
        return fit.levels
    first, *_, last = fit.levels
    least = fit.least or (0.0, 0.0)
    share = noise / fit.sigma
    return max(first * share, least[0]), max(last * min(share, 1.0), least[1])


def _noise_scale(fit: Fit | None, steps: int) -> float:
    """Less noise goes with late over-relaxation, which an only estimate has not."""
    if fit is None or (steps == 1 and fit.relax_last):
        return 1.0
    return fit.noise_scale


def _relax(
    given: tuple[float, ...] | None, fit: Fit | None, steps: int, noise: float | None
) -> tuple[float, ...]:
    """One number per level; an only estimate is not relaxed."""
    if given is not None and len(given) > steps:
        raise BadRequest(
            f"relax has {len(given)} numbers, but there are {steps} levels; give one per level at most"
        )
    if steps == 1:
        return (0.0,)
    if given is not None:
        return (*given, *(0.0 for _ in range(steps - len(given))))
    if fit is None:
        return (0.0,) * steps
    share = 1.0
    if noise is not None and fit.relax_from is not None:
        share = min(max(noise / fit.relax_from - 1, 0.0), 1.0)
    relax = [0.0] * steps
    for k, value in enumerate(fit.relax_first[:steps]):
        relax[k] = share * value
    for k, value in enumerate(reversed(fit.relax_last[-steps:]), 1):
        relax[-k] = share * value
    return tuple(relax)


def _levels(
    request: Edit, settings: EditSettings, model: Model, anchors: Sequence[float]
) -> tuple[float, ...]:
    """The user's levels (`timesteps`, then the setting `levels`), else `steps` of them along `anchors`."""
    if request.timesteps is not None:
        return tuple(model.grid(len(request.timesteps), request.timesteps))
    if settings.levels is not None:
        return tuple(on_grid(check_levels(settings.levels), model))
    scale = 1.0 if model.latent else PIXEL_SPREAD
    return tuple(on_grid(along([a * scale for a in anchors], request.steps), model))


def geometric(first: float, last: float, steps: int) -> list[float]:
    """`steps` levels falling geometrically from `first` to `last`; one step takes `first` alone."""
    return along((first, last), steps)


def along(anchors: Sequence[float], steps: int) -> list[float]:
    """`steps` levels from the first anchor to the last, evenly along the polyline of their logarithms.

    As many steps as anchors give the anchors; one step takes the first alone.
    """
    logs = [math.log(a) for a in anchors]
    levels = []
    for k in range(steps):
        place = (len(logs) - 1) * k / (steps - 1) if k else 0.0
        i = min(int(place), len(logs) - 2)
        levels.append(math.exp(logs[i] + (place - i) * (logs[i + 1] - logs[i])))
    return levels


def check_levels(levels: Sequence[float]) -> list[float]:
    """Levels that a user wrote. Raises BadRequest unless they are positive and fall."""
    if any(b >= a for a, b in pairwise(levels)) or not 0 < len(levels) <= MAX_LEVELS:
        raise BadRequest(
            f"levels={', '.join(f'{v:g}' for v in levels)} must be 1 to {MAX_LEVELS} positive numbers, each below the "
            "one before; for example 5, 1.2, 0.3"
        )
    return list(levels)


def on_grid(levels: Sequence[float], model: Model) -> list[float]:
    """The model's own levels nearest to `levels`, strictly falling; two that meet are spread where there is room.

    Latent consistency models are trained on a grid of timesteps, so only its members are used.
    """
    if not model.latent:
        return [float(v) for v in dict.fromkeys(model.schedule.nearest_timestep(v) for v in levels)]
    grid = model.levels()

    def height(i: int) -> float:
        return _log(model.schedule.ve_sigma(grid[i]))

    def nearest(wanted: float) -> int:
        at = math.log(wanted)
        after = bisect_left(range(len(grid)), -at, key=lambda i: -height(i))
        near = range(max(after - 1, 0), min(after + 1, len(grid)))
        return min(near, key=lambda i: abs(height(i) - at))

    chosen: list[int] = []
    for wanted in levels:
        index = nearest(wanted)
        if chosen and index <= chosen[-1]:
            index = chosen[-1] + 1
        if index >= len(grid):
            break
        chosen.append(index)
    return [grid[i] for i in chosen]


def _log(sigma: float) -> float:
    return math.log(min(max(sigma, 1e-6), 1e6))


def cell_of(model: Model) -> int:
    """Pixels per side of what one sample cell holds; 1 for pixel models."""
    return model.info.height // model.sample_shape(model.info.width, model.info.height)[1]


def top_of_extent(pixels: float, model: Model) -> float:
    """The textbook's first sigma where what is unknown reaches `pixels` pixels: that many cells a side.

    The mean of sigma z over n x n cells spreads by sigma / n: at sigma = n it is as large as the data's own, so that
    nothing of what a start holds at that size is left.
    """
    return max(pixels / cell_of(model), 2 * BOTTOM)


def from_strength(strength: float, model: Model) -> float:
    """The sigma of an image-to-image strength in (0, 1]: the same share of the model's noise range.

    SDEdit (Meng et al. 2022): strength 1 forgets the picture, small strengths only polish it.
    Raises BadRequest outside (0, 1].
    """
    if not (math.isfinite(strength) and 0 < strength <= 1):
        raise BadRequest(f"strength={strength} is out of range; use more than 0 up to 1")
    grid = model.levels()
    index = min(len(grid) - 1, round((1 - strength) * len(grid)))
    sigma = min(model.schedule.ve_sigma(grid[index]), 1e4)
    return sigma / (1.0 if model.latent else PIXEL_SPREAD)
