"""Critics of a student's estimates, for `lcd` with adversarial_weight: of latents, or of the features that
the teacher has of them.

The distance of consistency distillation is least at the mean or median of what it cannot tell apart, so
a small student's one-step estimates are too smooth, and every further step starts from them. A critic
that sees real latents beside the estimates, both noised anew, asks for what is missing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 64  # channels of a head
HIGHEST = (
    0.8  # critics look at noise levels up to this part of the grid; above, nothing is left to see
)
SOFTEST, HARDEST = 0.03, 0.6  # deviations of the noise under which a critic sees latents
CRITIC_SHARE = (
    0.1  # weight of the critic's own loss: Adam does not feel it, clipping of gradients does
)


class _Enough(Exception):
    """The features are there; the rest of the network need not run."""


def encoder_features(unet: Any, x: Tensor, t: Tensor, **arguments: Any) -> list[Tensor]:
    """Output of the last layer of each down block, before its downsampling, and of the mid block.

    x (B, C, H, W), t (B,); `unet` is any UNet2DConditionModel. The up blocks are not run.
    """
    found: list[Tensor] = []

    def keep(block: Any, _: object, output: Any) -> None:
        found.append(output[1][-2 if block.downsamplers is not None else -1])

    def keep_and_end(_: object, __: object, output: Tensor) -> None:
        found.append(output)
        raise _Enough

    hooks = [block.register_forward_hook(keep) for block in unet.down_blocks]
    hooks.append(unet.mid_block.register_forward_hook(keep_and_end))
    try:
        unet(x, t, **arguments)
    except _Enough:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return found


class Critic(nn.Module):
    """One small head for each feature map; real above 1, made below -1.

    After the latent adversarial distillation of Sauer et al. 2024 (LADD, sec. 3), with heads on the
    encoder of a frozen teacher in place of a whole second network.
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, n),
                nn.Conv2d(n, WIDTH, 1),
                nn.SiLU(),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
                nn.GroupNorm(1, WIDTH),
                nn.SiLU(),
                nn.Conv2d(WIDTH, 1, 1),
            )
            for n in channels
        )

    @staticmethod
    def channels_of(unet: Any) -> list[int]:
        """Widths of `encoder_features` of `unet`."""
        widths = list(unet.config.block_out_channels)
        return [*widths, widths[-1]]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """A map of scores for each feature map, (B, 1, h, w)."""
        # contiguous: the backward pass of the heads in channels_last crashes torch 2.13 on the CPU
        plain = [x.contiguous() for x in features]
        return [head(x) for head, x in zip(self.heads, plain, strict=True)]


class LatentCritic(nn.Module):
    """A small convolutional critic of latents themselves, each patch of about nine by itself.

    Isola et al. 2017 (PatchGAN) with the projection of the caption of Miyato & Koyama 2018. What a small
    student lacks is sharpness, which is local: on the bundled models it tells blurred estimates from
    data within a hundred steps, at a quarter of the time of heads on a teacher's features, which learn
    more slowly.
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

    def forward(self, seen: list[Tensor]) -> list[Tensor]:
        """Scores (B, 1, h / 2, w / 2) of latents (B, C, h, w) with captions' states (B, L, D)."""
        x, context = seen
        h = self.layers(x.contiguous())
        wanted = self.caption(context.mean(1))[:, :, None, None]
        return [self.score(h) + (h * wanted).sum(1, keepdim=True) / wanted.shape[1] ** 0.5]


def frozen(critic: nn.Module, seen: list[Tensor]) -> list[Tensor]:
    """The scores of a critic, with gradients to what it sees only."""
    fixed = {name: value.detach() for name, value in critic.named_parameters()}
    scores: list[Tensor] = torch.func.functional_call(critic, fixed, (seen,))
    return scores


def hinge(scores: list[Tensor], *, real: bool) -> Tensor:
    """The critic's loss: mean of max(0, 1 - s) over real, max(0, 1 + s) over made maps."""
    sign = -1.0 if real else 1.0
    return torch.stack([functional.relu(1 + sign * s).mean() for s in scores]).mean()


def pull(
    output: Tensor, consistency: Tensor, made: list[Tensor], leaf: Tensor, weight: float
) -> Tensor:
    """A scalar with the value of `consistency` and the gradient of both aims.

    `output` is f with its graph, `leaf` the same values without; `consistency` (scalar) and the scores
    `made` depend on `leaf`. The critic's gradient at f is scaled to `weight` times the norm of the
    distance's (the adaptive weight of Esser et al. 2021, eq. 7, at the output).
    """
    wanted = -torch.stack([s.mean() for s in made]).mean()
    (near,) = torch.autograd.grad(consistency, leaf)
    (like,) = torch.autograd.grad(wanted, leaf)
    scale = weight * near.norm() / like.norm().clamp(min=1e-12)
    moved = (output * (near + scale * like)).sum()
    return consistency.detach() + moved - moved.detach()
