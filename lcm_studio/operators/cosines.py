"""Cosines: the DCT-II of pictures, in which filters with reflected borders, and means of blocks, are diagonal.

Coefficients are those of the orthonormal basis phi_0 = sqrt(1 / n), phi_j(x) = sqrt(2 / n) cos(pi j (x + 1/2) / n), along the
last two axes of `(B, C, H, W)`.
"""

from __future__ import annotations

import scipy.fft
import torch
from torch import Tensor


def dct(x: Tensor) -> Tensor:
    """Coefficients of the pictures `x` `(B, C, H, W)`, on its device and in its precision; computed on the CPU."""
    return _transform(scipy.fft.dctn, x)


def idct(x: Tensor) -> Tensor:
    """The pictures of coefficients `(B, C, H, W)`."""
    return _transform(scipy.fft.idctn, x)


def _transform(transform: object, x: Tensor) -> Tensor:
    assert callable(transform)
    found = transform(x.detach().cpu().numpy(), axes=(-2, -1), norm="ortho")
    return torch.from_numpy(found).to(x.device)


def transfer(offsets: Tensor, weights: Tensor, size: int) -> Tensor:
    """What a filter does to each cosine of `size` samples, float64 `(size,)`: sum_t weights_t cos(pi j offsets_t / size).

    The filter takes `weights` `(T,)` of the samples at `offsets` `(T,)`, and is symmetric; borders are reflected.
    """
    j = torch.arange(size, dtype=torch.float64)
    waves = torch.cos(torch.pi * j[:, None] * offsets.double()[None] / size)
    gains: Tensor = waves @ weights.double()
    return gains


def ratios(size: int, p: int) -> Tensor:
    """The coarse coefficient that cosine j of `size` samples has where only the middles of blocks of p are seen, `(size,)`.

    At the middles c_j is +- c_k of m = size / p samples, for j = 2 m l +- k with the sign of (-1)^l, and nothing for odd
    multiples of m.
    """
    m = size // p
    j = torch.arange(size)
    turn = (j + m) // (2 * m)
    k = (j - 2 * m * turn).abs()
    gains = torch.full((size,), p**-0.5, dtype=torch.float64)
    gains[(k == 0) & (j > 0)] *= 2**0.5
    gains[k == m] = 0
    return torch.where(turn % 2 == 1, -gains, gains)


def fold(fine: Tensor, p: int, dim: int) -> Tensor:
    """Sums the p cosines of `dim` that look alike at the middles of blocks: `(..., p m, ...)` -> `(..., m, ...)`."""
    if p == 1:
        return fine
    x = fine.movedim(dim, -1)
    x = x.reshape(*x.shape[:-1], p, -1)
    coarse = x[..., 0, :].clone()
    for i in range(1, p):
        if i % 2:
            coarse[..., 1:] += x[..., i, 1:].flip(-1)
        else:
            coarse += x[..., i, :]
    return coarse.movedim(-1, dim)


def unfold(coarse: Tensor, p: int, dim: int) -> Tensor:
    """The adjoint of `fold`: each of m coefficients at its p places."""
    if p == 1:
        return coarse
    x = coarse.movedim(dim, -1)
    turned = torch.cat([torch.zeros_like(x[..., :1]), x[..., 1:].flip(-1)], dim=-1)
    fine = torch.cat([turned if i % 2 else x for i in range(p)], dim=-1)
    return fine.movedim(-1, dim)
