"""Operators that act on rows and columns apart: blurs and smooth downsampling, solved by their SVD."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_studio.operators.base import Gram
from lcm_studio.operators.kernels import gaussian_kernel
from lcm_studio.spec.errors import BadRequest


class Separable:
    """A x = R x C^T on every channel; `rows` R `(h, H)`, `columns` C `(w, W)`, float64.

    The singular values of A are the products r_i c_j, so A+ costs four small matrix products.
    Products below `cutoff` times the largest count as zero. DDRM (Kawar et al. 2022), appendix D.
    """

    gram: Gram = "dense"

    def __init__(self, rows: Tensor, columns: Tensor, cutoff: float = 1e-7) -> None:
        self.rows, self.columns, self.cutoff = rows.double(), columns.double(), cutoff
        self.u_r, self.s_r, self.vt_r = torch.linalg.svd(self.rows, full_matrices=False)
        self.u_c, self.s_c, self.vt_c = torch.linalg.svd(self.columns, full_matrices=False)

    def A(self, x: Tensor) -> Tensor:
        image: Tensor = self.rows.to(x) @ x @ self.columns.T.to(x)
        return image

    def At(self, y: Tensor) -> Tensor:
        return self.rows.T.to(y) @ y @ self.columns.to(y)

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        s = self.s_r[:, None] * self.s_c[None]
        inverse = torch.where(s > self.cutoff * s.max(), s / (s**2 + damping), 0.0)
        inner = self.u_r.T.to(y) @ y @ self.u_c.to(y)
        answer: Tensor = self.vt_r.T.to(y) @ (inner * inverse.to(y)) @ self.vt_c.to(y)
        return answer


def _reflect(index: Tensor, size: int) -> Tensor:
    """Indices folded at the borders, half-sample symmetric (edge pixel repeated)."""
    index = index % (2 * size)
    return torch.where(index >= size, 2 * size - 1 - index, index)


def convolution_matrix(kernel: Tensor, size: int) -> Tensor:
    """Convolution with a 1-D `kernel` `(2 r + 1,)` on `size` samples, reflected borders, float64 `(size, size)`."""
    radius = (len(kernel) - 1) // 2
    matrix = torch.zeros(size, size, dtype=torch.float64)
    row = torch.arange(size)
    for offset, weight in zip(range(-radius, radius + 1), kernel.double(), strict=True):
        matrix.index_put_((row, _reflect(row + offset, size)), weight, accumulate=True)
    return matrix


def _cubic(x: Tensor, a: float = -0.5) -> Tensor:
    """Keys' cubic convolution kernel (Keys 1981, eq. 15)."""
    x = x.abs()
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))


def bicubic_matrix(p: int, size: int) -> Tensor:
    """Antialiased bicubic shrinking by `p`, float64 `(size / p, size)`: the kernel is widened p times, borders reflected."""
    out = size // p
    centre = (torch.arange(out, dtype=torch.float64) + 0.5) * p - 0.5
    taps = torch.arange(-2 * p - 1, 2 * p + 2)
    index = centre.floor().long()[:, None] + taps[None]
    weight = _cubic((index - centre[:, None]) / p)
    weight = weight / weight.sum(dim=1, keepdim=True)
    matrix = torch.zeros(out, size, dtype=torch.float64)
    row = torch.arange(out)[:, None].expand_as(index)
    return matrix.index_put_((row, _reflect(index, size)), weight, accumulate=True)


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


def gaussian_blur(sigma: float, height: int, width: int) -> Separable:
    """Gaussian blur of `sigma` pixels. Raises BadRequest if the kernel outgrows the picture."""
    kernel = gaussian_kernel(sigma)
    _fits(kernel, height, width)
    return Separable(convolution_matrix(kernel, height), convolution_matrix(kernel, width))


def bicubic_downsample(p: int, height: int, width: int) -> Separable:
    """Bicubic downsampling by `p`. Raises BadRequest if p does not divide the sides."""
    _check(p, height, width)
    return Separable(bicubic_matrix(p, height), bicubic_matrix(p, width))


def gaussian_downsample(sigma: float, p: int, height: int, width: int) -> Separable:
    """Gaussian blur, then the mean of p x p blocks. Raises BadRequest as its two parts do."""
    _check(p, height, width)
    kernel = gaussian_kernel(sigma)
    _fits(kernel, height, width)

    def side(size: int) -> Tensor:
        means = torch.eye(size // p, dtype=torch.float64).repeat_interleave(p, dim=1) / p
        return means @ convolution_matrix(kernel, size)

    return Separable(side(height), side(width))
