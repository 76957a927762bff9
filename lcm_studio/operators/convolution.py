"""Convolution with any 2-D kernel, for motion blur at an angle."""

from __future__ import annotations

import torch
from torch import Tensor

from lcm_studio.operators.base import Gram, solve_normal
from lcm_studio.spec.errors import BadRequest


class Convolution:
    """A x = k * x on every channel of `(B, C, height, width)`, borders reflected.

    `kernel`: float64 `(k, k)`, k odd. A+ has no closed form with these borders: conjugate gradients,
    preconditioned by the periodic inverse. Raises BadRequest if the kernel outgrows the picture.
    """

    gram: Gram = "dense"

    def __init__(self, kernel: Tensor, height: int, width: int, iterations: int = 60) -> None:
        self.r = (kernel.shape[0] - 1) // 2
        if self.r >= min(height, width):
            raise BadRequest(
                f"the kernel reaches {self.r} pixels, beyond a picture of {width} x {height}; "
                "use a smaller kernel"
            )
        self.kernel, self.height, self.width = kernel.double(), height, width
        self.iterations = iterations
        self._spectra: dict[tuple[int, int], Tensor] = {}

    def _spectrum(self, height: int, width: int) -> Tensor:
        """The kernel's real Fourier transform with its centre at the origin; kept per size."""
        if (height, width) not in self._spectra:
            self._spectra[height, width] = self._transform(height, width)
        return self._spectra[height, width]

    def _transform(self, height: int, width: int) -> Tensor:
        field = torch.zeros(height, width, dtype=torch.float64)
        index = torch.arange(-self.r, self.r + 1)
        field.index_put_(
            (index[:, None] % height, index[None] % width), self.kernel, accumulate=True
        )
        spectrum: Tensor = torch.fft.rfft2(field)
        return spectrum

    def _filter(self, x: Tensor, conjugate: bool) -> Tensor:
        """Periodic convolution (or correlation) of an already padded `(..., H + 2 r, W + 2 r)`."""
        height, width = x.shape[-2:]
        k = self._spectrum(height, width)
        k = (k.conj() if conjugate else k).to(device=x.device)
        cast = torch.complex128 if x.dtype == torch.float64 else torch.complex64
        out: Tensor = torch.fft.irfft2(torch.fft.rfft2(x) * k.to(cast), s=(height, width))
        return out

    def A(self, x: Tensor) -> Tensor:
        r, height, width = self.r, self.height, self.width
        big = x[..., self._fold(height)[:, None], self._fold(width)[None]]
        return self._filter(big, conjugate=False)[..., r : r + height, r : r + width]

    def At(self, y: Tensor) -> Tensor:
        r = self.r
        back = self._filter(torch.nn.functional.pad(y, (r, r, r, r)), conjugate=True)
        rows = torch.zeros(*back.shape[:-2], self.height, back.shape[-1]).to(back)
        rows.index_add_(-2, self._fold(self.height).to(back.device), back)
        out = torch.zeros(*back.shape[:-2], self.height, self.width).to(back)
        return out.index_add_(-1, self._fold(self.width).to(back.device), rows)

    def _fold(self, size: int) -> Tensor:
        index = torch.arange(-self.r, size + self.r) % (2 * size)
        return torch.where(index >= size, 2 * size - 1 - index, index)

    def pinv(self, y: Tensor, damping: float = 0.0) -> Tensor:
        power = self._spectrum(self.height, self.width).abs() ** 2
        floor = max(damping, 1e-4)

        def precondition(residual: Tensor) -> Tensor:
            shape = (self.height, self.width)
            gain = (1 / (power + floor)).to(residual)
            smooth: Tensor = torch.fft.irfft2(torch.fft.rfft2(residual) * gain, s=shape)
            return smooth

        return solve_normal(self, y, damping, iterations=self.iterations, precondition=precondition)
