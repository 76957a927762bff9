"""Harmonic continuation: what lies around a hole, carried on into it with zero Laplacian.

Known values are never touched. Values are float `(H, W, C)`; `hole` is a boolean `(H, W)`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Bools = NDArray[np.bool_]

MOST = 16_000  # unknowns of a solution, some milliseconds; what continues into a larger hole is smooth at half size
ROUGH = 1_100  # the same where an error of a level or two is lost: in noise, or under a fade from the border
_BAND = 96  # wider bands solve slower than the sparse factors do
_CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32)
_BESIDE = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def near(hole: Bools, margin: int) -> tuple[slice, slice]:
    """Rows and columns within `margin` pixels of the hole: nothing beyond changes what happens at its border."""
    spans = []
    for axis in (1, 0):
        touched = np.flatnonzero(hole.any(axis=axis))
        first, last = (int(touched[0]), int(touched[-1])) if len(touched) else (0, -1)
        spans.append(slice(max(first - margin, 0), last + 1 + margin))
    return spans[0], spans[1]


def harmonic(values: Floats, hole: Bools, most: int = MOST) -> Floats:
    """`values` outside the hole, continued into it with zero Laplacian (Dirichlet border).

    A hole of more than `most` pixels is solved at half size, and so on.
    """
    if not hole.any() or hole.all():
        return values
    if np.count_nonzero(hole) > most:
        return _coarse(values, hole, most)
    out = values.copy()
    part = near(hole, 1)
    found, inside = out[part], hole[part]
    right = _border_sums(np.where(inside[..., None], 0, found), inside)
    found[inside] = _solver(inside.tobytes(), inside.shape)(right)
    return out


def _border_sums(values: Floats, hole: Bools) -> Doubles:
    """For each pixel of the hole the sum of its four neighbours in `values`, `(N, C)`."""
    total = cv2.filter2D(
        np.ascontiguousarray(values, np.float32), cv2.CV_32F, _CROSS, borderType=cv2.BORDER_CONSTANT
    )
    found: Doubles = total.reshape(values.shape)[hole].astype(np.float64)
    return found


@lru_cache(maxsize=4)
def _solver(hole: bytes, shape: tuple[int, int]) -> Callable[[Doubles], Doubles]:
    """x of L x = b for `(N, C)`, with the factorized Laplacian of a hole: an edit needs it twice, and each seed again.

    Numbered along its shorter side a hole of a small picture has a narrow band, whose Cholesky factor is there in
    half the time of a sparse one; that one is left to large holes.
    """
    inside = np.frombuffer(hole, bool).reshape(shape)
    degree = np.full(shape, 4.0)
    degree[[0, -1]] -= 1
    degree[:, [0, -1]] -= 1
    index = np.full(shape, -1)
    turned = shape[1] > shape[0]
    numbers = index.T if turned else index  # a view
    size = int(np.count_nonzero(inside))
    numbers[inside.T if turned else inside] = np.arange(size)
    links = []
    for a, b in ((index[:, :-1], index[:, 1:]), (index[:-1], index[1:])):
        linked = (a >= 0) & (b >= 0)
        links.append(np.stack([a[linked], b[linked]]))
    above, below = np.concatenate(links, axis=1)
    raster = index[inside]
    diagonal = np.empty(size)
    diagonal[raster] = degree[inside]
    width = int((below - above).max(initial=0))
    solve = _banded if width <= _BAND else _sparse
    solved = solve(diagonal, above, below, width)
    return _renumbered(solved, raster) if turned else solved


def _renumbered(
    solve: Callable[[Doubles], Doubles], order: NDArray[np.intp]
) -> Callable[[Doubles], Doubles]:
    def solved(right: Doubles) -> Doubles:
        turned = np.empty_like(right)
        turned[order] = right
        found: Doubles = solve(turned)[order]
        return found

    return solved


def _banded(diagonal: Doubles, above: Any, below: Any, width: int) -> Callable[[Doubles], Doubles]:
    bands = np.zeros((width + 1, len(diagonal)), order="F")
    bands[0] = diagonal
    bands[below - above, above] = -1
    factor = cholesky_banded(bands, overwrite_ab=True, lower=True, check_finite=False)

    def solve(right: Doubles) -> Doubles:
        found: Doubles = cho_solve_banded((factor, True), right, check_finite=False)
        return found

    return solve


def _sparse(diagonal: Doubles, above: Any, below: Any, _width: int) -> Callable[[Doubles], Doubles]:
    size = len(diagonal)
    every = np.arange(size)
    rows, columns = np.concatenate([every, above, below]), np.concatenate([every, below, above])
    values = np.concatenate([diagonal, np.full(2 * len(above), -1.0)])
    matrix = csc_matrix((values, (rows, columns)), shape=(size, size))
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})

    def solve(right: Doubles) -> Doubles:
        found: Doubles = factors.solve(right)
        return found

    return solve


def _coarse(values: Floats, hole: Bools, most: int) -> Floats:
    """The same at half size, for holes that are too large to solve at once; the outside stays sharp.

    Only pixels beside the hole count, as they do at full size: what lies behind them may differ.
    """
    rows, columns = (slice(at.start // 2 * 2, at.stop) for at in near(hole, 2))  # whole pairs
    found, inside = values[rows, columns], hole[rows, columns]
    height, width = inside.shape
    half = ((width + 1) // 2, (height + 1) // 2)
    unknown = inside.astype(np.float32)
    beside = cv2.dilate(unknown, _BESIDE) - unknown
    share = cv2.resize(beside, half, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(found * beside[..., None], half, interpolation=cv2.INTER_AREA)
    small = sums.reshape(*share.shape, -1) / np.maximum(share, 1e-6)[..., None]
    small_hole = cv2.resize(unknown, half, interpolation=cv2.INTER_AREA) > 1 - 1e-6
    solved = harmonic(small.astype(np.float32), small_hole, most)
    told = (small_hole | (share > 0)).astype(np.float32)
    weight = cv2.resize(told, (width, height), interpolation=cv2.INTER_LINEAR)[inside]
    big = cv2.resize(solved * told[..., None], (width, height), interpolation=cv2.INTER_LINEAR)
    out = values.copy()
    out[rows, columns][inside] = big.reshape(found.shape)[inside] / weight[..., None]
    return out


def forget() -> None:
    """Drops the factors that are kept (for measurements)."""
    _solver.cache_clear()
