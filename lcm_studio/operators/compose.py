"""One operator after another."""

from __future__ import annotations

from torch import Tensor

from lcm_studio.operators.base import Gram, LinearOperator, solve_normal
from lcm_studio.operators.pixel import Mask


class Compose:
    """A = outer A inner A: for example a mask over a low-resolution picture.

    (outer inner)+ = inner+ outer+ holds where inner A A^T is a multiple of the identity, or diagonal and
    the outer operator only selects; elsewhere A+ is solved by conjugate gradients.
    """

    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        self.outer, self.inner = outer, inner
        selects = isinstance(outer, Mask)
        self.closed = inner.gram == "scalar" or (inner.gram == "diagonal" and selects)
        self.gram: Gram = "diagonal" if self.closed and outer.gram != "dense" else "dense"

    def A(self, x: Tensor) -> Tensor:
        return self.outer.A(self.inner.A(x))

    def At(self, y: Tensor) -> Tensor:
        return self.inner.At(self.outer.At(y))

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        if self.closed and damping == 0:
            return self.inner.pinv(self.outer.pinv(y))
        return solve_normal(self, y, damping)
