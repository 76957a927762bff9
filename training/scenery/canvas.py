"""Drawing in fractions of the picture with sub-pixel, anti-aliased OpenCV primitives."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from training.scenery.palettes import RGB

_SHIFT = 4  # fractional bits of OpenCV coordinates
Points = Sequence[tuple[float, float]] | np.ndarray


class Canvas:
    """An RGB picture (H, W, 3) uint8 addressed by fractions: (0, 0) top left, (1, 1) bottom right.

    Object sizes count in fractions of the shorter side, so shapes keep their proportions on
    pictures that are not square.
    """

    def __init__(self, width: int, height: int) -> None:
        self.w, self.h = width, height
        self.side = min(width, height)
        self.pixels = np.zeros((height, width, 3), np.uint8)

    def at(self, origin: tuple[float, float], points: Points, scale: float = 1.0) -> np.ndarray:
        """Fractions of points given in units of `scale` shorter sides around an origin; y is up."""
        p = np.asarray(points, np.float64) * (scale * self.side)
        return np.stack([origin[0] + p[:, 0] / self.w, origin[1] - p[:, 1] / self.h], 1)

    def _fixed(self, points: Points) -> np.ndarray:
        p = np.asarray(points, np.float64) * (self.w, self.h)
        return np.rint((p - 0.5) * (1 << _SHIFT)).astype(np.int32)

    def polygon(self, points: Points, colour: RGB) -> None:
        """Fills a polygon."""
        cv2.fillPoly(self.pixels, [self._fixed(points)], colour, cv2.LINE_AA, _SHIFT)

    def circle(self, centre: tuple[float, float], radius: float, colour: RGB) -> None:
        """Fills a disc; the radius is in shorter sides."""
        (cx, cy) = self._fixed([centre])[0]
        r = round(radius * self.side * (1 << _SHIFT))
        cv2.circle(self.pixels, (int(cx), int(cy)), r, colour, -1, cv2.LINE_AA, _SHIFT)

    def mask(self, points: Points) -> tuple[np.ndarray, slice, slice]:
        """Coverage of a polygon as float32 (h, w, 1) in [0, 1], and its rows and columns."""
        fixed = self._fixed(points)
        low = np.maximum((fixed.min(0) >> _SHIFT) - 1, 0)
        high = np.minimum((fixed.max(0) >> _SHIFT) + 3, (self.w, self.h))
        size = np.maximum(high - low, 0)
        cover = np.zeros((size[1], size[0]), np.uint8)
        if cover.size:
            cv2.fillPoly(cover, [fixed - (low << _SHIFT)], 255, cv2.LINE_AA, _SHIFT)
        rows, columns = slice(low[1], low[1] + size[1]), slice(low[0], low[0] + size[0])
        return cover.astype(np.float32)[:, :, None] * (1 / 255), rows, columns

    def blend(
        self, cover: np.ndarray, rows: slice, columns: slice, colour: RGB | np.ndarray
    ) -> None:
        """Lays a colour, or rows of colours (h, 1, 3), over the picture as far as cover says."""
        if not cover.size:
            return
        under = self.pixels[rows, columns].astype(np.float32)
        over = np.asarray(colour, np.float32)
        self.pixels[rows, columns] = under + (over - under) * cover + 0.5

    def veil(self, points: Points, colour: RGB, alpha: float) -> None:
        """Fills a polygon with a see-through colour."""
        cover, rows, columns = self.mask(points)
        self.blend(cover * np.float32(alpha), rows, columns, colour)

    def shaded(self, points: Points, top: RGB, bottom: RGB, y0: float, y1: float) -> None:
        """Fills a polygon with a vertical gradient from `top` at y0 to `bottom` at y1."""
        cover, rows, columns = self.mask(points)
        self.blend(cover, rows, columns, self.ramp(rows, (top, bottom), (y0, y1)))

    def ramp(self, rows: slice, colours: Sequence[RGB], stops: Sequence[float]) -> np.ndarray:
        """Colours of picture rows (h, 1, 3) float32, linear between stops."""
        y = (np.arange(rows.start, rows.stop) + 0.5) / self.h
        table = np.asarray(colours, np.float64)
        channels = [np.interp(y, stops, table[:, c]) for c in range(3)]
        return np.stack(channels, 1)[:, None, :].astype(np.float32)

    def ellipse(self, x: float, y: float, rx: float, ry: float, count: int = 28) -> np.ndarray:
        """Outline of an ellipse, radii in shorter sides."""
        turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
        return self.at((x, y), np.stack([rx * np.cos(turn), ry * np.sin(turn)], 1))
