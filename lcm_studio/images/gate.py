"""The one way in for foreign pictures: PNG, JPEG or WEBP, within limits, as uint8 arrays of known meaning."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lcm_studio.images.chunks import SIGNATURE, pixels_only
from lcm_studio.spec.errors import BadImage, TooLarge
from lcm_studio.spec.regular import open_regular

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels

FORMATS = ("PNG", "JPEG", "WEBP")
BROKEN_EXIF = (
    OSError,
    ValueError,
    SyntaxError,
    KeyError,
    TypeError,
    AttributeError,
    ArithmeticError,
)
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The limits. Bytes of the file, pixels and sides of the picture."""

    max_bytes: int = 40 * 1024 * 1024
    max_pixels: int = 64_000_000
    max_side: int = 16_384
    min_side: int = 1


LARGEST = Gate(
    max_pixels=170_000_000, max_side=65_536
)  # that is made smaller where that is asked for


def read_image(
    source: str | Path | bytes | Image.Image,
    *,
    alpha: str = "composite",
    gate: Gate | None = None,
    fit: bool = False,
) -> Pixels:
    """The picture in `source` (path, bytes or an open PIL image) as uint8 `(H, W, 3)`, or `(H, W, 4)`.

    EXIF rotation is applied, 16-bit and float data are scaled, CMYK and palettes are converted, and of an
    animation the first frame is taken. `alpha`: "composite" lays transparency over white and returns three
    channels; "keep" returns four where some pixel is not opaque, else three. `fit`: a picture that is too large for the gate, up
    to `LARGEST`, is made smaller until it fits.

    Raises TooLarge for one that `fit` would help, BadImage for every other, with the reason and the remedy.
    """
    gate = gate or Gate()
    if isinstance(source, Image.Image):
        _check_size(source.size, gate)
        return _finish(source, alpha)
    raw = _read_bytes(source, gate)
    try:
        with warnings.catch_warnings():
            # Pillow's own limit: it warns above, and raises from twice of it on
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(readable(raw)), formats=FORMATS) as image:
                _check_size(image.size, LARGEST if fit else gate)
                image.seek(0)
                if fit:
                    image.draft("RGB", _fitting(image.size, gate))
                image.load()
                pixels = _finish(image, alpha)
                return fitted(pixels, gate) if fit else pixels
    except BadImage:
        raise
    except Image.DecompressionBombError as error:
        raise BadImage(_too_big("the picture", gate)) from error
    except UnidentifiedImageError as error:
        raise BadImage("this file is no PNG, JPEG or WEBP picture; convert it first") from error
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, MemoryError,
            TypeError, OverflowError, ArithmeticError) as error:  # fmt: skip
        raise BadImage("the picture is damaged or cut short; save it again") from error


def readable(raw: bytes) -> bytes:
    """What a library is given of a file: of a PNG only what decides over the pixels, else all of it."""
    return pixels_only(raw) if raw.startswith(SIGNATURE) else raw


def has_alpha(pixels: Pixels) -> bool:
    """Whether an array carries transparency."""
    return pixels.ndim == 3 and pixels.shape[2] == 4


def flatten(pixels: Pixels, background: int = 255) -> Pixels:
    """`(H, W, 3 or 4)` over a grey `background` as `(H, W, 3)`: hidden colours do not show."""
    if not has_alpha(pixels):
        return pixels
    rgb = pixels[..., :3].astype(np.uint32)
    a = pixels[..., 3:].astype(np.uint32)
    return ((rgb * a + background * (255 - a) + 127) // 255).astype(np.uint8)


def _read_bytes(source: str | Path | bytes, gate: Gate) -> bytes:
    if isinstance(source, bytes):
        size, raw = len(source), source
    else:
        path = Path(source)
        try:
            with open_regular(path) as file:
                size = os.fstat(file.fileno()).st_size
                raw = file.read(gate.max_bytes) if size <= gate.max_bytes else b""
        except (OSError, ValueError) as error:
            raise BadImage(f"{path.name[:80]!r} cannot be read; choose another file") from error
    if size > gate.max_bytes:
        raise BadImage(
            f"the file has {size / 2**20:.0f} MB; use at most {gate.max_bytes / 2**20:.0f} MB"
        )
    if not raw.startswith(MAGIC):
        raise BadImage("this file is no PNG, JPEG or WEBP picture; convert it first")
    return raw


def _check_size(size: tuple[int, int], gate: Gate) -> None:
    width, height = size
    if min(width, height) < gate.min_side:
        raise BadImage(
            f"the picture is {width} x {height} pixels; each side needs at least {gate.min_side}"
        )
    if width * height > gate.max_pixels or max(width, height) > gate.max_side:
        fits = width * height <= LARGEST.max_pixels and max(width, height) <= LARGEST.max_side
        kind = TooLarge if fits and gate is not LARGEST else BadImage
        raise kind(_too_big(f"{width} x {height} pixels", gate))


def _fitting(size: tuple[int, int], gate: Gate) -> tuple[int, int]:
    """The largest size of the same shape that the gate lets pass."""
    width, height = size
    scale = min(1.0, (gate.max_pixels / (width * height)) ** 0.5, gate.max_side / max(size))
    return max(1, int(width * scale)), max(1, int(height * scale))


def fitted(pixels: Pixels, gate: Gate) -> Pixels:
    """Pixels `(H, W, C)`, made smaller where they are too many for the gate."""
    import cv2

    height, width = pixels.shape[:2]
    size = _fitting((width, height), gate)
    if size == (width, height):
        return pixels
    smaller: Pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return smaller


def _too_big(what: str, gate: Gate) -> str:
    return (
        f"{what} is too large; use at most {gate.max_pixels / 1e6:.0f} megapixels "
        f"and {gate.max_side} pixels a side"
    )


def _finish(image: Image.Image, alpha: str) -> Pixels:
    # a broken EXIF block says nothing about rotation
    with contextlib.suppress(*BROKEN_EXIF):
        image = ImageOps.exif_transpose(image) or image
    pixels = _to_array(image)
    if pixels.shape[2] == 4 and bool((pixels[..., 3] == 255).all()):
        pixels = pixels[..., :3]
    if alpha == "composite":
        pixels = flatten(pixels)
    return np.ascontiguousarray(pixels)


def _to_array(image: Image.Image) -> Pixels:
    """uint8 `(H, W, 3 or 4)` of any PIL mode."""
    mode = image.mode
    if mode.startswith("I;16"):
        return _keyed(_grey(np.asarray(image).astype(np.float64) / 257), image)
    if mode == "I":
        values = np.asarray(image).astype(np.float64)
        return _grey(values / 257 if values.max(initial=0) > 255 else values)
    if mode == "F":
        return _grey(_from_float(np.asarray(image).astype(np.float64)))
    if mode == "RGBA" or (mode == "RGB" and "transparency" not in image.info):
        return np.array(image, dtype=np.uint8)
    if mode in ("LA", "La", "PA", "RGBa") or "transparency" in image.info:
        return np.array(image.convert("RGBA"), dtype=np.uint8)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _keyed(pixels: Pixels, image: Image.Image) -> Pixels:
    """`(H, W, 3)`, or `(H, W, 4)` where the 16-bit grey `image` names a value that is transparent."""
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return pixels
    alpha = np.where(np.asarray(image) == key, 0, 255).astype(np.uint8)
    return np.concatenate([pixels, alpha[..., None]], axis=-1)


def _from_float(values: Any) -> Any:
    if not np.isfinite(values).all():
        raise BadImage("the picture holds infinite or undefined values; save it as 8-bit PNG")
    return values * 255 if values.max(initial=0) <= 1 else values


def _grey(values: Any) -> Pixels:
    grey = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
