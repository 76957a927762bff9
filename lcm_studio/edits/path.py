"""Paths between two samples, and the frames at their ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lcm_studio.edits.finish import to_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lcm_studio.spec.requests import Pixels


def slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Along the great circle from `a` to `b`, each image `(B, ...)` with its own angle.

    psi = arccos(<a, b> / (|a| |b|)) per image: a norm over the whole batch, as in some ports, is not it.
    Nearly parallel images are mixed linearly.
    """
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    cos = (flat_a * flat_b).sum(1) / (flat_a.norm(dim=1) * flat_b.norm(dim=1)).clamp(min=1e-12)
    psi = cos.clamp(-1, 1).arccos().reshape(-1, *(1,) * (a.ndim - 1))
    sin = psi.sin()
    line = torch.lerp(a, b, weight)
    circle = ((1 - weight) * psi).sin() / sin * a + (weight * psi).sin() / sin * b
    return torch.where(sin.abs() < 1e-4, line, circle)


def with_ends(
    made: Sequence[NDArray[np.float32]], a: Pixels, b: Pixels, weights: Sequence[float]
) -> list[Pixels]:
    """The frames, with what sampling lost of either end given back near that end; the ends are copies."""
    lost_a, lost_b = a - made[0], b - made[-1]
    out = [
        to_bytes(x + (1 - w) ** 4 * lost_a + w**4 * lost_b)
        for x, w in zip(made, weights, strict=True)
    ]
    return [a.copy(), *out[1:-1], b.copy()]


class SameNoise:
    """The same noise for every frame and every batch of frames, so that frames do not flicker."""

    def __init__(self, draws: Sequence[Tensor], count: int) -> None:
        self.draws, self.count, self.at = draws, count, 0

    def draw(self) -> Tensor:
        drawn = self.draws[self.at]
        self.at += 1
        return drawn.expand(self.count, *drawn.shape[1:])
