"""Operators that are diagonal in cosines: blurs with reflected borders, and smooth downsampling."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_studio.operators.base import Gram
from lcm_studio.operators.cosines import dct, fold, idct, ratios, transfer, unfold
from lcm_studio.operators.kernels import gaussian_kernel
from lcm_studio.spec.errors import BadRequest


class Cosine:
    """A x = symmetric filters along rows and columns of every channel, then every p-th sample; borders reflected.

    `down` `(H,)`, `right` `(W,)`: what the filters do to each cosine (`cosines.transfer`), for samples at the middles of
    p x p blocks. Without sampling the DCT-II diagonalises A (Martucci 1994); with it, A A^T, since p^2 cosines look alike
    on the coarse grid. So A+ costs two transforms. Singular values below `cutoff` times the largest count as zero.
    """

    gram: Gram = "dense"

    def __init__(self, down: Tensor, right: Tensor, p: int = 1, cutoff: float = 1e-7) -> None:
        self.p = p
        self.gains = tuple(gains.double() * ratios(len(gains), p) for gains in (down, right))
        rows, columns = (fold(gains**2, p, 0) for gains in self.gains)
        power = rows[:, None] * columns[None]
        self.power = torch.where(power > cutoff**2 * power.max(), power, 0.0)

    def _filter(self, coefficients: Tensor) -> Tensor:
        down, right = (gains.to(coefficients) for gains in self.gains)
        return coefficients * down[:, None] * right[None]

    def shrunk(self, x: Tensor) -> Tensor:
        """The coefficients of A x from those of x."""
        return fold(fold(self._filter(x), self.p, -2), self.p, -1)

    def _spread(self, y: Tensor) -> Tensor:
        """The coefficients of A^T y from those of y."""
        return self._filter(unfold(unfold(y, self.p, -2), self.p, -1))

    def solved(self, y: Tensor, damping: float) -> Tensor:
        """The coefficients of `pinv` from those of y."""
        inverse = torch.where(self.power > 0, 1 / (self.power + damping), 0.0)
        return self._spread(y * inverse.to(y))

    def A(self, x: Tensor) -> Tensor:
        return idct(self.shrunk(dct(x)))

    def At(self, y: Tensor) -> Tensor:
        return idct(self._spread(dct(y)))

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        return idct(self.solved(dct(y), damping))


def symmetric(kernel: Tensor, size: int) -> Tensor:
    """What a symmetric 1-D `kernel` `(2 r + 1,)` does to each cosine of `size` samples, `(size,)`."""
    radius = (len(kernel) - 1) // 2
    return transfer(torch.arange(-radius, radius + 1), kernel, size)


def line_blur(kernel: Tensor, height: int, width: int, *, along: int) -> Cosine:
    """Blur with a symmetric 1-D `kernel` along one axis only: 0 = downwards, 1 = sideways."""
    one = torch.ones(height if along else width, dtype=torch.float64)
    if along:
        return Cosine(one, symmetric(kernel, width))
    return Cosine(symmetric(kernel, height), one)


def gaussian_blur(sigma: float, height: int, width: int) -> Cosine:
    """Gaussian blur of `sigma` pixels. Raises BadRequest if the kernel outgrows the picture."""
    kernel = gaussian_kernel(sigma)
    _fits(kernel, height, width)
    return Cosine(symmetric(kernel, height), symmetric(kernel, width))


def bicubic_downsample(p: int, height: int, width: int) -> Cosine:
    """Antialiased bicubic downsampling by `p`: the kernel is widened p times. Raises BadRequest if p does not divide the sides."""
    _check(p, height, width)
    offsets = torch.arange(-2 * p - 1, 2 * p + 2, dtype=torch.float64)
    offsets = offsets + (0.5 if p % 2 == 0 else 0.0)
    weights = _cubic(offsets / p)
    weights = weights / weights.sum()
    down, right = (transfer(offsets, weights, size) for size in (height, width))
    return Cosine(down, right, p)


def gaussian_downsample(sigma: float, p: int, height: int, width: int) -> Cosine:
    """Gaussian blur, then the mean of p x p blocks. Raises BadRequest as its two parts do."""
    _check(p, height, width)
    kernel = gaussian_kernel(sigma)
    _fits(kernel, height, width)
    inside = torch.arange(p, dtype=torch.float64) - (p - 1) / 2
    mean = torch.full((p,), 1 / p, dtype=torch.float64)

    def side(size: int) -> Tensor:
        return symmetric(kernel, size) * transfer(inside, mean, size)

    return Cosine(side(height), side(width), p)


def _cubic(x: Tensor, a: float = -0.5) -> Tensor:
    """Keys' cubic convolution kernel (Keys 1981, eq. 15)."""
    x = x.abs()
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))


def _check(p: int, height: int, width: int) -> None:
    if p < 1 or height % p or width % p:
        raise BadRequest(
            f"scale {p} does not divide a picture of {width} x {height}; crop it to multiples of {p}"
        )


def _fits(kernel: Tensor, height: int, width: int) -> None:
    if len(kernel) // 2 >= min(height, width):
        raise BadRequest(
            f"the kernel reaches {len(kernel) // 2} pixels, beyond a picture of {width} x {height}; "
            "use a smaller kernel"
        )
