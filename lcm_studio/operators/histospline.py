"""The smoothest picture with given block means: a right inverse of `BlockMean` that prints no blocks."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


class Histospline:
    """S y, the picture `(B, C, h p, w p)` of least bending whose p x p means are y `(B, C, h, w)`: A S = I.

    A+ of block means repeats every mean over its block, so a projection with it leaves the grid of blocks in the
    picture. S = K A^T (A K A^T)^-1 meets the same means and is the pseudo-inverse in another metric: along each axis
    it minimises the energy of the second differences, sum (d[x-1] - 2 d[x] + d[x+1])^2, borders reflected.
    In one dimension that is the histospline (Boneva, Kendall & Stefanov 1971), in two pycnophylactic interpolation
    (Tobler 1979) with a product of such energies, so that it costs two matrix products.
    """

    def __init__(self, p: int) -> None:
        self.p = p

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        """S y; with `damping` A S y = y / (1 + damping p^2), as for `BlockMean.pinv`."""
        rows, columns = (_axis(size, self.p).to(y) for size in y.shape[-2:])
        smooth: Tensor = rows @ (y / (1 + damping * self.p**2)) @ columns.T
        return smooth


@lru_cache(maxsize=16)
def _axis(m: int, p: int) -> Tensor:
    """S along one axis of m blocks, float64 `(m p, m)`.

    Cosines c_j(x) = cos(pi j (x + 1/2) / n), n = m p, diagonalise all of it: a second difference takes c_j to
    -(2 sin(pi j / 2n))^2 c_j, and the mean of blocks takes it to a_j = (-1)^l sin(pi j / 2m) / (p sin(pi j / 2n))
    times the coarse cosine of frequency k, for every j = 2 m l +- k. So the least energy shares a coarse coefficient
    among those j as K_j a_j / sum K a^2, K_j the inverse of the energy; odd multiples of m have no mean.
    """
    n = m * p
    j = torch.arange(n)
    fold = (j + m) // (2 * m)
    k = (j - 2 * m * fold).abs()
    half = torch.sin(torch.pi * j.double() / (2 * n))
    a = torch.sin(torch.pi * j.double() / (2 * m)) / (p * half)
    a[0] = 1.0
    a = torch.where(fold % 2 == 1, -a, a)
    a[k == m] = 0.0
    a[(k == 0) & (j > 0)] = 0.0
    bend = (2 * half) ** -4
    bend[0] = 1.0
    k = k.clamp(max=m - 1)  # an odd multiple of m has no coarse cosine, and no weight
    total = torch.zeros(m, dtype=torch.float64).index_add_(0, k, bend * a**2)
    share = bend * a / total[k]
    coarse = torch.where(k == 0, 1.0, 2.0).double()[:, None] / m * _cosines(m, k)
    return _cosines(n, j).T @ (share[:, None] * coarse)


def _cosines(size: int, j: Tensor) -> Tensor:
    """cos(pi j (x + 1/2) / size) for x = 0 ... size - 1, float64 `(len(j), size)`."""
    x = torch.arange(size, dtype=torch.float64) + 0.5
    return torch.cos(torch.pi * j.double()[:, None] * x[None] / size)
