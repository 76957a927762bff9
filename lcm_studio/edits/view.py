"""Which part of a result an edit samples, so that a control picture of the result is shown to the network likewise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lcm_studio.edits.geometry import Box, Frame

if TYPE_CHECKING:
    from lcm_studio.spec.requests import ControlSpec, Pixels


@dataclass(frozen=True, kw_only=True)
class View:
    """`box` of a result of `size` (height, width) is sampled at the size of `frame`'s picture, which `frame` pads.

    `own`: where the request's own picture lies in the result; None = it is all of it.
    """

    size: tuple[int, int]
    frame: Frame
    box: Box | None = None
    own: Box | None = None

    def shown(self, spec: ControlSpec, picture: Pixels) -> Pixels:
        """What a ControlNet is shown, uint8 of the size that is sampled, `(H, W, 3)`.

        `picture`: of the edit, uint8 `(h, w, 3)`; it takes the place of `spec.image` where there is none. Black where it does
        not reach: no edges, or far away.
        """
        from lcm_studio.images.control import control_image

        whole = Box(0, 0, *self.size)
        box = self.box or whole
        if spec.image is None:
            place, pixels = self.own or whole, picture
        else:
            place, pixels = whole, spec.image
        canvas = np.zeros((self.frame.height, self.frame.width, 3), np.uint8)
        part = Box(
            max(box.top, place.top), max(box.left, place.left),
            min(box.bottom, place.bottom), min(box.right, place.right),
        )  # fmt: skip
        if part.height > 0 and part.width > 0:
            rows = _span(part.top - box.top, part.bottom - box.top, self.frame.height / box.height)
            columns = _span(part.left - box.left, part.right - box.left, self.frame.width / box.width)  # fmt: skip
            source = pixels[
                _span(part.top - place.top, part.bottom - place.top, pixels.shape[0] / place.height),
                _span(part.left - place.left, part.right - place.left, pixels.shape[1] / place.width),
            ]  # fmt: skip
            width, height = columns.stop - columns.start, rows.stop - rows.start
            canvas[rows, columns] = control_image(replace(spec, image=source), width, height)
        return self.frame.pad(canvas)


def _span(first: int, last: int, scale: float) -> slice:
    """Pixels `first` to `last` at another scale, one at least."""
    start = math.floor(first * scale + 1e-6)
    return slice(start, max(start + 1, math.ceil(last * scale - 1e-6)))
