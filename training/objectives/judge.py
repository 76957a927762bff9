"""A judge for distribution matching with adversarial_weight: it reads the encoder of a diffusion model.

The gradient of distribution matching leads to what the teacher makes, faults included. Where pictures of the data
are at hand, a judge that tells them from the student's leads past the teacher (Yin et al. 2024b, section 4.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Judge(nn.Module):
    """Scores of noised pictures or latents from the features of a UNet that sees them: real above 1, made below -1.

    One small head per level of the encoder, coarse and fine.
    """

    def __init__(self, channels: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, wide),
                nn.Conv2d(wide, width, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, 1, 1),
            )
            for wide in channels
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Scores (B, N), one for each place of each level; features: (B, C, h, w) of each level."""
        pairs = zip(self.heads, features, strict=True)
        # contiguous: the backward pass in channels_last crashes torch 2.13 on the CPU
        return torch.cat([head(level.contiguous()).flatten(1) for head, level in pairs], 1).float()


@contextmanager
def watched(unet: Any) -> Iterator[list[Tensor]]:
    """The last features of each level of the encoder in the one call inside, finest first."""
    found: list[Tensor] = []

    def keep(block: Any, _: Any, output: tuple[Tensor, tuple[Tensor, ...]]) -> None:
        _, levels = output
        found.append(levels[-2 if block.downsamplers else -1])

    hooks = [block.register_forward_hook(keep) for block in unet.down_blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
