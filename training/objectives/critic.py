"""A critic of the pictures that a student's estimates decode to, for `lcd` with adversarial_weight.

The distance of consistency distillation is least at the mean or median of what it cannot tell apart, so
a small student's estimates are too smooth, and every further step starts from them. A critic that sees
pictures of the data beside those of the estimates asks for what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

LOUDER = 8.0  # how much stronger than the picture its finest detail is shown
CRITIC_SHARE = (
    0.1  # weight of the critic's own loss: Adam does not feel it, clipping of gradients does
)


class Critic(nn.Module):
    """A convolutional critic of pictures, each patch of 46 and of 94 pixels by itself: real above 1, made below -1.

    Isola et al. 2017 (PatchGAN) with the projection of the caption of Miyato & Koyama 2018. It is shown beside
    the picture what a blur takes away, and has no norms: what tells a smeared picture is how strong its finest
    detail is. Without either it learns nothing in 400 steps on rendered scenes, with both it does in 50. A critic
    of 32-channel latents did not learn at all (docs/method/models.md).
    """

    def __init__(self, context: int, width: int = 32) -> None:
        super().__init__()
        widths = (6, width, 2 * width, 4 * width, 4 * width)
        self.layers = nn.ModuleList(
            nn.Conv2d(narrow, wide, 4, stride=2, padding=1) for narrow, wide in pairwise(widths)
        )
        judging = widths[-2:]  # the two coarsest levels
        self.scores = nn.ModuleList(
            nn.Conv2d(wide, 1, 3, padding=1, bias=False) for wide in judging
        )
        self.captions = nn.ModuleList(nn.Linear(context, wide) for wide in judging)
        for layer in (*self.layers, *self.scores):
            assert isinstance(layer, nn.Conv2d)
            nn.init.kaiming_normal_(layer.weight, a=0.2)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            else:  # a score begins near nothing
                with torch.no_grad():
                    layer.weight.mul_(0.1)

    def forward(self, pictures: Tensor, context: Tensor) -> Tensor:
        """Scores (B, N) of the patches of pictures (B, 3, H, W) in [-1, 1] with captions' states (B, L, D)."""
        # contiguous: the backward pass in channels_last crashes torch 2.13 on the CPU
        x = pictures.contiguous()
        fine = x - functional.avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False)
        h, told = torch.cat([x, LOUDER * fine], 1), context.mean(1)
        levels: list[Tensor] = []
        for layer in self.layers:
            h = functional.leaky_relu(layer(h), 0.2)
            levels.append(h)
        found: list[Tensor] = []
        for h, score, caption in zip(levels[-2:], self.scores, self.captions, strict=True):
            wanted = caption(told)[:, :, None, None]
            patches = score(h) + (h * wanted).sum(1, keepdim=True) / wanted.shape[1]
            found.append(patches.flatten(1))
        return torch.cat(found, 1)


def hinge(scores: Tensor, *, real: bool) -> Tensor:
    """The critic's loss: mean of max(0, 1 - s) over real, max(0, 1 + s) over made pictures."""
    return functional.relu(1 + (-1.0 if real else 1.0) * scores).mean()


def pulled(
    consistency: Tensor, scores: Tensor, estimates: Sequence[Tensor], weight: float
) -> Tensor:
    """A scalar with the value of `consistency` and the gradient of both aims.

    `consistency` (scalar) and the critic's `scores` depend on the student's `estimates`. The critic's
    gradient there is scaled to `weight` times the norm of the distance's (the adaptive weight of Esser et
    al. 2021, eq. 7, at the output). The graph from the estimates to the scores is gone afterwards, and the critic's
    weights get nothing of it.
    """
    near = torch.autograd.grad(consistency, list(estimates), retain_graph=True)
    like = torch.autograd.grad(-scores.mean(), list(estimates))
    scale = weight * _norm(near) / _norm(like).clamp(min=1e-12)
    # linear in the estimates: the same gradient, without a second way back through critic and decoder
    sharpness = sum(
        ((e * g).sum() for e, g in zip(estimates, like, strict=True)), torch.zeros(()).to(scale)
    )
    return consistency + scale * (sharpness - sharpness.detach())


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    return torch.stack([g.norm() for g in gradients]).norm()
