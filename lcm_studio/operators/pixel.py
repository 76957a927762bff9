"""Operators that act on each pixel alone: a mask and a weighted sum of channels, and the neutral way back from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lcm_studio.operators.base import Gram
from lcm_studio.spec.errors import BadRequest

LUMA = (0.2989, 0.5870, 0.1140)


class Mask:
    """A x = keep * x: the pixels where `keep` is 1 are known.

    `keep`: `(1 or B, 1 or C, H, W)` of zeros and ones. Raises BadRequest for any other value: a soft mask
    is no projection. CM paper, appendix D (inpainting).
    """

    gram: Gram = "diagonal"

    def __init__(self, keep: Tensor) -> None:
        if not bool(((keep == 0) | (keep == 1)).all()):
            raise BadRequest("a mask operator takes zeros and ones only; threshold the mask first")
        self.keep = keep

    def _as(self, x: Tensor) -> Tensor:
        return self.keep.to(device=x.device, dtype=x.dtype)

    def A(self, x: Tensor) -> Tensor:
        return self._as(x) * x

    def At(self, y: Tensor) -> Tensor:
        return self._as(y) * y

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        return self._as(y) * y / (1 + damping)


class Luma:
    """A x = sum_c v_c x_c per pixel, `(B, C, H, W)` -> `(B, 1, H, W)`.

    `weights`: one per channel. A A^T = |v|^2, so A+ y = v y / |v|^2 (CM paper, appendix D: colorization).
    """

    gram: Gram = "scalar"

    def __init__(self, weights: Sequence[float] = LUMA) -> None:
        self.weights = tuple(float(w) for w in weights)
        self.norm2 = sum(w * w for w in self.weights)
        if not self.norm2 > 0:
            raise BadRequest(f"channel weights {self.weights} are all zero; give at least one")

    def _v(self, like: Tensor) -> Tensor:
        return torch.tensor(self.weights, dtype=like.dtype, device=like.device).reshape(1, -1, 1, 1)

    def A(self, x: Tensor) -> Tensor:
        return (self._v(x) * x).sum(dim=1, keepdim=True)

    def At(self, y: Tensor) -> Tensor:
        return self._v(y) * y

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        return self._v(y) * y / (self.norm2 + damping)


class Neutral:
    """S y = y / sum(v) in every channel, `(B, 1, H, W)` -> `(B, C, H, W)`: a right inverse of `Luma`, A S = I.

    A+ shifts a pixel along v, so that what is too dark is made greener and what is too bright loses green: it tints a
    picture as it corrects it. Errors of tone are of all channels alike. With K = 1 1^T for their covariance,
    S = K A^T (A K A^T)^-1 shifts along the greys, and leaves the differences of the channels as they are.
    """

    def __init__(self, weights: Sequence[float] = LUMA) -> None:
        self.channels = len(weights)
        self.total = sum(float(w) for w in weights)
        if self.total == 0:
            raise BadRequest(
                f"channel weights {tuple(weights)} add up to zero, so no grey has a luma"
            )

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        """S y / (1 + damping)."""
        return (y / (self.total * (1 + damping))).repeat(1, self.channels, 1, 1)
