"""Distribution matching: the gradient that moves what a student makes towards what its teacher would make.

Two diffusion models look at the student's estimate with noise on it: the frozen teacher knows where the data is
denser, and a second one, trained on the student's estimates beside it, knows where the student already puts too
much. The difference of the two is the direction in which the estimates have to move.
"""

from __future__ import annotations

import torch
from torch import Tensor


def distribution_loss(estimate: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """(B,) with the gradient (fake - real) / mean |estimate - real| / N at `estimate` (Yin et al. 2024, eq. 7, 8).

    estimate (B, C, H, W): x_0 of the student, with gradients. real, fake: x_0 that the teacher and the model of
    the student's distribution predict from it with noise on it. N: numbers of an example. The factor alpha_t of
    eq. 8 is left out, as in the published runs: high noise levels, which see large shapes, count in full.
    """
    with torch.no_grad():
        every = tuple(range(1, estimate.ndim))
        size = (estimate - real).abs().mean(every, keepdim=True).clamp(min=1e-8)
        wanted = estimate - (fake - real) / size
    return 0.5 * (estimate - wanted).square().flatten(1).mean(1)
