"""Whether a picture was blurred by a straight motion, and by which, from its cepstrum (Cannon 1976).

The spectrum of such a picture is multiplied by a sinc along the motion, whose logarithm has one period: the inverse transform of
the logarithm of the power, the cepstrum, has a negative peak at the motion's length and angle, and smaller ones at its multiples.
A peak counts only where the cepstrum around it is that of a motion; letters and bricks have peaks of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from lcm_studio.edits.blur_level import parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

WINDOW = 256  # side of the squares whose logarithms are averaged; half as far apart
LEAST = 64  # pixels a side that say something
SHORTEST, LONGEST = 3.5, 40.0  # distance of the peak, in pixels
# ends of a line of L pixels, as `operators.motion_kernel` draws it, lie L - 1 apart, and the peak a tenth further out
ENDS = 0.9
PEAKS = 6  # that are tried
FLOOR = 1e-3  # of a kernel's power, where noise would be
# What makes a peak that of a motion: the correlation with its cepstrum, the height beside it, and the correlation at the multiples.
# docs/results/editing.md has the pictures that these were chosen on and those that they were tried on.
FIT, HEIGHT, MULTIPLES = 0.55, 0.3, 0.4


@dataclass(frozen=True, kw_only=True)
class Motion:
    """`length` in pixels; `angle` in degrees, 0 = horizontal, counter-clockwise."""

    length: float
    angle: float

    @property
    def kernel(self) -> str:
        """Its name, as `operators.parse_kernel` reads it."""
        return f"motion:{self.length:.1f},{round(self.angle) % 180}"


def estimate_motion(picture: NDArray[Any]) -> Motion | None:
    """The motion that has blurred a picture `(H, W, 3)`; None where there is no sign of one."""
    import cv2

    if min(picture.shape[:2]) < LEAST:
        return None
    side = min(WINDOW, *picture.shape[:2]) // 2 * 2
    squares = [cv2.cvtColor(part, cv2.COLOR_RGB2GRAY) for part in parts(picture)]
    logs = [log_power(square) for part in squares for square in windows(part, side)]
    seen = cepstrum(np.mean(logs, axis=0))
    tried = [(match(seen, motion), motion) for motion in peaks(seen)]
    if not tried:
        return None
    (fit, height, multiples), motion = max(tried, key=lambda one: one[0][0])
    return motion if fit > FIT and height > HEIGHT and multiples > MULTIPLES else None


def windows(grey: NDArray[Any], side: int) -> Iterator[NDArray[Any]]:
    """Squares that overlap by half, all over `grey` `(H, W)`."""
    for top, left in product(*(places(length, side) for length in grey.shape)):
        yield grey[top : top + side, left : left + side]


def places(length: int, side: int) -> list[int]:
    """Where squares begin along a side."""
    count = math.ceil((length - side) / (side // 2)) + 1
    return [round(at) for at in np.linspace(0, length - side, count)]


def log_power(square: NDArray[Any]) -> Floats:
    """Of a square with its border faded out, `(n, n)` in [0, 255]."""
    fade = np.hanning(len(square))
    x = (square - square.mean()) * fade[:, None] * fade[None]
    logs: Floats = np.log(np.abs(np.fft.fft2(x)) ** 2 + 1.0)
    return logs


def cepstrum(logs: Floats) -> Floats:
    """Of the logarithm of a power `(n, n)`, less what depends on the distance to the middle alone; 0 in the middle."""
    n = len(logs)
    f = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n)[None])
    ring = (f * n).astype(int)
    means = np.bincount(ring.ravel(), logs.ravel()) / np.bincount(ring.ravel()).clip(min=1)
    fade = np.cos(np.pi * np.minimum(f, 0.5)) ** 2  # the highest frequencies are noise
    shifted: Floats = np.fft.fftshift(np.fft.ifft2((logs - means[ring]) * fade).real)
    return shifted


def grid(n: int) -> tuple[Floats, Floats]:
    """Rows and columns from the middle."""
    at = np.arange(n, dtype=np.float64) - n // 2
    return at[:, None], at[None]


def peaks(seen: Floats) -> Iterator[Motion]:
    """The deepest places of half a cepstrum, each to a part of a pixel."""
    y, x = grid(len(seen))
    distance = np.hypot(y, x)
    half = (y < 0) | ((y == 0) & (x > 0))
    reach = min(LONGEST, 0.3 * len(seen))
    left = np.where(half & (distance >= SHORTEST) & (distance <= reach), seen, np.inf)
    for _ in range(PEAKS):
        row, column = np.unravel_index(np.argmin(left), left.shape)
        if not left[row, column] < 0:
            return
        dy = y[row, 0] + vertex(*seen[row - 1 : row + 2, column])
        dx = x[0, column] + vertex(*seen[row, column - 1 : column + 2])
        yield Motion(
            length=math.hypot(dy, dx) + ENDS, angle=math.degrees(math.atan2(-dy, dx)) % 180
        )
        left[row - 1 : row + 2, column - 1 : column + 2] = np.inf


def vertex(before: float, here: float, after: float) -> float:
    """Where the parabola through three neighbours has its end, from the middle one, within a pixel."""
    bend = before - 2 * here + after
    return float(np.clip((before - after) / (2 * bend), -1, 1)) if bend else 0.0


def match(seen: Floats, motion: Motion) -> tuple[float, float, float]:
    """Of a cepstrum with that of a motion: (correlation, height beside it, correlation at the multiples of its length)."""
    from lcm_studio.operators import motion_kernel

    n = len(seen)
    drawn = motion_kernel(motion.length, motion.angle).numpy()
    power = np.abs(np.fft.fft2(drawn, (n, n))) ** 2
    wanted = cepstrum(np.log(power + FLOOR))
    y, x = grid(n)
    theta, distance = math.radians(motion.angle), np.hypot(y, x)
    along = np.abs(x * math.cos(theta) - y * math.sin(theta))
    across = np.abs(x * math.sin(theta) + y * math.cos(theta))
    around = (distance >= 2) & (distance <= min(80, 0.4 * n))
    most = min(3.4 * motion.length, 0.45 * n)
    further = (across <= 2) & (along >= 1.35 * motion.length) & (along <= most)
    fit, height = correlation(seen[around], wanted[around])
    return fit, height, correlation(seen[further], wanted[further])[0]


def correlation(a: Floats, b: Floats) -> tuple[float, float]:
    """The cosine of the angle between `a` and `b`, and how much of `b` is in `a`."""
    shared, of_a, of_b = float(a @ b), float(a @ a), float(b @ b)
    if not of_a or not of_b:
        return 0.0, 0.0
    return shared / math.sqrt(of_a * of_b), shared / of_b
