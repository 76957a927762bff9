"""How noisy a picture is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def estimate_sigma(picture: NDArray[Any]) -> float:
    """Standard deviation of white noise in a picture `(H, W, C)`, in the picture's own unit.

    The median absolute diagonal detail of the finest Haar scale over 0.6745 (Donoho & Johnstone 1994); the
    median over channels. Pixels at the ends of an 8-bit range are left out: clipping hides their noise.
    """
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
