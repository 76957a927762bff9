"""Bytes of a data set's picture to RGB uint8, and where training crops it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from lcm_studio.data.listing import DataError
from lcm_studio.images.chunks import SIGNATURE, chunks
from lcm_studio.images.gate import FORMATS, Gate, read_image, readable
from lcm_studio.spec.errors import BadImage

if TYPE_CHECKING:
    import numpy as np

GATE = Gate(max_bytes=256 * 1024 * 1024, max_pixels=100_000_000, max_side=32_768)


class BrokenPicture(DataError):
    """A file that cannot be used as a picture; the message says why, without the file's name."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the doctor wants to know of a picture: its upright size in pixels, and how it is stored."""

    width: int
    height: int
    format: str
    mode: str
    frames: int = 1


def open_picture(data: bytes) -> tuple[Image.Image, Facts]:
    """The picture behind the image gate as an RGB image, and its facts; raises BrokenPicture."""
    if not data:
        raise BrokenPicture("the file is empty")
    try:
        pixels = read_image(data, gate=GATE)
        with Image.open(io.BytesIO(readable(data)), formats=FORMATS) as raw:
            extra = (
                raw.format == "MPO"
            )  # a camera's JPEG with a preview or a depth map behind the picture
            facts = Facts(
                width=pixels.shape[1],
                height=pixels.shape[0],
                format="JPEG" if extra else raw.format or "",
                mode=raw.mode,
                frames=1 if extra else max(getattr(raw, "n_frames", 1), frames(data)),
            )
    except (BadImage, OSError, ValueError, SyntaxError) as error:
        raise BrokenPicture(str(error)) from None
    return Image.fromarray(pixels), facts


def frames(data: bytes) -> int:
    """Pictures of an animated PNG; 1 of anything else."""
    if not data.startswith(SIGNATURE):
        return 1
    control = next((bytes(c) for kind, c in chunks(data) if kind == b"acTL"), b"")
    return max(1, int.from_bytes(control[:4], "big"))


def crop_box(
    width: int, height: int, size: int, *, across: float = 0.5, down: float = 0.5
) -> tuple[float, float, float, float]:
    """The square of `width` x `height` that becomes `size` x `size`: (left, top, right, bottom).

    `across`, `down` in [0, 1] place it; 0.5, 0.5 is the centre crop.
    """
    if size < 1 or width < 1 or height < 1:
        raise ValueError(f"{width} x {height} at size {size} leaves no square")
    side = min(width, height)
    left, top = (width - side) * across, (height - side) * down
    return left, top, left + side, top + side


def fit(
    image: Image.Image, size: int, *, across: float = 0.5, down: float = 0.5, flip: bool = False
) -> np.ndarray:
    """RGB uint8 (size, size, 3): the cropped square, resized by area-true Lanczos, mirrored if `flip`."""
    import numpy as np

    box = crop_box(*image.size, size, across=across, down=down)
    if image.size == (size, size):
        small = image
    else:
        small = image.resize((size, size), Image.Resampling.LANCZOS, box=box)
    array = np.asarray(small.convert("RGB"), dtype=np.uint8)
    return np.ascontiguousarray(array[:, ::-1] if flip else array)
