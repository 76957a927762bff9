"""How blurred a picture is, from its spectrum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 512  # of the parts of a large picture that are looked at
LEAST = 32  # pixels a side that say something
BANDS = (0.02, 0.5, 60)  # cycles a pixel, and how many rings between
SLOPE, SLOPE_SPREAD = (
    2.4,
    0.6,
)  # of the power of sharp pictures, f^-slope: Burton & Moorhead 1987, Field 1987
MOST = 12.0  # pixels; a wider blur leaves too few rings


@dataclass(frozen=True, kw_only=True)
class Blur:
    """`sigma`: of a Gaussian, in pixels. `noise`: standard deviation of the noise, rounding included, in the picture's unit."""

    sigma: float
    noise: float


def estimate_blur(picture: NDArray[Any]) -> Blur | None:
    """The Gaussian blur of a picture `(H, W, 3)`; None where too little is in it to say.

    Sharp pictures have a power that falls as f^-slope; a Gaussian blur multiplies it by exp(-4 pi^2 sigma^2 f^2), and noise adds a
    floor. The three are fitted to the logarithms of the mean power of rings, robustly.
    """
    from scipy.optimize import least_squares

    height, width = picture.shape[:2]
    if min(height, width) < LEAST:
        return None
    f, power = spectrum(picture)
    if power.min() <= 0 or power[0] < 4 * power[-1]:
        return None
    logs = np.log(power)
    floor = float(np.log(np.sort(power)[:3].mean()))

    def gaps(p: NDArray[np.float64]) -> NDArray[np.float64]:
        level, slope, sigma, low = p
        signal = level - slope * np.log(f) - (2 * math.pi * sigma * f) ** 2
        known = (slope - SLOPE) / SLOPE_SPREAD
        return np.append(np.logaddexp(signal, low) - logs, known)

    top = logs[0] + SLOPE * math.log(f[0])
    fits = [
        least_squares(
            gaps, [top, SLOPE, sigma, floor], loss="soft_l1",
            bounds=([-50, 1, 0, -40], [50, 4, MOST, 20]),
        )
        for sigma in (0.5, 1.5, 3.0)
    ]  # fmt: skip
    best = min(fits, key=lambda fit: fit.cost)
    return Blur(sigma=float(best.x[2]), noise=math.sqrt(math.exp(best.x[3])))


def spectrum(picture: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies (cycles a pixel) of rings and the mean power of a picture's cosines there, the mean of its channels and parts."""
    import scipy.fft

    edges = np.linspace(*BANDS)
    total = np.zeros(len(edges) - 1)
    looked = parts(picture)
    for part in looked:
        x = part.astype(np.float64)
        power = (scipy.fft.dctn(x, axes=(0, 1), norm="ortho") ** 2).mean(axis=2)
        rows, columns = (np.arange(size) / (2 * size) for size in power.shape)
        ring = np.digitize(np.hypot(rows[:, None], columns[None]).ravel(), edges)
        size = len(edges) + 1
        sums = np.bincount(ring, power.ravel(), size) / np.maximum(np.bincount(ring, None, size), 1)
        total += sums[1:-1]
    return (edges[1:] + edges[:-1]) / 2, total / len(looked)


def parts(picture: NDArray[Any]) -> list[NDArray[Any]]:
    """Nine parts of a large picture `(H, W, C)`; a small one whole."""
    height, width = picture.shape[:2]
    if max(height, width) <= 3 * SIDE:
        return [picture]
    tall, wide = min(SIDE, height), min(SIDE, width)
    return [
        picture[top : top + tall, left : left + wide]
        for top in sorted({0, (height - tall) // 2, height - tall})
        for left in sorted({0, (width - wide) // 2, width - wide})
    ]
