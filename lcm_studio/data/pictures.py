"""Bytes of a data set's picture to RGB uint8, and where training crops it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, UnidentifiedImageError

from lcm_studio.data.listing import DataError

if TYPE_CHECKING:
    import numpy as np

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 100_000_000
MAX_BYTES = 256 * 1024 * 1024
_WIDE = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")


class BrokenPicture(DataError):
    """A file that cannot be used as a picture; the message says why, without the file's name."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the doctor wants to know of a picture besides its pixels."""

    width: int
    height: int
    format: str
    mode: str
    frames: int = 1


def open_picture(data: bytes) -> tuple[Image.Image, Facts]:
    """A decoded RGB image with EXIF rotation applied, alpha on white, 16 bits scaled; raises BrokenPicture."""
    if not data:
        raise BrokenPicture("the file is empty")
    if len(data) > MAX_BYTES:
        raise BrokenPicture(f"the file is larger than {MAX_BYTES // 2**20} MB")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as raw:
            width, height = raw.size
            if width * height > MAX_PIXELS:
                raise BrokenPicture(
                    f"{width} x {height} pixels are more than {MAX_PIXELS // 10**6} million"
                )
            facts = Facts(
                width=width,
                height=height,
                format=raw.format or "",
                mode=raw.mode,
                frames=getattr(raw, "n_frames", 1),
            )
            raw.load()
            return _rgb(ImageOps.exif_transpose(raw)), facts
    except UnidentifiedImageError:
        raise BrokenPicture("it is no PNG, JPEG or WebP, whatever its name says") from None
    except Image.DecompressionBombError as error:
        raise BrokenPicture(str(error)) from None
    except (OSError, ValueError, SyntaxError, MemoryError, EOFError, OverflowError) as error:
        raise BrokenPicture(f"it cannot be decoded ({str(error)[:100]})") from None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in _WIDE:
        import numpy as np

        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if image.mode.startswith("I;16") or values.max(initial=0) > 255 else 255.0
        return Image.fromarray((values / top * 255).round().clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
    if "A" in image.getbands() or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        return Image.alpha_composite(white, coloured).convert("RGB")
    return image.convert("RGB")


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
