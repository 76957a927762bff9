"""Seams: blending inside the hole only, and the score that tells whether a border can be seen.

Known pixels are never touched. Pictures are float `(H, W, 3)` in [0, 255]; `hole` is a boolean `(H, W)`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import splu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Indices = NDArray[np.intp]
    Floats = NDArray[np.float32]
    Bools = NDArray[np.bool_]

_MOST_UNKNOWNS = 60_000
_CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32)


def ring(hole: Bools, width: int, *, inside: bool) -> Bools:
    """Pixels within `width` of the hole's border, on one side of it."""
    side = hole if inside else ~hole
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    near = cv2.dilate((~side).astype(np.uint8), kernel) > 0
    found: Bools = side & near
    return found


def near(hole: Bools, margin: int) -> tuple[slice, slice]:
    """Rows and columns within `margin` pixels of the hole: nothing beyond changes what happens at its border."""
    spans = []
    for axis in (1, 0):
        touched = np.flatnonzero(hole.any(axis=axis))
        first, last = (int(touched[0]), int(touched[-1])) if len(touched) else (0, -1)
        spans.append(slice(max(first - margin, 0), last + 1 + margin))
    return spans[0], spans[1]


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


def harmonic(values: Floats, hole: Bools, most: int = _MOST_UNKNOWNS) -> Floats:
    """`values` `(H, W, C)` outside the hole, continued into it with zero Laplacian (Dirichlet border).

    A hole of more than `most` pixels is solved at half size, and so on.
    """
    if not hole.any() or hole.all():
        return values
    if hole.sum() > most:
        return _coarse(values, hole, most)
    out = values.copy()
    part = near(hole, 1)
    found, inside = out[part], hole[part]
    right = _border_sums(np.where(inside[..., None], 0, found), inside)
    found[inside] = _laplacian(inside.tobytes(), inside.shape).solve(right)
    return out


def _border_sums(values: Floats, hole: Bools) -> NDArray[np.float64]:
    """For each pixel of the hole the sum of its four neighbours in `values`, `(N, C)` in float64."""
    total = cv2.filter2D(
        np.ascontiguousarray(values, np.float32), cv2.CV_32F, _CROSS, borderType=cv2.BORDER_CONSTANT
    )
    found: NDArray[np.float64] = total.reshape(values.shape)[hole].astype(np.float64)
    return found


@lru_cache(maxsize=4)
def _laplacian(hole: bytes, shape: tuple[int, int]) -> Any:
    """The factorized Laplacian of a hole: an edit solves with it twice, and every seed of it again."""
    inside = np.frombuffer(hole, bool).reshape(shape)
    index = np.full(shape, -1)
    index[inside] = np.arange(inside.sum())
    degree = np.full(shape, 4)
    degree[[0, -1]] -= 1
    degree[:, [0, -1]] -= 1
    pairs = []
    for a, b in ((index[:, :-1], index[:, 1:]), (index[:-1], index[1:])):
        linked = (a >= 0) & (b >= 0)
        pairs.append(np.stack([a[linked], b[linked]]))
    row, column = np.concatenate(pairs, axis=1)
    size = int(inside.sum())
    links = csr_matrix((np.ones(len(row)), (row, column)), shape=(size, size))
    matrix = (diags(degree[inside].astype(np.float64)) - links - links.T).tocsc()
    return splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})


def _coarse(values: Floats, hole: Bools, most: int) -> Floats:
    """The same at half size, for holes that are too large to solve at once; the border stays sharp."""
    height, width = hole.shape
    weight = (~hole).astype(np.float32)[..., None]
    half = ((width + 1) // 2, (height + 1) // 2)
    small_weight = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    small = cv2.resize(values * weight, half, interpolation=cv2.INTER_AREA)
    small = small.reshape(*small_weight.shape, -1)  # cv2 drops a single channel
    small = small / np.maximum(small_weight, 1e-6)[..., None]
    solved = harmonic(small.astype(np.float32), small_weight <= 1e-6, most)
    big = cv2.resize(solved, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(hole[..., None], big.reshape(values.shape), values)


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
    shift = harmonic(gap, hole)[hole]
    if reach > 0:
        depth, nearest = _nearest(gap, hole)
        weight = np.exp(-np.maximum(depth - 1, 0) / reach)[:, None]
        shift += weight * (nearest - shift)
    out = known.copy()
    out[hole] = made[hole] + shift
    return out


def _gap(made: Floats, known: Floats, hole: Bools) -> Floats:
    """What `made` lacks at each known pixel `(H, W, C)`; at the border, what its first pixel inside lacks.

    The step across should be the mean of the step before it (of `known`) and the one after it (of `made`): the step
    that `made` has there is the trace of the projection, which ends at this very border.
    """
    gap = known - made
    total, count = np.zeros_like(gap), np.zeros(hole.shape, np.float32)
    for axis in (0, 1):
        for way in (1, -1):
            crosses = ~hole & _shifted(hole, way, axis)
            at = np.nonzero(crosses)  # few pixels: those of the border alone are worked on
            first, second, back = (_neighbours(at, way * k, axis, hole) for k in (1, 2, -1))
            # at the picture's edge there is no step before or after
            behind = ~hole[back] & (back[axis] != at[axis])
            ahead = hole[second] & (second[axis] != first[axis])
            a = np.where(behind[:, None], known[at] - known[back], 0)
            b = np.where(ahead[:, None], made[second] - made[first], 0)
            steps = (a + b) / np.maximum(behind.astype(np.float32) + ahead, 1)[:, None]
            total[at] += known[at] + steps - made[first]
            count[at] += 1
    at = np.nonzero(count)
    gap[at] = total[at] / count[at][:, None]
    return gap


def _shifted(hole: Bools, by: int, axis: int) -> Bools:
    """`hole` at the pixel `by` further along `axis`; the last one's own at the picture's edge."""
    size = hole.shape[axis]
    return np.take(hole, np.clip(np.arange(size) + by, 0, size - 1), axis)


def _neighbours(at: Sequence[Indices], by: int, axis: int, hole: Bools) -> tuple[Indices, Indices]:
    """The pixels `by` further along `axis`, held to the picture."""
    y, x = at
    if axis == 0:
        return np.clip(y + by, 0, hole.shape[0] - 1), x
    return y, np.clip(x + by, 0, hole.shape[1] - 1)


def _nearest(values: Floats, hole: Bools) -> tuple[Floats, Floats]:
    """For each of the hole's N pixels the distance to the nearest one outside, `(N,)`, and its value `(N, C)`."""
    depth, labels = cv2.distanceTransformWithLabels(
        hole.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    source = np.zeros(labels.max() + 1, np.intp)
    source[labels[~hole]] = np.flatnonzero(~hole)
    found: Floats = values.reshape(-1, values.shape[2])[source[labels[hole]]]
    return depth[hole], found


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
