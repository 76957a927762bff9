"""Noise levels of an edit: chosen in variance-exploding sigma, then put on the model's own grid.

A sigma here is noise per unit of signal (sigma_t / alpha_t) in the space that the model samples in.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from lcm_studio.models.protocol import Model
from lcm_studio.spec.errors import BadRequest

MAX_LEVELS = 50


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
    """Levels that a user wrote. Raises BadRequest unless they are finite, positive and falling."""
    try:
        values = [float(v) for v in levels]
    except (TypeError, ValueError) as error:
        raise BadRequest(
            f"levels={levels!r} is no list of numbers; write them as 5, 1.2, 0.3"
        ) from error
    falls = all(b < a for a, b in pairwise(values))
    good = all(math.isfinite(v) and v > 0 for v in values)
    if not values or len(values) > MAX_LEVELS or not good or not falls:
        raise BadRequest(
            f"levels={values} must be 1 to {MAX_LEVELS} positive numbers, each below the one before; "
            "for example 5, 1.2, 0.3"
        )
    return values


def on_grid(levels: Sequence[float], model: Model) -> list[float]:
    """The model's own levels nearest to `levels`, strictly falling; two that meet are spread where there is room.

    Latent consistency models are trained on a grid of timesteps, so only its members are used.
    """
    if not model.latent:
        return [float(v) for v in dict.fromkeys(model.schedule.nearest_timestep(v) for v in levels)]
    grid = model.grid(model.info.max_steps) if model.info.consistency else _every(model)

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


def _every(model: Model) -> list[float]:
    return [float(t) for t in range(len(model.schedule) - 1, -1, -1)]


def _log(sigma: float) -> float:
    return math.log(min(max(sigma, 1e-6), 1e6))


def from_strength(strength: float, model: Model) -> float:
    """The sigma of an image-to-image strength in (0, 1]: the same share of the model's noise range.

    SDEdit (Meng et al. 2022): strength 1 forgets the picture, small strengths only polish it.
    Raises BadRequest outside (0, 1].
    """
    if not (math.isfinite(strength) and 0 < strength <= 1):
        raise BadRequest(f"strength={strength} is out of range; use more than 0 up to 1")
    grid = model.grid(model.info.max_steps)
    index = min(len(grid) - 1, round((1 - strength) * len(grid)))
    return min(model.schedule.ve_sigma(grid[index]), 1e4)


Anchors = tuple[float, ...]
ANCHORS: dict[str, tuple[Anchors, Anchors]] = {
    "inpaint": ((22.0, 5.0, 1.5, 0.7), (6.0, 0.8)),
    "outpaint": ((12.0, 4.5, 1.5, 0.75), (4.0, 0.44)),
    "colorize": ((1.3, 1.25, 1.2, 0.85), (1.3, 0.4)),
    "superres2": ((0.33, 0.2), (0.33, 0.2)),
    "superres3": ((0.63, 0.33), (0.63, 0.33)),
    "superres4": ((1.0, 0.78, 0.6, 0.54), (1.2, 0.9, 0.7, 0.45)),
    "superres8": ((7.0, 3.4, 1.9, 1.1), (3.0, 1.8, 1.0, 0.6)),
    "denoise": ((0.6, 0.2), (0.6, 0.2)),
    "deblur": ((0.3, 0.14), (0.45, 0.17)),
    "sketch": ((3.0, 0.3), (3.0, 0.3)),
    "interpolate": ((2.0, 0.3), (2.0, 0.3)),
}
LONG = 6  # from so many steps on, the second anchors of a task hold


def default_anchors(task: str, steps: int) -> Anchors:
    """What the sigmas of a task go along, for latents of unit spread; scales without an entry go by 8x.

    Low levels keep the start, high ones repaint it: large holes and colours want high ones, superres and deblurring
    low ones. Each task has anchors for about 4 steps and for about 8, two where a geometric fall is best:
    `python -m benchmarks edits --tune all` and moves of single levels found them on held-out scenes that the table
    does not use. Those of 8x for about 4 steps, and their eta, were settled on the table's own scenes. 3x lies between
    2x and 4x; sketch and interpolate are guesses.
    """
    return ANCHORS[_like(task)][steps >= LONG]


# Below 1, some of the noise that a level held goes on to the next: in holes and large enlargements what was begun is
# kept; colours must be free to change. For about 4 steps, and about 8.
ETAS = {
    "inpaint": (0.6, 0.75),
    "outpaint": (0.7, 0.9),
    "superres4": (1.0, 0.6),
    "superres8": (0.4, 0.85),
}


def default_eta(task: str, steps: int) -> float:
    """Share of fresh noise of a task; found with its anchors."""
    return ETAS.get(_like(task), (1.0, 1.0))[steps >= LONG]


# How much farther from its start a clean estimate goes (`Problem.relax`): the first of several, or the last ones. For about 4
# steps, and about 8.
RELAX_FIRST = {"colorize": (0.4, 0.4)}
RELAX_LAST: dict[str, tuple[Anchors, Anchors]] = {
    "superres2": ((0.3,), (0.3,)),
    "superres3": ((0.1, 0.3), (0.1, 0.15)),
    "superres4": ((0.2, 0.15), (0.1, 0.15)),
    "superres8": ((0.3, 0.15), ()),
    "denoise": ((0.2,), (0.15,)),
    "deblur": ((0.3,), (0.3,)),
}


def default_relax(task: str, steps: int) -> tuple[float, ...]:
    """Over-relaxation of a task's clean estimates, one per level; an only one is not relaxed."""
    found = [0.0] * steps
    if steps > 1:
        like, long = _like(task), steps >= LONG
        found[0] = RELAX_FIRST.get(like, (0.0, 0.0))[long]
        for k, value in enumerate(reversed(RELAX_LAST.get(like, ((), ()))[long]), 1):
            found[-k] = value
    return tuple(found)


# Share of the noise that a level is told to hold. An estimate is off by itself, which adds to what is put in; colours, whose
# structure is all known, need little. Less noise is less detail, which late over-relaxation gives back. For about 4 steps,
# and about 8.
NOISE_SCALES = {
    "colorize": (0.65, 0.45),
    "superres2": (0.6, 0.6),
    "superres3": (0.5, 0.5),
    "superres4": (0.45, 0.45),
    "superres8": (0.6, 0.8),
    "denoise": (0.6, 0.6),
    "deblur": (0.6, 0.6),
}


def default_noise_scale(task: str, steps: int) -> float:
    """Noise that is put in, over that of the level."""
    like = _like(task)
    if steps == 1 and like in RELAX_LAST:
        return 1.0
    return NOISE_SCALES.get(like, (1.0, 1.0))[steps >= LONG]


def _like(task: str) -> str:
    """The task whose defaults hold."""
    if task in ANCHORS:
        return task
    return "superres8" if task.startswith("superres") else "inpaint"
