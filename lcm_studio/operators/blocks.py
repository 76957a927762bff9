"""The mean of every p x p block, as OpenCV's INTER_AREA shrinks a picture."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_studio.operators.base import Gram
from lcm_studio.spec.errors import BadRequest


class BlockMean:
    """A x = means of p x p blocks of `(B, C, height, width)`; blocks cut by the border average what they have.

    A A^T is diagonal with 1 / (pixels of the block), so A+ repeats each mean over its block
    (CM paper, appendix D: super-resolution). Raises BadRequest if p exceeds the picture.
    """

    def __init__(self, p: int, height: int, width: int) -> None:
        if p < 1 or p > min(height, width):
            raise BadRequest(
                f"block size {p} does not fit a picture of {width} x {height}; "
                f"use 1 to {min(height, width)}"
            )
        self.p, self.height, self.width = p, height, width
        self.rows, self.columns = -(-height // p), -(-width // p)
        even = height % p == 0 and width % p == 0
        self.gram: Gram = "scalar" if even else "diagonal"

    def _counts(self, like: Tensor) -> Tensor:
        def along(size: int, blocks: int) -> Tensor:
            start = torch.arange(blocks, dtype=like.dtype, device=like.device) * self.p
            return (size - start).clamp(max=self.p)

        return along(self.height, self.rows)[:, None] * along(self.width, self.columns)[None]

    def _spread(self, y: Tensor) -> Tensor:
        big = y.repeat_interleave(self.p, dim=-2).repeat_interleave(self.p, dim=-1)
        return big[..., : self.height, : self.width]

    def A(self, x: Tensor) -> Tensor:
        bottom, right = self.rows * self.p - self.height, self.columns * self.p - self.width
        full = torch.nn.functional.pad(x, (0, right, 0, bottom))
        sums = full.reshape(*x.shape[:-2], self.rows, self.p, self.columns, self.p).sum(
            dim=(-3, -1)
        )
        return sums / self._counts(x)

    def At(self, y: Tensor) -> Tensor:
        return self._spread(y / self._counts(y))

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        return self._spread(y / (1 + damping * self._counts(y)))
