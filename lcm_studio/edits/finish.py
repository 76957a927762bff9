"""The last step of an edit: 8-bit pictures that meet their known part after rounding, not before it.

Projecting, clipping and rounding is not enough: clipping undoes the projection. Here the picture is moved until the
*clipped* picture meets y, along the operator's own row direction or, for means of blocks, smoothly; then it is rounded.
Pictures are float `(H, W, C)` in [0, 255]; results are uint8 of the same shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from lcm_studio.operators import LUMA, BlockMean, Cosine, Histospline, LinearOperator
from lcm_studio.operators.cosines import dct, idct

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lcm_studio.spec.requests import Pixels

    Floats = NDArray[np.float32]

_HALVINGS = 28
_ROUNDS = 8  # of smooth correction and clipping; each costs a few milliseconds at most
_GAIN, _PATIENCE = 0.01, 12  # of the largest residual, and how many iterations it may take
_SMALL = 0.02  # levels that a shift of a block may be, unseen


def to_bytes(x: Floats) -> Pixels:
    """Clipped and rounded to nearest."""
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def keep_pixels(x: Floats, source: Pixels, keep: NDArray[np.bool_]) -> Pixels:
    """`x` rounded, with the bytes of `source` `(H, W, C)` wherever `keep` `(H, W)` is true."""
    return np.where(keep[..., None], source, to_bytes(x))


def luma_of(rgb: Pixels) -> NDArray[np.float64]:
    """The luma `(H, W)` of a picture; of a grey one its grey value."""
    if bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all()):
        return np.minimum(rgb[..., 0].astype(np.float64), 255 * sum(LUMA))
    luma = np.empty(rgb.shape[:2])
    for rows in strips(*rgb.shape[:2]):
        luma[rows] = rgb[rows].astype(np.float64) @ np.asarray(LUMA)
    return luma


def strips(height: int, width: int) -> Iterator[slice]:
    """Rows of about a megapixel at a time, so that what is done to each pixel alone needs little memory."""
    step = max(1, 2**20 // max(width, 1))
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def meet_luma(x: Floats, y: NDArray[np.floating], weights: tuple[float, ...] = LUMA) -> Pixels:
    """The picture nearest along `weights` whose luma is `y` `(H, W)`, in [0, 255 sum(weights)].

    sum_c v_c clip(x_c + lambda w_c) rises with lambda for w = v / |v|^2, so bisection finds lambda per pixel;
    rounding then moves the luma by at most sum(v) / 2.
    """
    v = np.asarray(weights, np.float64)
    w = v / (v @ v)
    start = np.clip(x.astype(np.float64), 0, 255)
    low = np.full(y.shape, -255.0 / w.min())
    high = -low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        over = np.clip(start + middle[..., None] * w, 0, 255) @ v > y
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return to_bytes(start + ((low + high) / 2)[..., None] * w)


def meet_block_means(
    x: Floats,
    y: NDArray[np.floating],
    p: int,
    report: Callable[[float], None] = lambda share: None,
) -> Pixels:
    """A picture `(h p, w p, C)` near `x` whose p x p means are `y` `(h, w, C)`, without the grid of the blocks.

    What the means lack is added as the smoothest picture that has them (`Histospline`), again for what clipping takes
    away of it. What little is left then, at black and white, is a shift of single blocks. Of the rounded pixels those
    with the largest remainders are rounded up, so that the sum of a block is the nearest integer to p^2 y: the mean
    errs by at most 1 / (2 p^2).
    """
    height, width, channels = x.shape
    rows, columns = height // p, width // p
    near = _smoothly_met(x, np.asarray(y, np.float32), p, report)
    report(0.8)
    blocks = near.astype(np.float64).reshape(rows, p, columns, p, channels)
    blocks = blocks.transpose(0, 2, 4, 1, 3).reshape(rows, columns, channels, p * p)
    met = _shifted(blocks, np.asarray(y, np.float64))
    report(0.9)
    whole = np.floor(met)
    goal = np.clip(np.rint(y.astype(np.float64) * p * p), 0, 255 * p * p)
    missing = (goal - whole.sum(axis=-1))[..., None]
    order = np.argsort(np.where(whole < 255, whole - met, 1.0), axis=-1, kind="stable")
    up = np.zeros(met.shape, bool)
    np.put_along_axis(up, order, np.arange(p * p) < missing, axis=-1)
    whole = np.where(up & (whole < 255), whole + 1, whole)
    out = whole.reshape(rows, columns, channels, p, p).transpose(0, 3, 1, 4, 2)
    return to_bytes(out.reshape(height, width, channels))


def _smoothly_met(x: Floats, y: Floats, p: int, report: Callable[[float], None]) -> Floats:
    """`x` in [0, 255] with the means `y` but for some blocks at the ends of the range."""
    means, spline = BlockMean(p, *x.shape[:2]), Histospline(p)
    near, known = _planes(x).clamp(0, 255), _planes(y)
    for i in range(_ROUNDS):
        report(0.8 * i / _ROUNDS)
        gap = known - means.A(near)
        if float(gap.abs().max()) < _SMALL:
            break
        near = (near + spline.pinv(gap)).clamp(0, 255)
    found: Floats = near[0].permute(1, 2, 0).numpy()
    return found


def _shifted(blocks: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blocks `(..., n)` in [0, 255], each shifted and clipped so that its mean is `y` `(...)`, by bisection if need be."""
    shift = y - blocks.mean(axis=-1)
    moved = blocks + shift[..., None]
    out = (moved.min(axis=-1) < 0) | (moved.max(axis=-1) > 255)
    if not out.any():
        return moved
    tight, goal = blocks[out], y[out]
    low, high = np.full(goal.shape, -255.0), np.full(goal.shape, 255.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        over = np.clip(tight + middle[..., None], 0, 255).mean(axis=-1) > goal
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    moved[out] = np.clip(tight + ((low + high) / 2)[..., None], 0, 255)
    return moved


def _planes(x: Floats) -> torch.Tensor:
    """`(H, W, C)` -> `(1, C, H, W)`."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))[None])


def meet_operator(
    op: LinearOperator,
    x: Floats,
    y: Floats,
    *,
    damping: float = 1e-3,
    goal: float = 0.45,
    iterations: int = 100,
    report: Callable[[float], None] = lambda share: None,
) -> Pixels:
    """A picture in [0, 255] with |A x - y| <= `goal` where that can be reached, then rounded.

    The damped projection and clipping in turn, with Nesterov momentum (Beck & Teboulle 2009), from `x`; `y` `(h, w, C)`.
    For operators without a closed form in the box: blurs and smooth downsampling. Where the box is tight the
    least damping stalls, since it amplifies what clipping takes away; then it is tripled and tripled again. A
    residual that falls by less than `_GAIN` in `_PATIENCE` iterations has stalled.
    """
    known = _planes(y)
    residuals = _InCosines(op, known) if isinstance(op, Cosine) else _Residuals(op, known)
    best, least = _planes(x).clamp(0, 255), math.inf
    for tried, damped in enumerate((damping, 3 * damping, 10 * damping)):
        picture, pace = best, 1.0
        ahead, seen = picture, residuals.seen(picture)
        seen_ahead = seen
        mark, since = math.inf, 0
        for i in range(iterations):
            report((tried + i / iterations) / 3)
            error = residuals.largest(seen)
            if error < least:
                best, least = picture, error
            if error < (1 - _GAIN) * mark:
                mark, since = error, 0
            since += 1
            if error <= goal or since > _PATIENCE:
                break
            met = (ahead + residuals.correction(seen_ahead, damped)).clamp(0, 255)
            seen_met = residuals.seen(met)
            faster = (1 + math.sqrt(1 + 4 * pace**2)) / 2
            momentum = (pace - 1) / faster
            ahead = met + momentum * (met - picture)
            seen_ahead = seen_met + momentum * (seen_met - seen)
            picture, seen, pace = met, seen_met, faster
        if least <= goal:
            break
    return to_bytes(best[0].permute(1, 2, 0).numpy().astype(np.float32))


class _Residuals:
    """y - A x of pictures, and what it says of them; `seen` is linear in the picture."""

    def __init__(self, op: LinearOperator, y: torch.Tensor) -> None:
        self.op, self.y = op, y

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        return self.op.A(x)

    def largest(self, seen: torch.Tensor) -> float:
        return float((seen - self.y).abs().max())

    def correction(self, seen: torch.Tensor, damping: float) -> torch.Tensor:
        """A+ (y - A x), damped."""
        return self.op.pinv(self.y - seen, damping)


class _InCosines(_Residuals):
    """The same by coefficients: three transforms an iteration in place of six."""

    def __init__(self, op: Cosine, y: torch.Tensor) -> None:
        super().__init__(op, y)
        self.cosine, self.wanted = op, dct(y)

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        return self.cosine.shrunk(dct(x))

    def largest(self, seen: torch.Tensor) -> float:
        return super().largest(idct(seen))

    def correction(self, seen: torch.Tensor, damping: float) -> torch.Tensor:
        return idct(self.cosine.solved(self.wanted - seen, damping))
