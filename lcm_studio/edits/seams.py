"""Seams: blending inside the hole only, and the score that tells whether a border can be seen.

Known pixels are never touched. Pictures are float `(H, W, 3)` in [0, 255]; `hole` is a boolean `(H, W)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import spsolve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Bools = NDArray[np.bool_]

_MOST_UNKNOWNS = 60_000


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
    out = made.copy()
    for c in range(made.shape[2]):
        a, b = made[..., c][around], known[..., c][around]
        gain = np.clip(np.cov(a, b)[0, 1] / max(float(a.var()), 1.0), 0.8, 1.25)
        out[..., c] = (made[..., c] - a.mean()) * gain + b.mean()
    return out


def harmonic(values: Floats, hole: Bools) -> Floats:
    """`values` `(H, W, C)` outside the hole, continued into it with zero Laplacian (Dirichlet border)."""
    if not hole.any() or hole.all():
        return values
    if hole.sum() > _MOST_UNKNOWNS:
        return _coarse(values, hole)
    height, width = hole.shape
    index = np.full(hole.shape, -1)
    index[hole] = np.arange(hole.sum())
    ys, xs = np.nonzero(hole)
    count = len(ys)
    degree = np.zeros(count)
    right = np.zeros((count, values.shape[2]))
    rows, columns = [], []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        y, x = ys + dy, xs + dx
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        degree += inside
        neighbour = np.full(count, -1)
        neighbour[inside] = index[y[inside], x[inside]]
        linked = neighbour >= 0
        rows.append(np.nonzero(linked)[0])
        columns.append(neighbour[linked])
        border = inside & ~linked
        right[border] += values[y[border], x[border]]
    row, column = np.concatenate(rows), np.concatenate(columns)
    matrix = diags(degree) - csr_matrix((np.ones(len(row)), (row, column)), shape=(count, count))
    out = values.copy()
    out[hole] = spsolve(matrix.tocsc(), right).reshape(count, -1)
    return out


def _coarse(values: Floats, hole: Bools) -> Floats:
    """The same at half size, for holes that are too large to solve at once; the border stays sharp."""
    height, width = hole.shape
    weight = (~hole).astype(np.float32)[..., None]
    half = ((width + 1) // 2, (height + 1) // 2)
    small_weight = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    small = cv2.resize(values * weight, half, interpolation=cv2.INTER_AREA)
    small = small / np.maximum(small_weight, 1e-6)[..., None]
    solved = harmonic(small.astype(np.float32), small_weight <= 1e-6)
    big = cv2.resize(solved, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(hole[..., None], big.reshape(values.shape), values)


def poisson(made: Floats, known: Floats, hole: Bools) -> Floats:
    """`made` inside the hole, shifted by the harmonic continuation of (known - made) on the hole's border.

    Gradients inside are those of `made` and the border meets `known`: Poisson editing with a Dirichlet
    border (Perez et al. 2003), which leaves the pixels outside alone, as cv2.seamlessClone does not.
    """
    shift = harmonic((known - made).astype(np.float32), hole)
    return np.where(hole[..., None], made + shift, known)


def feathered(made: Floats, under: Floats, hole: Bools, width: int) -> Floats:
    """Inside the hole a ramp of `width` pixels from `under` (what the picture held) to `made`."""
    if width < 1:
        return made
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 5)
    weight = np.clip(depth / (width + 1), 0, 1)[..., None].astype(np.float32)
    return np.where(hole[..., None], weight * made + (1 - weight) * under, made)


def seam_score(picture: NDArray[np.generic], hole: Bools) -> float:
    """Mean step across the hole's border over the mean step just beside it, on both sides; 1 = no seam.

    NaN where the hole has no border within the picture.
    """
    x = np.asarray(picture, np.float32)
    beside = ring(hole, 2, inside=True) | ring(hole, 2, inside=False)
    across: list[NDArray[np.float32]] = []
    along: list[NDArray[np.float32]] = []
    for axis in (0, 1):
        step = np.abs(np.diff(x, axis=axis)).mean(axis=-1)
        first = np.take(hole, range(hole.shape[axis] - 1), axis=axis)
        second = np.take(hole, range(1, hole.shape[axis]), axis=axis)
        near = np.take(beside, range(hole.shape[axis] - 1), axis=axis)
        near = near & np.take(beside, range(1, hole.shape[axis]), axis=axis)
        across.append(step[first != second])
        along.append(step[(first == second) & near])
    crossed, ran = np.concatenate(across), np.concatenate(along)
    if not len(crossed) or not len(ran):
        return float("nan")
    return float((crossed.mean() + 0.25) / (ran.mean() + 0.25))


def block_seam_score(picture: NDArray[np.generic], p: int) -> float:
    """Mean step across the borders of p x p blocks over the mean step within them; 1 = no blocking."""
    x = np.asarray(picture, np.float32)
    across, within = [], []
    for axis in (0, 1):
        step = np.abs(np.diff(x, axis=axis)).mean(axis=-1)
        border = (np.arange(step.shape[axis]) + 1) % p == 0
        across.append(np.compress(border, step, axis=axis).ravel())
        within.append(np.compress(~border, step, axis=axis).ravel())
    crossed, ran = np.concatenate(across), np.concatenate(within)
    if not len(crossed) or not len(ran):
        return float("nan")
    return float((crossed.mean() + 0.25) / (ran.mean() + 0.25))
