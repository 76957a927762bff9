"""Exponential moving average of parameters, one fused call for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.state.sharding import local


@torch.no_grad()
def update(average: Sequence[Tensor], live: Sequence[Tensor], decay: float) -> None:
    """average <- decay * average + (1 - decay) * live, in place; both may be split, in the same way."""
    if len(average):
        torch._foreach_lerp_(local(average), local(live), 1 - decay)


def warmed(decay: float, step: int) -> float:
    """The decay at `step`, lower at the start so that the initial weights are forgotten."""
    return min(decay, (1 + step) / (10 + step))
