"""uint8 pictures and tensors in [-1, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from lcm_studio.spec.requests import Pixels


def to_pixels(images: Tensor) -> tuple[Pixels, ...]:
    """`(B, C, H, W)` in [-1, 1] -> B arrays uint8 `(H, W, 3)`; values outside are clipped, rounding to nearest.

    The same arithmetic as diffusers' VaeImageProcessor.postprocess; one channel becomes three equal ones.
    """
    unit = (images.detach().float() * 0.5 + 0.5).clamp(0, 1)
    bytes_ = (unit * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().contiguous().numpy()
    if bytes_.shape[-1] == 1:
        bytes_ = np.repeat(bytes_, 3, axis=-1)
    return tuple(bytes_[i] for i in range(len(bytes_)))


def from_pixels(images: tuple[Pixels, ...]) -> Tensor:
    """B arrays uint8 `(H, W, 3)` of one size -> float32 `(B, 3, H, W)` in [-1, 1]."""
    stacked = np.stack([image[..., :3] for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1
