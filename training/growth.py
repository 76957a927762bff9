"""A wider and deeper UNet that begins as a smaller one that is trained already.

Width: Net2WiderNet (Chen, Goodfellow & Shlens 2016). Each channel becomes `k` copies of itself side by side, and what
reads them reads their sum, in unequal shares, so that training tells the copies apart. Where all levels widen by one
factor the function is the same; where they differ, groups of a norm over a hidden part and a skip hold other
channels, and it is nearly the same.
Depth: a new residual layer adds nothing at first, and hands on the hidden part and not the skip: the function is the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from training.errors import TrainingFault

SPREAD = 0.25  # shares of two copies: a half each, and up to this much more or less
_UP = re.compile(r"up_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)")
_JOINED = re.compile(
    r"up_blocks\.(\d+)\.resnets\.(\d+)\.(norm1\.|conv1\.weight|conv_shortcut\.weight)"
)
Parts = tuple[tuple[int, int], ...]  # (old, new) channels of what a layer reads, side by side


def layers_of(unet: Any) -> list[int]:
    """Residual layers of each level's block, fine to coarse."""
    given = unet.config.layers_per_block
    return [given] * len(unet.config.block_out_channels) if isinstance(given, int) else list(given)


def grow_unet(unet: Any, old: Any, generator: torch.Generator) -> None:
    """Gives `unet` what `old` has learned. Both are UNet2DConditionModels of the same kinds of blocks.

    Levels may be wider by whole factors and have more layers. Raises TrainingFault ("config") elsewhere.
    """
    mine, theirs = list(unet.config.block_out_channels), list(old.config.block_out_channels)
    deep, shallow = layers_of(unet), layers_of(old)
    if len(mine) != len(theirs) or any(
        new % before for new, before in zip(mine, theirs, strict=True)
    ):
        raise TrainingFault(
            "config",
            f"start_from: its channels are {theirs} and channels={mine}; use whole multiples of its own",
        )
    if any(new < before for new, before in zip(deep, shallow, strict=True)):
        raise TrainingFault(
            "config",
            f"start_from: its layers_per_block is {shallow} and here {deep}; use at least its own",
        )
    state, given = unet.state_dict(), set()
    for name, value in old.state_dict().items():
        to = _place(name, shallow, deep)
        there = state.get(to)
        if there is None or there.ndim != value.ndim:
            raise TrainingFault(
                "config", f"start_from: this UNet has no {name}; give the same kinds of blocks"
            )
        parts = _parts(name, theirs, mine, shallow)
        there.copy_(_widened(name, value, there.shape, parts, generator))
        given.add(to)
    for name in state.keys() - given:
        _begin(name, state[name])


def _place(name: str, shallow: Sequence[int], deep: Sequence[int]) -> str:
    """The name of an old layer: a block's last one on the way up reads the skip of the level above, and stays last."""
    found = _UP.match(name)
    if not found:
        return name
    block, kind, layer, rest = int(found[1]), found[2], int(found[3]), found[4]
    level = len(deep) - 1 - block
    to = deep[level] if layer == shallow[level] else layer
    return f"up_blocks.{block}.{kind}.{to}.{rest}"


def _begin(name: str, value: Tensor) -> None:
    """A layer that `old` lacks: its residual is nothing, and of hidden part and skip it hands on the first."""
    if ".conv2." in name or "proj_out." in name or "conv_shortcut.bias" in name:
        value.zero_()
    elif "conv_shortcut.weight" in name:
        value.zero_()
        value[:, : len(value), 0, 0] = torch.eye(len(value)).to(value)


def _parts(
    name: str, theirs: Sequence[int], mine: Sequence[int], layers: Sequence[int]
) -> Parts | None:
    """Of what reads a hidden part and a skip: (old, new) channels of each."""
    joined = _JOINED.match(name)
    if not joined:
        return None
    block, layer = int(joined[1]), int(joined[2])
    level = len(mine) - 1 - block
    hidden = level if layer or not block else level + 1
    skip = max(level - 1, 0) if layer == layers[level] else level
    return (theirs[hidden], mine[hidden]), (theirs[skip], mine[skip])


def _widened(
    name: str, value: Tensor, shape: torch.Size, parts: Parts | None, generator: torch.Generator
) -> Tensor:
    """`value` in the new shape: dimension 0 repeats, dimension 1 shares out."""
    if "time_embedding.linear_1.weight" in name:
        return _of_frequencies(value.repeat_interleave(shape[0] // value.shape[0], 0), shape[1], 1)
    if "time_embedding.cond_proj.weight" in name:
        return _of_frequencies(value, shape[0], 0)
    norm = value.ndim == 1
    if not (norm and parts):
        factor = shape[0] // value.shape[0]
        value = value.repeat_interleave(factor, 0)
        if name.endswith("to_q.weight"):  # copies add up in q k, which is divided by sqrt(dim)
            value = value / factor**0.5
    if parts is None and (norm or value.shape[1] == shape[1]):
        return value
    dim = 0 if norm else 1
    sizes = parts or ((value.shape[1], shape[1]),)
    pieces = value.split([before for before, _ in sizes], dim)
    wide = [
        piece.repeat_interleave(new // before, dim)
        if norm
        else _shared(piece, new // before, generator)
        for piece, (before, new) in zip(pieces, sizes, strict=True)
    ]
    return torch.cat(wide, dim)


def _shared(value: Tensor, factor: int, generator: torch.Generator) -> Tensor:
    """Columns in `factor` unequal shares that sum to them."""
    if factor == 1:
        return value
    off = SPREAD * (2 * torch.rand((*value.shape[:2], factor), generator=generator) - 1)
    share = 1 / factor + off - off.mean(-1, keepdim=True)
    share = share.reshape(value.shape[0], -1, *(1,) * (value.ndim - 2))
    return value.repeat_interleave(factor, 1) * share.to(value)


def _of_frequencies(value: Tensor, size: int, dim: int) -> Tensor:
    """Weights of a sinusoidal embedding in one of more frequencies, cosines and sines apart.

    The old frequencies are every k-th of the new ones.
    """
    before = value.shape[dim]
    half = torch.arange(before // 2) * (size // before)
    shape = list(value.shape)
    shape[dim] = size
    wide = value.new_zeros(shape)
    return wide.index_copy_(dim, torch.cat([half, half + size // 2]), value)
