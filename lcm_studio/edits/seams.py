"""Seams: blending inside the hole only, and the score that tells whether a border can be seen.

Known pixels are never touched. Pictures are float `(H, W, 3)` in [0, 255]; `hole` is a boolean `(H, W)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from lcm_studio.edits.harmonic import MOST, ROUGH, harmonic, near

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Bools = NDArray[np.bool_]


def ring(hole: Bools, width: int, *, inside: bool) -> Bools:
    """Pixels within `width` of the hole's border, on one side of it."""
    side = hole if inside else ~hole
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    near = cv2.dilate((~side).astype(np.uint8), kernel) > 0
    found: Bools = side & near
    return found


def match_colour(made: Floats, known: Floats, hole: Bools, width: int = 8) -> Floats:
    """`made` with each channel's mean and spread on the ring around the hole brought to those of `known`.

    The affine map is the least-squares fit on the ring; its gain is held to [0.8, 1.25].
    """
    around = ring(hole, width, inside=False)
    if around.sum() < 16:
        return made
    a, b = made[around].T.astype(np.float64), known[around].T.astype(np.float64)  # (C, N)
    mean_a, mean_b = a.mean(axis=1), b.mean(axis=1)
    beside_a = a - mean_a[:, None]
    covariance = np.einsum("cn,cn->c", beside_a, b) / (a.shape[1] - 1)
    spread = np.einsum("cn,cn->c", beside_a, beside_a) / a.shape[1]
    gain = np.clip(covariance / np.maximum(spread, 1.0), 0.8, 1.25)
    offset = mean_b - gain * mean_a
    return made * gain.astype(made.dtype) + offset.astype(made.dtype)


def poisson(made: Floats, known: Floats, hole: Bools, reach: float = 4.0) -> Floats:
    """`made` inside the hole, shifted so that it goes on from `known` at the hole's border.

    Far inside the shift is the harmonic continuation of its values on the border: Poisson editing with a Dirichlet
    border (Perez et al. 2003), which leaves the pixels outside alone, as cv2.seamlessClone does not. That continuation
    forgets within a pixel what varies along the border (what an autoencoder lost of the picture's detail), which shows
    as a step; so the shift of the nearest known pixel fades into it over `reach` pixels (0: harmonic alone).
    """
    if not hole.any() or hole.all():
        return np.where(hole[..., None], made, known)
    gap = _gap(made, known, hole)
    shift = harmonic(gap, hole, ROUGH if reach > 0 else MOST)
    if reach > 0:
        depth, nearest = _nearest(gap, hole)
        weight = np.exp(np.minimum(1 - depth, 0) / reach)[..., None]
        shift += weight * (nearest - shift)
    return np.where(hole[..., None], made + shift, known)


def _gap(made: Floats, known: Floats, hole: Bools) -> Floats:
    """What `made` lacks at each known pixel `(H, W, C)`; at the border, what its first pixel inside lacks.

    The step across should be the mean of the step before it (of `known`) and the one after it (of `made`): the step
    that `made` has there is the trace of the projection, which ends at this very border.
    """
    height, width, channels = known.shape
    gap = known - made
    total, count = np.zeros((height * width, channels), np.float32), np.zeros(height * width)
    k, m, unknown = known.reshape(-1, channels), made.reshape(-1, channels), hole.ravel()
    for axis, (size, stride) in enumerate(((height, width), (width, 1))):
        crossed = np.diff(hole, axis=axis)
        y, x = np.nonzero(crossed)  # few pixels: those of the border alone are worked on
        upper, place = y * width + x, (y, x)[axis]
        known_first = ~unknown[upper]
        for way, here in ((1, known_first), (-1, ~known_first)):
            at, own = (upper + (way < 0) * stride)[here], (place + (way < 0))[here]
            # at the picture's edge there is no step before or after
            behind = (own - way >= 0) & (own - way < size)
            ahead = (own + 2 * way >= 0) & (own + 2 * way < size)
            first, step = at + way * stride, way * stride
            back, second = np.where(behind, at - step, at), np.where(ahead, first + step, first)
            behind &= ~unknown[back]
            ahead &= unknown[second]
            steps = np.where(behind[:, None], k[at] - k[back], 0)
            steps += np.where(ahead[:, None], m[second] - m[first], 0)
            steps /= np.maximum(behind.astype(np.float32) + ahead, 1)[:, None]
            total[at] += k[at] + steps - m[first]
            count[at] += 1
    border = np.flatnonzero(count)
    gap.reshape(-1, channels)[border] = total[border] / count[border, None]
    return gap


def _nearest(values: Floats, hole: Bools) -> tuple[Floats, Floats]:
    """For each pixel the distance to the nearest one outside the hole, `(H, W)`, and its value `(H, W, C)`."""
    depth, labels = cv2.distanceTransformWithLabels(
        hole.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    outside = np.flatnonzero(~hole)
    source = np.zeros(labels.max() + 1, np.intp)
    source[labels.ravel()[outside]] = outside
    found: Floats = values.reshape(-1, values.shape[2]).take(source[labels], axis=0)
    return depth, found


def feathered(made: Floats, under: Floats, hole: Bools, width: int) -> Floats:
    """Inside the hole a ramp of `width` pixels from `under` (what the picture held) to `made`."""
    if width < 1:
        return made
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 5)
    weight = np.clip(depth / (width + 1), 0, 1)[..., None].astype(np.float32)
    return np.where(hole[..., None], weight * made + (1 - weight) * under, made)


def seam_score(picture: NDArray[np.generic], hole: Bools) -> float:
    """Mean step across the hole's border over the mean of the two steps before and after it; 1 = no seam.

    Steps beside run in the direction of the step that they are compared with: a landscape changes more downwards than
    sideways, so that an upright border would seem smoother than it is. NaN where the hole has no border within the picture.
    """
    part = near(hole, 4)
    hole, x = hole[part], np.asarray(picture[part], np.float32)
    across: list[NDArray[np.float32]] = []
    beside: list[NDArray[np.float32]] = []
    for axis in (0, 1):
        step = _mean_of_channels(np.abs(np.diff(x, axis=axis)))
        crosses = np.diff(hole, axis=axis)
        close = cv2.dilate(crosses.astype(np.uint8), np.ones((5, 1) if axis == 0 else (1, 5))) > 0
        across.append(step[crosses])
        found = step[close & ~crosses]
        share = crosses.sum() / max(len(found), 1)
        beside.append(found * share)
    crossed, ran = np.concatenate(across), np.concatenate(beside)
    if not len(crossed) or not len(ran):
        return float("nan")
    return float((crossed.mean() + 0.25) / (ran.sum() / len(crossed) + 0.25))


def block_seam_score(picture: NDArray[np.generic], p: int) -> float:
    """Mean step across the borders of p x p blocks over the mean step within them; 1 = no blocking."""
    x = np.asarray(picture, np.float32)
    across, within = [], []
    for axis in (0, 1):
        step = _mean_of_channels(np.abs(np.diff(x, axis=axis)))
        border = (np.arange(step.shape[axis]) + 1) % p == 0
        across.append(np.compress(border, step, axis=axis).ravel())
        within.append(np.compress(~border, step, axis=axis).ravel())
    crossed, ran = np.concatenate(across), np.concatenate(within)
    if not len(crossed) or not len(ran):
        return float("nan")
    return float((crossed.mean() + 0.25) / (ran.mean() + 0.25))


def _mean_of_channels(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """`x.mean(axis=-1)`, many times quicker for an axis of three."""
    return x @ np.full(x.shape[-1], 1 / x.shape[-1], np.float32)
