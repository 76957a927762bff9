"""Products of float32 matrices by oneDNN, on the CPU.

PyTorch multiplies them by MKL, which leaves the wide instructions of other makers' processors alone. oneDNN, which
computes PyTorch's convolutions, uses them: half the time on an AMD EPYC with AVX-512, the same elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# oneDNN lays the weight out anew at each call, which a small product does not pay back
LEAST = 1_500_000  # multiplications


def available() -> bool:
    """Whether this build of PyTorch multiplies dense float32 matrices by oneDNN."""
    here = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    return here and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def times(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., in) times weight (out, in) transposed, by oneDNN; strided operands are taken as they are."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


class Linear(nn.Linear):
    """nn.Linear that takes its large products by oneDNN, where no gradient is asked for."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        small = x.numel() * self.out_features < LEAST
        if small or torch.is_grad_enabled() or not _is_plain(x) or not _is_plain(self.weight):
            return super().forward(x)
        return times(x, self.weight, self.bias)


def _is_plain(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and x.layout == torch.strided


def swap(network: nn.Module) -> None:
    """Makes the plain linear layers of `network` those above, with the same weights and names."""
    if available():
        for layer in network.modules():
            if type(layer) is nn.Linear:
                layer.__class__ = Linear
