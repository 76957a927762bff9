"""A narrower UNet of the most important channels of a trained one.

Weights alone say how important a channel is: the sum, over all layers that write or read it, of the squares of its
weights there, each layer's counted against its mean (Li et al. 2017 rank filters by their l1). As many go from each
group of a norm and from each attention head, so that what stays is grouped as before. Nothing is trained here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.errors import TrainingFault

FF = 4  # hidden width of a transformer's feed-forward layer over its own, as diffusers has it
_UP = re.compile(r"up_blocks\.(\d+)\.(?:resnets\.(\d+)\.)?")
_DOWN = re.compile(r"down_blocks\.(\d+)\.(?:resnets\.(\d+)\.)?")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Indices of the channels that stay, each rising or in any order.

    `levels`: of each level's hidden state, fine to coarse. `inside(prefix)`: between the two convolutions of a residual
    layer. `heads(prefix)`: of an attention's inner width. `hidden(prefix)`: of a feed-forward layer's.
    """

    levels: Sequence[Tensor]
    inside: Callable[[str], Tensor]
    heads: Callable[[str], Tensor]
    hidden: Callable[[str], Tensor]


def pruned(old: Any, channels: Sequence[int]) -> Any:
    """A UNet2DConditionModel with `channels` at its levels, of which none is above the old ones.

    Raises TrainingFault ("config") where a level is no multiple of the norms' groups and of the heads, at the finest
    level, which sets the width of the time embedding, and where a residual layer would lose its shortcut.
    """
    from diffusers import UNet2DConditionModel

    was, groups = list(old.config.block_out_channels), int(old.config.norm_num_groups)
    heads = int(old.config.attention_head_dim)  # diffusers reads this field as the number of heads
    for level, (before, now) in enumerate(zip(was, channels, strict=True)):
        if now != before and (not level or now % groups or now % heads or now > before):
            raise TrainingFault(
                "config",
                f"start_from: its channels are {was} and channels={list(channels)}; a level but the finest may "
                f"have fewer, in multiples of {groups} (groups) and {heads} (heads)",
            )
    new = UNet2DConditionModel.from_config({**old.config, "block_out_channels": tuple(channels)})
    state = old.state_dict()
    scores = [_importance(state, old, level) for level in range(len(was))]
    pick = zip(scores, channels, strict=True)
    select(
        new,
        old,
        Kept(
            levels=[_best(score, groups, now // groups) for score, now in pick],
            inside=lambda prefix: _inside(state, prefix, new, groups),
            heads=lambda prefix: _heads(state, prefix, new, heads),
            hidden=lambda prefix: _hidden(state, prefix, new),
        ),
    )
    return new


def select(new: Any, old: Any, kept: Kept) -> None:
    """Gives `new` the kept channels of `old`; what reads fewer channels of a query is scaled as its softmax expects."""
    there = new.state_dict()
    with torch.no_grad():
        for name, value in old.state_dict().items():
            if name not in there:
                raise TrainingFault(
                    "config",
                    f"start_from: {name} would have nothing to do at these channels, since a layer's input is as wide as "
                    "its output; use another width",
                )
            rows, columns = _indices(name, value, old, kept)
            found = value if rows is None else value.index_select(0, rows)
            found = found if columns is None else found.index_select(1, columns)
            if name.endswith("to_q.weight"):
                found = found * (len(found) / len(value)) ** 0.5
            there[name].copy_(found)


def _indices(name: str, value: Tensor, old: Any, kept: Kept) -> tuple[Tensor | None, Tensor | None]:
    """What stays of the first and the second dimension of a tensor; None = all."""
    level, reads = _where(name, old)
    if level is None:
        return None, None
    own, read = kept.levels[level], _joined(reads, old, kept)
    flat = value.ndim == 1
    if ".resnets." in name:
        prefix = ".".join(name.split(".")[: name.split(".").index("resnets") + 2])
        if ".norm1." in name:
            return read, None
        if ".conv1." in name:
            return kept.inside(prefix), None if flat else read
        if ".time_emb_proj." in name or ".norm2." in name:
            return kept.inside(prefix), None
        if ".conv2." in name:
            return own, None if flat else kept.inside(prefix)
        return own, None if flat else read  # conv_shortcut
    if ".to_q." in name or ".to_k." in name or ".to_v." in name:
        foreign = ".attn2." in name and ".to_q." not in name  # reads the prompt
        return kept.heads(name.split(".to_")[0]), None if foreign or flat else own
    if ".to_out." in name:
        return own, None if flat else kept.heads(name.split(".to_out")[0])
    if ".ff.net.0." in name:
        hidden = kept.hidden(name.split(".ff.")[0])
        gate = hidden + FF * old.config.block_out_channels[level]
        return torch.cat([hidden, gate]), None if flat else own
    if ".ff.net.2." in name:
        return own, None if flat else kept.hidden(name.split(".ff.")[0])
    if name.startswith("conv_in."):
        return own, None
    if name.startswith("conv_out."):
        return None, None if flat else own
    return own, None if flat else own  # norms, projections, down- and upsampling


def _where(name: str, old: Any) -> tuple[int | None, list[int]]:
    """The level whose hidden state a layer writes, and the levels of what it reads, side by side."""
    last = len(old.config.block_out_channels) - 1
    if found := _DOWN.match(name):
        block, layer = int(found[1]), found[2]
        return block, [max(block - 1, 0) if layer == "0" else block]
    if name.startswith("mid_block."):
        return last, [last]
    if found := _UP.match(name):
        block, layer = int(found[1]), found[2]
        level = last - block
        if layer is None:
            return level, [level]
        given = old.config.layers_per_block
        layers = given if isinstance(given, int) else given[level]
        hidden = level + 1 if layer == "0" and block else level
        return level, [hidden, max(level - 1, 0) if int(layer) == layers else level]
    if name.startswith(("conv_in.", "conv_norm_out.", "conv_out.")):
        return 0, [0]
    return None, []


def _joined(levels: Sequence[int], old: Any, kept: Kept) -> Tensor:
    offset, parts = 0, []
    for level in levels:
        parts.append(kept.levels[level] + offset)
        offset += old.config.block_out_channels[level]
    return torch.cat(parts)


def _best(score: Tensor, groups: int, most: int) -> Tensor:
    """The `most` highest of each group, in their order."""
    table = score.reshape(groups, -1)
    chosen = table.topk(most, 1).indices.sort(1).values
    return (chosen + torch.arange(groups)[:, None] * table.shape[1]).flatten()


def _share(squares: Tensor) -> Tensor:
    return squares / squares.mean().clamp(min=1e-12)


def _importance(state: dict[str, Tensor], old: Any, level: int) -> Tensor:
    """Of the channels of a level's hidden state, by what writes and reads it."""
    width = old.config.block_out_channels[level]
    total = torch.zeros(width)
    for name, value in state.items():
        if value.ndim < 2:
            continue
        writes, reads = _where(name, old)
        squares = (
            value.float().square().flatten(2).sum(2) if value.ndim == 4 else value.float().square()
        )
        ends = (
            "conv2.weight",
            "conv_shortcut.weight",
            "proj_out.weight",
            "to_out.0.weight",
            "net.2.weight",
        )
        if writes == level and (name.endswith(ends) or "samplers" in name):
            total += _share(squares.sum(1))
        if any(part in name for part in ("conv2.", "to_out.", "net.2.", "time_emb_proj.")):
            continue  # they read what is between
        if ".attn2.to_k" in name or ".attn2.to_v" in name:
            continue  # they read the prompt
        offset = 0
        for read in reads:
            wide = old.config.block_out_channels[read]
            if read == level and squares.shape[1] >= offset + wide:
                total += _share(squares[:, offset : offset + wide].sum(0))
            offset += wide
    return total


def _inside(state: dict[str, Tensor], prefix: str, new: Any, groups: int) -> Tensor:
    gain = state[f"{prefix}.norm2.weight"].square()
    score = state[f"{prefix}.conv2.weight"].square().sum((0, 2, 3)) * gain
    now = len(new.get_submodule(f"{prefix}.norm2").weight)
    return _best(score, groups, now // groups)


def _heads(state: dict[str, Tensor], prefix: str, new: Any, heads: int) -> Tensor:
    q, k, v = (state[f"{prefix}.to_{x}.weight"].square().sum(1) for x in "qkv")
    out = state[f"{prefix}.to_out.0.weight"].square().sum(0)
    now = len(new.get_submodule(f"{prefix}.to_q").weight)
    return _best(_share(q) * _share(k) + _share(v) * _share(out), heads, now // heads)


def _hidden(state: dict[str, Tensor], prefix: str, new: Any) -> Tensor:
    value, gate = state[f"{prefix}.ff.net.0.proj.weight"].square().sum(1).chunk(2)
    score = state[f"{prefix}.ff.net.2.weight"].square().sum(0) * value * gate
    now = new.get_submodule(f"{prefix}.ff.net.2").weight.shape[1]
    return _best(score, 1, now)
