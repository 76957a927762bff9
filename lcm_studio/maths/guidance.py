"""Guidance: the embedding of w, and classifier-free guidance."""

from __future__ import annotations

import torch
from torch import Tensor


def guidance_embedding(w: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding of 1000 w, `(B,)` -> `(B, dim)`, in the dtype of `w`.

    Sines first, then cosines; an odd `dim` is padded with zero (Meng et al. 2023; diffusers'
    `get_guidance_scale_embedding`). diffusers' pipelines pass w = guidance_scale - 1.
    """
    half = dim // 2
    step = torch.log(torch.tensor(10000.0)) / max(half - 1, 1)
    frequency = torch.exp(torch.arange(half, dtype=w.dtype, device=w.device) * -step.to(w))
    angle = (w * 1000.0)[:, None] * frequency[None]
    emb = torch.cat([angle.sin(), angle.cos()], dim=1)
    return torch.nn.functional.pad(emb, (0, dim - 2 * half))


def cfg(uncond: Tensor, cond: Tensor, scale: Tensor | float) -> Tensor:
    """uncond + scale (cond - uncond); scale 1 is the conditional prediction (Ho & Salimans 2022)."""
    return uncond + scale * (cond - uncond)


def cfg_w(uncond: Tensor, cond: Tensor, w: Tensor | float) -> Tensor:
    """cond + w (cond - uncond), the LCM paper's convention (eq. 12): w = scale - 1."""
    return cond + w * (cond - uncond)
