"""The picture that a ControlNet is shown, made from any picture: edges, strokes or depth. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lcm_studio.spec.requests import ControlSpec, Pixels

CANNY = (100, 200)  # thresholds of the gradient, as the ControlNets of that name were trained with
MIDDLE = 128


def control_image(spec: ControlSpec, width: int, height: int) -> Pixels:
    """uint8 `(height, width, 3)`: `spec.image` at that size, by its kind.

    canny: white edges on black (OpenCV's Canny). scribble: white strokes on black, whichever of both the drawing is.
    depth: grey as it is, near is bright. none: the picture as it is, which is a map already.
    It is stretched to the size as stock pipelines do it. `spec` has an image.
    """
    from PIL import Image

    assert spec.image is not None
    image = Image.fromarray(rgb(spec.image))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    if spec.kind == "none":
        return np.asarray(image)
    grey = np.asarray(image.convert("L"))
    if spec.kind == "canny":
        import cv2

        grey = cv2.Canny(grey, *CANNY)
    elif spec.kind == "scribble":
        strokes = 255 - grey if grey.mean() >= MIDDLE else grey
        grey = np.where(strokes >= MIDDLE, 255, 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def rgb(pixels: Pixels) -> Pixels:
    """uint8 `(H, W, 3)` of grey, coloured or partly clear pixels; what is clear shows white."""
    from lcm_studio.images.gate import flatten

    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return flatten(pixels) if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def stretched(pixels: Pixels, width: int, height: int) -> bool:
    """Whether a picture has clearly other proportions than the one to be made."""
    ratio = (pixels.shape[1] * height) / (pixels.shape[0] * width)
    return not 0.95 < ratio < 1.05
