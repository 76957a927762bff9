"""The smoothest picture with given block means: a right inverse of `BlockMean` that prints no blocks."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from lcm_studio.operators.cosines import dct, fold, idct, ratios, transfer, unfold


class Histospline:
    """S y, the picture `(B, C, h p, w p)` of least bending whose p x p means are y `(B, C, h, w)`: A S = I.

    A+ of block means repeats every mean over its block, so a projection with it leaves the grid of blocks in the
    picture. S = K A^T (A K A^T)^-1 meets the same means and is the pseudo-inverse in another metric: along each axis
    it minimises the energy of the second differences, sum (d[x-1] - 2 d[x] + d[x+1])^2, borders reflected.
    In one dimension that is the histospline (Boneva, Kendall & Stefanov 1971), in two pycnophylactic interpolation
    (Tobler 1979) with a product of such energies, so that it costs two transforms into cosines.
    """

    def __init__(self, p: int) -> None:
        self.p = p

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        """S y; with `damping` A S y = y / (1 + damping p^2), as for `BlockMean.pinv`."""
        down, right = (_shares(size, self.p).to(y) for size in y.shape[-2:])
        coarse = dct(y / (1 + damping * self.p**2))
        fine = unfold(unfold(coarse, self.p, -2), self.p, -1)
        return idct(fine * down[:, None] * right[None])


@lru_cache(maxsize=16)
def _shares(m: int, p: int) -> Tensor:
    """The coefficient of each cosine of m p samples, of the coarse one that it looks like in m block means, `(m p,)`.

    A second difference takes c_j(x) = cos(pi j (x + 1/2) / n), n = m p, to -(2 sin(pi j / 2n))^2 c_j, and the mean of
    blocks takes it to a_j = +- sin(pi j / 2m) / (p sin(pi j / 2n)) of a coarse cosine (`cosines.ratios` says which). So
    the least energy shares a coarse coefficient among those j as K_j a_j / sum K a^2, K_j the inverse of the energy.
    """
    n = m * p
    inside = torch.arange(p, dtype=torch.float64) - (p - 1) / 2
    a = transfer(inside, torch.full((p,), 1 / p, dtype=torch.float64), n) * ratios(n, p)
    energy = (2 * torch.sin(torch.pi * torch.arange(n, dtype=torch.float64) / (2 * n))) ** 4
    energy[0] = 1.0
    total = unfold(fold(a**2 / energy, p, 0), p, 0)
    return torch.where(total > 0, a / energy / total, 0.0)
