"""How noisy a picture is, and a first guess of what is under the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lcm_studio.edits.geometry import WHOLE_PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lcm_studio.spec.requests import Pixels


def estimate_sigma(picture: NDArray[Any]) -> float:
    """Standard deviation of white noise in a picture `(H, W, C)`, in the picture's own unit.

    The median absolute diagonal detail of the finest Haar scale over 0.6745 (Donoho & Johnstone 1994); the
    median over channels. Pixels at the ends of an 8-bit range are left out: clipping hides their noise.
    """
    picture = sampled(picture)
    x = np.asarray(picture, np.float64)
    if np.issubdtype(picture.dtype, np.integer):
        x = np.where((picture <= 0) | (picture >= 255), np.nan, x)
    x = x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2]
    detail = (x[::2, ::2] - x[1::2, ::2] - x[::2, 1::2] + x[1::2, 1::2]) / 2
    found = []
    for c in range(detail.shape[-1]):
        usable = detail[..., c][np.isfinite(detail[..., c])]
        if usable.size >= 16:
            found.append(float(np.median(np.abs(usable))) / 0.6745)
    return float(np.median(found)) if found else 0.0


def sampled(picture: NDArray[Any]) -> NDArray[Any]:
    """Of a large picture `(H, W, C)` every so many blocks of 64 rows: as good for a median, in little memory."""
    step = -(-picture.shape[0] * picture.shape[1] // WHOLE_PIXELS)
    if step < 2:
        return picture
    blocks = [picture[top : top + 64] for top in range(0, picture.shape[0] - 63, 64 * step)]
    return np.concatenate(blocks)


def smoothed(noisy: Pixels, sigma: float) -> Pixels:
    """Non-local means as a first guess, so that the noise itself, `sigma` for pixels in [0, 1], does not enter the latents."""
    strength = float(np.clip(sigma * 255 * 0.9, 1, 90))
    smooth: Pixels = cv2.fastNlMeansDenoisingColored(
        np.ascontiguousarray(noisy), None, strength, strength, 5, 13
    )
    return smooth
