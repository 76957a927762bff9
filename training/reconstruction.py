"""How well pictures come back from an autoencoder: a loss that looks where the eye looks, and three measures.

Pictures are (B, 3, H, W) in [-1, 1]. Skies are flat, so that the mean square of a whole picture says little of
roofs, trunks and ridges: the loss weighs edges, and the measures count fine detail and the surroundings of edges.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)


def differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbours along x and y of (B, C, H, W)."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def edges(x: Tensor, *, spread: int = 5) -> Tensor:
    """(B, 1, H, W) in [0, 2]: the largest difference of neighbours within a square of `spread` pixels."""
    along, down = differences(x)
    steep = torch.zeros_like(x[:, :1])
    steep[..., :-1] = along.abs().amax(1, keepdim=True)
    steep[..., :-1, :] = torch.maximum(steep[..., :-1, :], down.abs().amax(1, keepdim=True))
    return functional.max_pool2d(steep, spread, stride=1, padding=spread // 2)


def reconstruction_loss(
    y: Tensor,
    x: Tensor,
    *,
    square_weight: float = 1.0,
    gradient_weight: float = 1.0,
    edge_weight: float = 0.0,
    scales: int = 1,
) -> Tensor:
    """l1 + square_weight l2 + gradient_weight (l1 of differences of the error's neighbours), on `scales` scales.

    Each scale halves the error by averages. edge_weight > 0 adds the l1 again, weighted by 1 + edge_weight x `edges`
    of the picture.
    """
    error = y - x
    total = error.abs().mean() + square_weight * error.square().mean()
    if edge_weight:
        total = total + ((1 + edge_weight * edges(x)) * error.abs()).mean()
    for scale in range(scales):
        if scale:
            error = functional.avg_pool2d(error, 2)
        for along in differences(error):
            total = total + gradient_weight * along.abs().mean()
    return total


def psnr(y: Tensor, x: Tensor) -> Tensor:
    """Peak signal to noise of each picture, dB, (B,)."""
    return 10 * torch.log10(4 / (y.clamp(-1, 1) - x).square().flatten(1).mean(1).clamp(min=1e-10))


def edge_psnr(y: Tensor, x: Tensor, *, steep: float = 0.15) -> Tensor:
    """`psnr` of the pixels within 3 of an edge: where neighbours differ by `steep` or more of [-1, 1]; (B,)."""
    near = (edges(x, spread=7) >= steep).float()
    squared = (y.clamp(-1, 1) - x).square().mean(1, keepdim=True) * near
    mean = squared.flatten(1).sum(1) / near.flatten(1).sum(1).clamp(min=1)
    return 10 * torch.log10(4 / mean.clamp(min=1e-10))


def fine_detail(x: Tensor, *, size: int = 128, low: float = 24, high: float = 60) -> Tensor:
    """Power of the luma at `low` to `high` cycles a picture, (B,), with a Hann window.

    The pictures are brought to `size` pixels first, by area, so that sizes compare; higher than `size` is left as it is.
    """
    luma = (x.float().clamp(-1, 1) * torch.tensor(LUMA, device=x.device).view(1, 3, 1, 1)).sum(
        1, keepdim=True
    )
    if luma.shape[-1] > size:
        luma = functional.adaptive_avg_pool2d(luma, size)
    side = luma.shape[-1]
    window = torch.hann_window(side, periodic=False, device=x.device)
    spectrum = torch.fft.fft2(luma[:, 0] * window[:, None] * window[None, :]).abs().square()
    cycles = torch.fft.fftfreq(side, 1 / side, device=x.device)
    radius = torch.hypot(cycles[:, None], cycles[None, :])
    band = (radius >= low) & (radius < high)
    return spectrum[:, band].mean(1)


def detail_share(y: Tensor, x: Tensor, *, size: int = 128) -> float:
    """Median over pictures of the fine detail of `y` over that of `x`; 1 = all is kept."""
    low, high = 24 * size / 128, 60 * size / 128
    kept = fine_detail(y, size=size, low=low, high=high)
    return float(
        np.median((kept / fine_detail(x, size=size, low=low, high=high).clamp(min=1e-12)).cpu())
    )
