"""Blur kernels and the words that name them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lcm_studio.spec.errors import BadRequest

MAX_SIGMA, MAX_LENGTH = 32.0, 129


def gaussian_kernel(sigma: float) -> Tensor:
    """A 1-D Gaussian cut at 4 sigma, float64 `(2 r + 1,)`, sum 1. Raises BadRequest outside (0, 32]."""
    if not (math.isfinite(sigma) and 0 < sigma <= MAX_SIGMA):
        raise BadRequest(
            f"Gaussian sigma {sigma} is not a blur; use more than 0 up to {MAX_SIGMA:g}"
        )
    radius = max(1, math.ceil(4 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    k = torch.exp(-(x**2) / (2 * sigma**2))
    return k / k.sum()


def motion_kernel(length: float, angle: float) -> Tensor:
    """A line of `length` pixels at `angle` degrees (0 = horizontal, counter-clockwise), float64 `(k, k)`, sum 1.

    Drawn by integrating the line through its bilinear footprint. Raises BadRequest outside [1, 129].
    """
    if not (math.isfinite(length) and 1 <= length <= MAX_LENGTH and math.isfinite(angle)):
        raise BadRequest(f"motion length {length} is not usable; use 1 to {MAX_LENGTH} pixels")
    radius = math.ceil((length - 1) / 2)
    count = 1 + 16 * (2 * radius)
    at = torch.linspace(-(length - 1) / 2, (length - 1) / 2, count, dtype=torch.float64)
    theta = math.radians(angle)
    xs, ys = at * math.cos(theta), -at * math.sin(theta)
    grid = torch.arange(-radius, radius + 1, dtype=torch.float64)
    near_x = (1 - (xs[:, None] - grid[None]).abs()).clamp(min=0)
    near_y = (1 - (ys[:, None] - grid[None]).abs()).clamp(min=0)
    k = torch.einsum("ny,nx->yx", near_y, near_x)
    return k / k.sum()


def parse_kernel(text: str) -> tuple[str, tuple[float, ...]]:
    """("gaussian", (sigma,)) or ("motion", (length, angle)) from "gaussian:2.0" or "motion:9,30".

    Raises BadRequest for any other word or number.
    """
    name, _, rest = text.strip().lower().partition(":")
    sizes = {"gaussian": (1, 1), "motion": (1, 2)}
    try:
        numbers = tuple(float(part) for part in rest.split(","))
    except ValueError:
        numbers = ()
    low, high = sizes.get(name, (1, 0))
    if not (low <= len(numbers) <= high) or not all(math.isfinite(n) for n in numbers):
        raise BadRequest(
            f"kernel {text!r} is not known; write gaussian:SIGMA or motion:LENGTH,ANGLE, "
            "for example gaussian:2.0 or motion:9,30"
        )
    if name == "motion" and len(numbers) == 1:
        numbers = (numbers[0], 0.0)
    return name, numbers
