"""Large pictures by overlapping tiles, each an edit of its own, put together without seams. No torch.

A tile's share of a pixel falls smoothly to nothing where its neighbour begins (sin^2), and it never counts at its own
border, where it knows nothing of what lies beyond. Shares are the same over a block of `scale` pixels, so that pictures
whose blocks have known means still have them when they are blended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from lcm_studio.edits.geometry import WHOLE_PIXELS, Box, starts
from lcm_studio.edits.tasks import task_of
from lcm_studio.spec.schema import read

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lcm_studio.spec.requests import Edit, Pixels

    Floats = NDArray[np.float32]

SIDE = 1024  # of a tile, in pixels of the result
FADE = 64  # over which one tile passes into the next
MARGIN = 32  # at a tile's border that do not count, at least


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a task goes over a large picture; lengths in pixels of the picture that goes in.

    `side` of a tile; neighbours share `fade + 2 * margin` at least. `scale`: of the result over the picture. `options`: settings
    that were found on the whole picture, so that all tiles agree. `figures`: what is to be said of the result beside
    that of its tiles.
    """

    side: int
    fade: int
    margin: int
    scale: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)

    def boxes(self, height: int, width: int) -> list[list[Box]]:
        """The tiles of a picture, row by row."""
        shared = self.fade + 2 * self.margin
        tall, wide = min(self.side, height), min(self.side, width)
        return [
            [Box(top, left, top + tall, left + wide) for left in starts(width, wide, shared)]
            for top in starts(height, tall, shared)
        ]


def tiling_of(request: Edit) -> Tiling | None:
    """How the request goes by tiles; None where its picture is small enough to be made in one piece, or the task needs none."""
    task = task_of(request.task)
    if task.by_tiles is None:
        return None
    settings = read(task.settings, request.options, task.name)
    scale = getattr(settings, "scale", 1)
    height, width = request.image.shape[:2]
    if height * width * scale**2 <= WHOLE_PIXELS:
        return None
    found = task.by_tiles(request, settings)
    margin = max(MARGIN, found.reach)
    return Tiling(
        side=max(SIDE // scale, 4 * (FADE + 2 * margin) // scale),
        fade=max(FADE // scale, 1),
        margin=-(-margin // scale),
        scale=scale,
        options=found.options,
        figures=found.figures,
    )


def shares(boxes: Sequence[tuple[int, int]], fade: int) -> list[Floats]:
    """For tiles (start, end) along one side the share of each of its pixels, `(end - start,)`; they sum to 1.

    Each passes into the next over `fade` pixels in the middle of what they share.
    """
    rising = [np.ones(end - start, np.float32) for start, end in boxes]
    for i, ((_, end), (start, _)) in enumerate(pairwise(boxes)):
        middle = (start + end) / 2
        at = (np.arange(len(rising[i + 1])) + 0.5 + start - middle) / fade + 0.5
        rising[i + 1] = (np.sin(np.pi / 2 * np.clip(at, 0, 1)) ** 2).astype(np.float32)
    found = [rise.copy() for rise in rising]
    for i, ((first, end), (start, _)) in enumerate(pairwise(boxes)):
        falling = 1 - rising[i + 1][: end - start]
        found[i][start - first :] *= falling
    return found


def enlarged(tile: Pixels, scale: int) -> Pixels:
    """`(h, w, C)` -> `(h scale, w scale, C)`, smoothly."""
    import cv2

    if scale == 1:
        return tile
    height, width = tile.shape[:2]
    tile = np.ascontiguousarray(tile)
    large: Pixels = cv2.resize(tile, (width * scale, height * scale), interpolation=cv2.INTER_CUBIC)
    return large


class Quilt:
    """Takes rows of tiles from top to bottom; `picture` is whole after the last one. Holds one row of them in float32."""

    def __init__(self, rows: Sequence[Sequence[Box]], scale: int, fade: int) -> None:
        self.rows, self.scale = rows, scale
        self.down = [
            np.repeat(s, scale) for s in shares([(r[0].top, r[0].bottom) for r in rows], fade)
        ]
        self.across = [
            np.repeat(s, scale) for s in shares([(b.left, b.right) for b in rows[0]], fade)
        ]
        self.picture: Pixels = np.zeros((0, 0, 3), np.uint8)
        self._pending: Floats = np.zeros((0, 0, 3), np.float32)
        self._number = 0

    def fill(self, source: Pixels, ahead: Sequence[Mapping[int, Pixels]]) -> None:
        """The rows that are missing: of each the tiles that are `ahead`, by their place, and `source` `(H, W, C)` elsewhere."""
        for number, boxes in enumerate(self.rows[self._number :]):
            tiles = ahead[number] if number < len(ahead) else {}
            self.add(
                [
                    tiles[i] if i in tiles else enlarged(box.of(source), self.scale)
                    for i, box in enumerate(boxes)
                ]
            )

    def add(self, tiles: Sequence[Pixels]) -> None:
        """The next row, `(h, w, C)` each."""
        row, scale = self.rows[self._number], self.scale
        width, channels = row[-1].right * scale, tiles[0].shape[2]
        if not self._number:
            self.picture = np.empty((self.rows[-1][0].bottom * scale, width, channels), np.uint8)
        strip = np.zeros((row[0].height * scale, width, channels), np.float32)
        for box, tile, share in zip(row, tiles, self.across, strict=True):
            strip[:, box.left * scale : box.right * scale] += tile * share[:, None]
        strip *= self.down[self._number][:, None, None]
        if self._number:
            strip[: len(self._pending)] += self._pending
        self._number += 1
        last = self._number == len(self.rows)
        top = row[0].top * scale
        end = (row[0].bottom if last else self.rows[self._number][0].top) * scale
        done = strip[: end - top]
        self.picture[top:end] = np.rint(done, out=done)
        self._pending = strip[end - top :].copy()
