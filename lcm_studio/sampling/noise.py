"""Per-image seeded noise, drawn on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class SeededNoise:
    """Image i draws from its own generator, so its noise does not depend on the batch that it is in.

    The draws of one seed are those of stock diffusers with `torch.Generator("cpu").manual_seed(seed)`
    and a batch of one: the initial sample first, then one draw for every step but the last.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: tuple[int, int, int],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self.seeds = tuple(seeds)
        self.shape = shape
        self.device = device
        self._generators = [torch.Generator("cpu").manual_seed(seed) for seed in self.seeds]

    def draw(self) -> Tensor:
        """Fresh unit noise, float32 `(B, C, H, W)`."""
        rows = [torch.randn((1, *self.shape), generator=g) for g in self._generators]
        return torch.cat(rows).to(self.device)
