"""A critic of a student's estimates, for `lcd` with adversarial_weight.

The distance of consistency distillation is least at the mean or median of what it cannot tell apart, so
a small student's one-step estimates are too smooth, and every further step starts from them. A critic
that sees real latents beside the estimates, both noised anew, asks for what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

SOFTEST, HARDEST = 0.03, 0.6  # deviations of the noise under which a critic sees latents
CRITIC_SHARE = (
    0.1  # weight of the critic's own loss: Adam does not feel it, clipping of gradients does
)


class Critic(nn.Module):
    """A small convolutional critic of latents, each patch of about nine by itself: real above 1, made below -1.

    Isola et al. 2017 (PatchGAN) with the projection of the caption of Miyato & Koyama 2018. What a small
    student lacks is sharpness, which is local: on the models of 128 pixels it told blurred estimates from
    data within a hundred steps, at a quarter of the time of heads on a teacher's features, which learn
    more slowly. On the 32 latent channels of those of 256 it does not (docs/method/models.md).
    """

    def __init__(self, channels: int, context: int, width: int = 96) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=1, stride=2),
            nn.GroupNorm(1, width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(1, width),
            nn.LeakyReLU(0.2),
        )
        self.score = nn.Conv2d(width, 1, 1)
        self.caption = nn.Linear(context, width)

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        """Scores (B, 1, h / 2, w / 2) of latents (B, C, h, w) with captions' states (B, L, D)."""
        # contiguous: the backward pass in channels_last crashes torch 2.13 on the CPU
        h = self.layers(latents.contiguous())
        caption = self.caption(context.mean(1))[:, :, None, None]
        return self.score(h) + (h * caption).sum(1, keepdim=True) / caption.shape[1] ** 0.5


def frozen(critic: nn.Module, latents: Tensor, context: Tensor) -> Tensor:
    """The scores of a critic, with gradients to what it sees only."""
    fixed = {name: value.detach() for name, value in critic.named_parameters()}
    scores: Tensor = torch.func.functional_call(critic, fixed, (latents, context))
    return scores


def hinge(scores: Tensor, *, real: bool) -> Tensor:
    """The critic's loss: mean of max(0, 1 - s) over real, max(0, 1 + s) over made pictures."""
    return functional.relu(1 + (-1.0 if real else 1.0) * scores).mean()


def pulled(
    consistency: Tensor, scores: Tensor, estimates: Sequence[Tensor], weight: float
) -> Tensor:
    """A scalar with the value of `consistency` and the gradient of both aims.

    `consistency` (scalar) and the critic's `scores` depend on the student's `estimates`. The critic's
    gradient there is scaled to `weight` times the norm of the distance's (the adaptive weight of Esser et
    al. 2021, eq. 7, at the output).
    """
    sharpness = -scores.mean()
    near = torch.autograd.grad(consistency, list(estimates), retain_graph=True)
    like = torch.autograd.grad(sharpness, list(estimates), retain_graph=True)
    scale = weight * _norm(near) / _norm(like).clamp(min=1e-12)
    return consistency + scale * (sharpness - sharpness.detach())


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    return torch.stack([g.norm() for g in gradients]).norm()
