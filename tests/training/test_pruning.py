"""What is kept of a UNet that loses channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.training.test_growth import SMALL, apart, trained, unet
from training.errors import TrainingFault
from training.networks import open_part
from training.pruning import Kept, pruned, select
from training.recipes import find


def turned(count: int, groups: int) -> torch.Tensor:
    """All of `count` channels, those of each group in another order."""
    table = torch.arange(count).reshape(groups, -1)
    return torch.cat([row[torch.randperm(len(row))] for row in table])


@pytest.mark.parametrize("layers", [1, (2, 1, 3)])
def test_the_order_of_channels_says_nothing(layers: int | tuple[int, ...]) -> None:
    """Each index reaches every tensor that it must: with all channels in another order the function is the same."""
    torch.manual_seed(3)
    old, new = unet(SMALL, layers), unet(SMALL, layers)
    state, made = old.state_dict(), {}

    def once(prefix: str, count: int, groups: int) -> torch.Tensor:
        return made.setdefault(prefix, turned(count, groups))

    # groups of a norm over a hidden part and a skip lie across both: whole groups of each keep to their places
    kept = Kept(
        levels=[torch.arange(c) for c in SMALL],
        inside=lambda p: once(p, len(state[f"{p}.norm2.weight"]), 4),
        heads=lambda p: once(p, len(state[f"{p}.to_q.weight"]), 2),
        hidden=lambda p: once(p, state[f"{p}.ff.net.2.weight"].shape[1], 1),
    )
    select(new, old, kept)
    assert apart(old, new, None) < 1e-6
    # the hidden state itself: at the coarsest level alone, with pairs that share a group of every norm
    pairs = torch.arange(SMALL[-1]).reshape(-1, 2).flip(1).flatten()
    select(
        new,
        old,
        Kept(
            levels=[torch.arange(c) for c in SMALL[:-1]] + [pairs],
            inside=kept.inside,
            heads=kept.heads,
            hidden=kept.hidden,
        ),
    )
    assert apart(old, new, None) < 1e-6


def test_all_channels_are_the_same_network() -> None:
    old = trained()
    assert apart(old, pruned(old, SMALL).double().eval(), None) < 1e-6


def test_channels_without_weights_go_first() -> None:
    """Half of each group of the coarsest level is written and read with a thousandth: the rest is kept."""
    torch.manual_seed(4)
    old = trained()
    weak = torch.arange(SMALL[-1]).reshape(4, -1)[:, ::2].flatten()
    with torch.no_grad():
        for name, value in old.named_parameters():
            if name.startswith(("mid_block", "down_blocks.2")) and value.ndim > 1:
                if value.shape[0] == SMALL[-1] and "to_" not in name:
                    value[weak] *= 1e-3
                if value.shape[1] == SMALL[-1] and "to_out" not in name:
                    value[:, weak] *= 1e-3
    new = pruned(old, (16, 24, 16))
    strong = sorted(set(range(SMALL[-1])) - set(weak.tolist()))
    name = "mid_block.attentions.0.proj_in.weight"
    wanted = old.state_dict()[name][strong][:, strong]
    torch.testing.assert_close(new.state_dict()[name], wanted.to(new.state_dict()[name]))


@pytest.mark.parametrize("channels", [(8, 24, 32), (16, 24, 30), (16, 24, 36)])
def test_what_cannot_be_pruned_is_refused(channels: tuple[int, ...]) -> None:
    with pytest.raises(TrainingFault, match=r"in multiples of 4 \(groups\) and 2 \(heads\)"):
        pruned(unet(), channels)


def test_a_layer_that_would_lose_its_shortcut_is_named() -> None:
    with pytest.raises(TrainingFault, match=r"conv_shortcut.* would have nothing to do"):
        pruned(unet(), (16, 24, 24))


def test_a_teacher_is_resized_both_ways(tmp_path: Path) -> None:
    tiny.save("sd-plain", tmp_path / "teacher")
    recipe = find("teacher")
    old = open_part(tmp_path / "teacher", "unet")
    fine, coarse = old.config.block_out_channels
    heads, groups = old.config.attention_head_dim, old.config.norm_num_groups
    fields = {
        "autoencoder": str(tmp_path / "teacher" / "vae"),
        "start_from": str(tmp_path / "teacher"),
        "resize": True,
        "channels": (2 * fine, coarse * 3 // 4),
        "heads": heads,
        "norm_groups": groups,
        "resolution": 64,
        "device": "cpu",
        "data": {"kind": "scenes", "count": 4, "cache": str(tmp_path / "cache")},
    }
    made: Any = recipe(recipe.Config(**fields), torch.device("cpu"))
    made.build()
    assert tuple(made.unet.config.block_out_channels) == (2 * fine, coarse * 3 // 4)
