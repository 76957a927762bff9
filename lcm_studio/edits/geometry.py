"""Sizes: alignment by reflection, crops around a mask, and overlapping tiles for one sampling loop.

Pictures are `(H, W, C)` arrays; nothing here changes a pixel that it hands back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np

from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]

Array = TypeVar("Array", bound="NDArray[np.generic]")

MAX_SIDE = 16_384
MAX_PIXELS = 64_000_000
PART_PIXELS = 16_000_000  # of a part that is painted anew and blended in
WHOLE_PIXELS = 2048 * 2048  # of a picture that is made in one piece; larger ones go by tiles


def check_size(
    height: int,
    width: int,
    what: str = "the picture",
    *,
    most: int = MAX_PIXELS,
    purpose: str = "to edit",
) -> None:
    """Raises BadRequest for a picture beyond the limits, naming them and what it is too large for."""
    if height < 1 or width < 1:
        raise BadRequest(f"{what} is empty ({width} x {height}); give at least 1 x 1 pixels")
    if height * width > most or max(height, width) > MAX_SIDE:
        raise BadRequest(
            f"{what} of {width} x {height} is too large {purpose}; the limit is "
            f"{most / 1e6:.1f} megapixels and {MAX_SIDE} pixels a side: scale it down first"
        )


def check_enlarged(height: int, width: int, scale: int) -> None:
    """Raises BadRequest for a picture that is too large to be enlarged so much, naming the largest factor that fits."""
    most = min(math.isqrt(MAX_PIXELS // (height * width)), MAX_SIDE // max(height, width))
    if scale <= most:
        return
    remedy = f"enlarge it {most} times at most" if most > 1 else "scale it down first"
    raise BadRequest(
        f"{scale} times larger, this picture of {width} x {height} would have {width * scale} x {height * scale} pixels; "
        f"the limit is {MAX_PIXELS / 1e6:.1f} megapixels and {MAX_SIDE} pixels a side: {remedy}"
    )


@dataclass(frozen=True)
class Frame:
    """Where a picture sits in a larger working picture that a model can take."""

    top: int
    left: int
    height: int
    width: int
    full_height: int
    full_width: int

    def pad(self, picture: Array) -> Array:
        """The picture surrounded by its own mirror image."""
        bottom = self.full_height - self.top - self.height
        right = self.full_width - self.left - self.width
        pads = [(self.top, bottom), (self.left, right)] + [(0, 0)] * (picture.ndim - 2)
        return np.pad(picture, pads, mode="symmetric")  # type: ignore[return-value]

    def cut(self, picture: Array) -> Array:
        """The picture without its surroundings."""
        rows = slice(self.top, self.top + self.height)
        return picture[rows, self.left : self.left + self.width]  # type: ignore[return-value]


def align(height: int, width: int, multiple: int, at_least: tuple[int, int]) -> Frame:
    """The smallest frame of sides divisible by `multiple`, at least (height, width) `at_least`, picture top-left."""

    def up(size: int, low: int) -> int:
        size = max(size, low)
        return -(-size // multiple) * multiple

    return Frame(0, 0, height, width, up(height, at_least[0]), up(width, at_least[1]))


@dataclass(frozen=True)
class Box:
    """A part of a picture: rows top..bottom, columns left..right, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def of(self, picture: Array) -> Array:
        return picture[self.top : self.bottom, self.left : self.right]  # type: ignore[return-value]


def around(hole: Bools, least: tuple[int, int], context: float) -> Box:
    """A box around the hole with `context` of its size on each side, at least `least` (height, width).

    Kept within the picture, so it may be smaller than asked where the picture is.
    """
    height, width = hole.shape
    rows, columns = np.nonzero(hole.any(axis=1))[0], np.nonzero(hole.any(axis=0))[0]

    def span(first: int, last: int, size: int, low: int) -> tuple[int, int]:
        length = last - first
        wanted = min(size, max(low, round(length * (1 + 2 * context))))
        start = min(max(0, (first + last - wanted) // 2), size - wanted)
        return start, start + wanted

    top, bottom = span(int(rows[0]), int(rows[-1]) + 1, height, least[0])
    left, right = span(int(columns[0]), int(columns[-1]) + 1, width, least[1])
    return Box(top, left, bottom, right)


def resize(picture: NDArray[np.generic], height: int, width: int) -> NDArray[np.float32]:
    """Float32 picture at another size: area averages downwards, bicubic upwards."""
    x = np.asarray(picture, np.float32)
    if x.shape[:2] == (height, width):
        return x
    down = height * width < x.shape[0] * x.shape[1]
    out = cv2.resize(x, (width, height), interpolation=cv2.INTER_AREA if down else cv2.INTER_CUBIC)
    sized: NDArray[np.float32] = out.reshape(height, width, *x.shape[2:])
    return sized


def starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles of `tile` begin so that they cover `size` with at least `overlap` shared."""
    if size <= tile:
        return [0]
    count = -(-(size - overlap) // (tile - overlap))
    return [round(i * (size - tile) / (count - 1)) for i in range(count)]
