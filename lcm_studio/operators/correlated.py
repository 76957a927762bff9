"""Errors that go together: how much of a noisy picture to believe, by spatial frequency."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from lcm_studio.operators.cosines import dct, idct


class Correlated:
    """K (K + damping)^-1 y on `(B, C, H, W)`: what a residual y - x says of x, whose errors have the covariance K.

    With `damping` the noise's variance over that of the errors, x + K (K + damping)^-1 (y - x) is the posterior mean
    (Wiener's filter of the residual). K is stationary with reflected borders, hence diagonal in cosines:
    K(w) = 1 / (w (1 + (w / corner)^2)), w in [0, sqrt 2] the frequency over the highest of an axis. That is the shape
    measured of a network's clean estimates: wrong in tones and places rather than in grain, while the noise of y is the
    same at all frequencies. So tones are those of y, and detail finer than the noise shows is the network's. Where the
    spectrum bends down, `corner`, is the network's own.
    """

    def __init__(self, corner: float) -> None:
        self.corner = corner

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        """K (K + damping)^-1 y."""
        return idct(dct(y) / (1 + damping * _energy(*y.shape[-2:], self.corner).to(y)))


@lru_cache(maxsize=8)
def _energy(height: int, width: int, corner: float) -> Tensor:
    """1 / K per cosine, float64 `(height, width)`: 0 for the mean, which the noise hardly hides."""
    down, right = (torch.arange(n, dtype=torch.float64) / n for n in (height, width))
    w = torch.hypot(down[:, None], right[None])
    return w * (1 + (w / corner) ** 2)
