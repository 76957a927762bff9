"""Masks: reading, growing, shrinking, and their shadow on a latent grid.

A mask is uint8 `(H, W)`; 255 is what may change. A hole is its boolean form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from lcm_studio.edits.geometry import Box
from lcm_studio.edits.task import MOST_GROW as MAX_GROW
from lcm_studio.spec.errors import BadRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from lcm_studio.spec.requests import Pixels

    Bools = NDArray[np.bool_]


def _disc(radius: int) -> Pixels:
    disc: Pixels = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return disc


def grow(mask: Pixels, pixels: int) -> Pixels:
    """Widened by `pixels`; narrowed where negative. Raises BadRequest beyond 256."""
    if abs(pixels) > MAX_GROW:
        raise BadRequest(f"grow={pixels} is out of range; use -{MAX_GROW} to {MAX_GROW} pixels")
    if pixels == 0:
        return mask
    change = cv2.dilate if pixels > 0 else cv2.erode
    grown: Pixels = change(mask, _disc(abs(pixels)))
    return grown


def invert(mask: Pixels) -> Pixels:
    """Known and unknown swapped."""
    swapped: Pixels = np.bitwise_not(mask)
    return swapped


def fit(mask: Pixels, height: int, width: int) -> tuple[Pixels, str]:
    """The mask at a picture's size, and a sentence if it had another."""
    if mask.shape[:2] == (height, width):
        return mask, ""
    said = f"the mask of {mask.shape[1]} x {mask.shape[0]} was resized to the picture's {width} x {height}"
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR), said


def hole_of(mask: Pixels) -> tuple[Bools, str]:
    """Where the picture may change, and a sentence if the mask had greys: any grey counts as unknown."""
    hole = mask > 0
    greys = int(((mask > 0) & (mask < 255)).sum())
    said = ""
    if greys:
        said = f"{greys} grey pixels of the mask count as white (may change); use feather for a soft edge"
    return hole, said


_WORTH = 0.85  # of the grid: larger windows save too little


def window(hole: Bools, cell: int, *, reach: int, ring: int) -> Box | None:
    """The cells that decide the pixels of a hole and the ones around it, or None where that is nearly the whole grid.

    `reach`: cells away that a decoded pixel sees. `ring`: pixels around the hole that are looked at too (for a colour match).
    """
    rows, columns = np.nonzero(hole.any(axis=1))[0], np.nonzero(hole.any(axis=0))[0]
    margin = max(reach * cell, ring)
    ends = [(int(at[0]) - margin, int(at[-1]) + 1 + margin) for at in (rows, columns)]
    sizes = [size // cell for size in hole.shape]
    (top, bottom), (left, right) = (
        (max(0, first // cell), min(size, -(-last // cell)))
        for (first, last), size in zip(ends, sizes, strict=True)
    )
    box = Box(top, left, bottom, right)
    return box if box.height * box.width < _WORTH * sizes[0] * sizes[1] else None


def latent_keep(hole: Bools, cell: int, dilate: int = 1) -> Tensor:
    """1 where a latent cell is known, float32 `(1, 1, H / cell, W / cell)`.

    Max-pools the hole over cells and widens it by `dilate` cells, because a cell's code sees beyond it.
    A hole that would fill the whole grid is left without widening.
    """
    import torch

    unknown = torch.from_numpy(np.ascontiguousarray(hole)).float()[None, None]
    pooled = torch.nn.functional.max_pool2d(unknown, cell) if cell > 1 else unknown
    if dilate and cell > 1:
        wide = torch.nn.functional.max_pool2d(pooled, 2 * dilate + 1, 1, dilate)
        pooled = wide if bool((wide == 0).any()) else pooled
    return 1 - pooled
