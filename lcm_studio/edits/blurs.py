"""Blurs and downsampling by the names that users give them."""

from __future__ import annotations

import math

from lcm_studio.operators import (
    BlockMean,
    Convolution,
    LinearOperator,
    bicubic_downsample,
    gaussian_blur,
    gaussian_downsample,
    line_blur,
    motion_kernel,
    parse_kernel,
)
from lcm_studio.spec.errors import BadRequest

SMOOTH_DAMPING = 3e-3  # of a blur's projection: 8-bit rounding of y is not to be amplified


def blur_operator(kernel: str, height: int, width: int) -> LinearOperator:
    """The operator of a kernel's name; diagonal in cosines where it can be. Raises BadRequest for another name."""
    name, numbers = parse_kernel(kernel)
    if name == "gaussian":
        return gaussian_blur(numbers[0], height, width)
    k = motion_kernel(*numbers)
    radius = k.shape[0] // 2
    if radius >= min(height, width):
        return Convolution(k, height, width)  # raises the sentence
    if numbers[1] % 180 == 0:
        return line_blur(k[radius], height, width, along=1)
    if numbers[1] % 180 == 90:
        return line_blur(k[:, radius], height, width, along=0)
    return Convolution(k, height, width, iterations=8)


def reach_of(kernel: str) -> float:
    """Pixels over which a blur has mixed: the width at half height of a Gaussian, the length of a motion."""
    name, numbers = parse_kernel(kernel)
    return 2 * math.sqrt(2 * math.log(2)) * numbers[0] if name == "gaussian" else numbers[0]


def downsampler(name: str, p: int, height: int, width: int) -> LinearOperator:
    """How a picture was shrunk by `p`. Raises BadRequest for an unknown name."""
    if name == "area":
        return BlockMean(p, height, width)
    if name == "bicubic":
        return bicubic_downsample(p, height, width)
    kind, _, rest = name.partition(":")
    try:
        sigma = float(rest) if kind == "blur" else math.nan
    except ValueError:
        sigma = math.nan
    if not math.isfinite(sigma):
        raise BadRequest(f"operator={name!r} is unknown; use area, bicubic or blur:SIGMA")
    return gaussian_downsample(sigma, p, height, width)
