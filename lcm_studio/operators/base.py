"""What an operator is, the projection onto its solutions, and the identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from torch import Tensor

Gram = Literal["scalar", "diagonal", "dense"]


class LinearOperator(Protocol):
    """y = A x on images `(B, C, H, W)` of any range; y is a `(B, C', H', W')` tensor.

    `gram` says what A A^T is: a multiple of the identity, diagonal, or neither; `Compose` needs to know.
    Names as in DDNM (Wang et al. 2022) and deepinv: A, A^T and the Moore-Penrose inverse A+.
    """

    @property
    def gram(self) -> Gram: ...

    def A(self, x: Tensor) -> Tensor:
        """A x."""
        ...

    def At(self, y: Tensor) -> Tensor:
        """A^T y, the adjoint: <A x, y> = <x, A^T y>."""
        ...

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        """A^T (A A^T + damping)^-1 y; damping 0 is the pseudo-inverse A+ y."""
        ...


class Inverse(Protocol):
    """A way back from a known part into images: `pinv` with A pinv(y) = y, of which A+ is the one of least norm."""

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        """An image whose known part is y, up to the damping."""
        ...


def project(
    op: LinearOperator,
    x: Tensor,
    y: Tensor,
    damping: float = 0.0,
    *,
    inverse: Inverse | None = None,
) -> Tensor:
    """x + A+ (y - A x): the nearest image to `x` `(B, C, H, W)` whose known part is `y`.

    With `damping` = sigma_y^2 / sigma^2 it is the proximal step of a known part with noise sigma_y
    against an estimate with error sigma. Source: DDNM, eq. 13; OpenAI's three editors equal it.
    With another right inverse S in place of A+ it is the nearest in another metric: for S = K A^T (A K A^T)^-1
    that of K^-1, where K says how errors of the estimate go together.
    """
    return x + (op if inverse is None else inverse).pinv(y - op.A(x), damping)


class Identity:
    """A = I, for noisy pictures: everything is known, with an error."""

    gram: Gram = "scalar"

    def A(self, x: Tensor) -> Tensor:
        return x

    def At(self, y: Tensor) -> Tensor:
        return y

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        return y / (1 + damping)


def solve_normal(
    op: LinearOperator,
    y: Tensor,
    damping: float = 0.0,
    *,
    iterations: int = 200,
    tolerance: float = 1e-6,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """A^T z with (A A^T + damping) z = y, by conjugate gradients per image of the batch.

    Started at z = 0, it tends to the minimum-norm least-squares answer, so it serves as A+ where no
    closed form exists. Stops when every image's residual is below `tolerance` |y|.
    Hestenes & Stiefel 1952; `precondition` approximates (A A^T + damping)^-1. Runs in float64 whatever `y`
    has: in float32 the search directions of an ill-conditioned blur lose their conjugacy, and it stalls.
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=(1, 2, 3), keepdim=True)

    def safe(a: Tensor) -> Tensor:
        return a.clamp(min=1e-30)

    dtype = y.dtype
    y = y if y.device.type == "mps" else y.double()  # which has no float64
    smooth = precondition if precondition is not None else (lambda r: r)
    z = y * 0
    residual = y
    search = smooth(residual)
    rho = dot(residual, search)
    goal = tolerance**2 * dot(y, y)
    for _ in range(iterations):
        if bool((dot(residual, residual) <= goal).all()):
            break
        image = op.A(op.At(search)) + damping * search
        step = rho / safe(dot(search, image))
        z = z + step * search
        residual = residual - step * image
        smoothed = smooth(residual)
        rho_next = dot(residual, smoothed)
        search = smoothed + rho_next / safe(rho) * search
        rho = rho_next
    return op.At(z).to(dtype)
