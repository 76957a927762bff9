"""Distributions of the plane: two moons, rings, a grid, a spiral, a picture's dark pixels, points drawn by hand.

Each is a mixture of Gaussians with a mean of 0 and a standard deviation of `SIGMA_DATA` per coordinate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lcm_studio.lab.plane_mixture import Floats, Mixture
from lcm_studio.spec.errors import BadRequest

SIGMA_DATA = 0.5
MOST_POINTS = 600  # components of a mixture: what one evaluation costs grows with them
PICTURE_WIDTH = 0.03
PICTURE_SIDE = 256  # a larger picture is shrunk before its dark pixels are taken


def moons() -> Mixture:
    """Two half circles that reach into each other."""
    angle = np.linspace(0, np.pi, 96)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    return standard(np.concatenate([upper, lower]), width=0.05)


def rings() -> Mixture:
    """Two circles around one centre, with the same weight per length."""
    circles = []
    for radius, count in ((1.0, 160), (0.45, 72)):
        angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
        circles.append(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    return standard(np.concatenate(circles), width=0.035)


def grid() -> Mixture:
    """Nine Gaussians, three by three."""
    ticks = np.array([-1.0, 0.0, 1.0])
    return standard(np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2), width=0.05)


def spiral() -> Mixture:
    """One arm that turns nearly twice."""
    angle = np.sqrt(np.linspace(0.02, 1, 220)) * 3.6 * np.pi
    return standard(np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1), width=0.035)


def pair() -> Mixture:
    """Two Gaussians with weights 0.8 and 0.2: which sampler keeps the weights?"""
    return standard(np.array([[-1.0, 0.0], [1.0, 0.0]]), width=0.1, weights=np.array([0.8, 0.2]))


DISTRIBUTIONS: dict[str, tuple[str, Callable[[], Mixture]]] = {
    "moons": ("Two moons", moons),
    "rings": ("Rings", rings),
    "grid": ("Grid of Gaussians", grid),
    "spiral": ("Spiral", spiral),
    "pair": ("Unequal pair", pair),
}


def distribution(name: str) -> Mixture:
    """The mixture of a name in `DISTRIBUTIONS`. Raises BadRequest."""
    try:
        return DISTRIBUTIONS[name][1]()
    except KeyError:
        names = ", ".join(DISTRIBUTIONS)
        raise BadRequest(
            f"data={name!r} is no distribution of the plane; use one of {names}"
        ) from None


def from_points(points: Sequence[Sequence[float]] | Floats, *, width: float = 0.05) -> Mixture:
    """A narrow Gaussian on each point `(N, 2)` drawn by hand; y points up. Raises BadRequest."""
    array = as_points(points)
    if len(array) < 2 or np.ptp(array, axis=0).max() < 1e-6:
        raise BadRequest(
            f"{len(array)} drawn points at one place are no distribution; draw two or more points apart"
        )
    return standard(thinned(array, MOST_POINTS), width=width)


def from_picture(pixels: Floats) -> Mixture:
    """The dark pixels of a picture, uint8 `(H, W, 3)`: the darker one, the likelier its place.

    Raises BadRequest for a picture of one brightness.
    """
    small = shrunk(np.asarray(pixels), PICTURE_SIDE)
    luma = small.astype(np.float64) @ np.array([0.299, 0.587, 0.114]) / 255
    if np.ptp(luma) < 0.02:
        raise BadRequest(
            "the picture has one brightness everywhere; choose one with dark lines or shapes"
        )
    # of the range from dark to bright the darker 45% count; the rest is paper
    ink = np.clip(0.45 - (luma - luma.min()) / np.ptp(luma), 0, None).ravel()
    rng = np.random.default_rng(0)
    places = rng.choice(ink.size, size=MOST_POINTS, p=ink / ink.sum())
    rows, columns = np.divmod(places, luma.shape[1])
    points = np.stack([columns, -rows], axis=1) + rng.uniform(-0.5, 0.5, (MOST_POINTS, 2))
    return standard(points, width=PICTURE_WIDTH)


def as_points(points: Sequence[Sequence[float]] | Floats) -> Floats:
    """`(N, 2)` float64, finite. Raises BadRequest."""
    try:
        array = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    if array.ndim != 2 or array.shape[1:] != (2,) or not np.isfinite(array).all():
        raise BadRequest("drawn points must be a list of [x, y] numbers; draw them again")
    if np.abs(array).max(initial=0) > 1e6:
        raise BadRequest("drawn points lie outside of [-1e6, 1e6]; draw them again")
    return array


def standard(points: Floats, *, width: float, weights: Floats | None = None) -> Mixture:
    """The mixture on `points`, moved and scaled to a mean of 0 and a standard deviation of SIGMA_DATA.

    The width is in the units of the result. One factor scales both coordinates: no shape is squeezed.
    """
    shares = np.full(len(points), 1 / len(points)) if weights is None else weights
    centred = points - shares @ points
    spread = float(shares @ (centred**2).sum(axis=1) / 2) ** 0.5
    scale = (SIGMA_DATA**2 - width**2) ** 0.5 / spread
    return Mixture(centres=centred * scale, weights=shares, width=width)


def thinned(points: Floats, most: int) -> Floats:
    """At most `most` of the points, evenly taken."""
    if len(points) <= most:
        return points
    return points[np.linspace(0, len(points) - 1, most).round().astype(int)]


def shrunk(pixels: Floats, side: int) -> Floats:
    """The picture with a longer side of at most `side` pixels."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
    image.thumbnail((side, side), Image.Resampling.BOX)
    return np.asarray(image)
