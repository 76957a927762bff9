"""A larger UNet begins as the smaller one that it grew from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests import tiny
from training.errors import TrainingFault
from training.growth import grow_unet
from training.recipes import find
from training.recipes.teacher import make_unet

SMALL = (16, 24, 32)


def unet(
    channels: tuple[int, ...] = SMALL, layers: int | tuple[int, ...] = 1, cond: int | None = None
) -> Any:
    made = make_unet(
        latent_channels=8,
        size=16,
        channels=channels,
        text_width=16,
        layers=layers,
        heads=2,
        norm_groups=4,
        time_cond_proj_dim=cond,
    )
    return made.double().eval()


def trained(cond: int | None = None) -> Any:
    """One whose norms and biases are no longer what they begin with."""
    torch.manual_seed(0)
    made = unet(cond=cond)
    for p in made.parameters():
        if p.ndim < 2:
            torch.nn.init.normal_(p, std=0.1)
    return made


def apart(old: Any, new: Any, cond: int | None) -> float:
    """The largest difference of what two UNets say, over the spread of it."""
    x, t = torch.randn(3, 8, 16, 16).double(), torch.tensor([3, 500, 999])
    told: dict[str, Any] = {"encoder_hidden_states": torch.randn(3, 5, 16).double()}
    if cond:
        told["timestep_cond"] = torch.randn(3, cond).double()
    with torch.no_grad():
        before, after = old(x, t, **told).sample, new(x, t, **told).sample
    return float((after - before).abs().max() / before.std())


@pytest.mark.parametrize("cond", [None, 32])
@pytest.mark.parametrize(
    ("channels", "layers"),
    [
        (SMALL, 1),
        (SMALL, 2),
        (SMALL, (3, 1, 1)),
        (SMALL, (1, 2, 4)),
        ((32, 48, 64), 1),
        ((48, 72, 96), 1),
        ((32, 48, 64), (2, 1, 3)),
    ],
)
def test_the_function_is_the_same(
    channels: tuple[int, ...], layers: int | tuple[int, ...], cond: int | None
) -> None:
    old, new = trained(cond), unet(channels, layers, cond)
    with torch.no_grad():
        grow_unet(new, old, torch.Generator().manual_seed(1))
    assert apart(old, new, cond) < 1e-6


def test_one_wider_level_is_nearly_the_same_and_its_copies_differ() -> None:
    old, new = trained(), unet((32, 24, 32), (2, 1, 1))
    untrained = apart(old, new, None)
    with torch.no_grad():
        grow_unet(new, old, torch.Generator().manual_seed(1))
    assert apart(old, new, None) < 0.5 * untrained
    weight = new.down_blocks[0].resnets[0].conv1.weight
    assert not torch.allclose(weight[:, 0], weight[:, 1])


@pytest.mark.parametrize(
    ("channels", "layers", "said"),
    [
        ((24, 24, 32), 1, "use whole multiples of its own"),
        ((16, 24), 1, "use whole multiples of its own"),
        (SMALL, (1, 1, 0), "use at least its own"),
    ],
)
def test_what_cannot_grow_is_refused(
    channels: tuple[int, ...], layers: int | tuple[int, ...], said: str
) -> None:
    old, new = unet(), unet(channels, 1)
    if layers != 1:
        new.register_to_config(layers_per_block=layers)
    with pytest.raises(TrainingFault, match=said):
        grow_unet(new, old, torch.Generator())


def test_a_teacher_grows_from_a_smaller_one(tmp_path: Path) -> None:
    tiny.save("sd-plain", tmp_path / "teacher")
    recipe = find("teacher")
    from training.networks import open_part

    old = open_part(tmp_path / "teacher", "unet")
    fields = {
        "autoencoder": str(tmp_path / "teacher" / "vae"),
        "start_from": str(tmp_path / "teacher"),
        "resize": True,
        "channels": tuple(2 * c for c in old.config.block_out_channels),
        "layers_per_block": (2,) + (1,) * (len(old.config.block_out_channels) - 1),
        "heads": old.config.attention_head_dim,
        "norm_groups": old.config.norm_num_groups,
        "resolution": 64,
        "device": "cpu",
        "data": {"kind": "scenes", "count": 4, "cache": str(tmp_path / "cache")},
    }
    made: Any = recipe(recipe.Config(**fields), torch.device("cpu"))
    made.build()
    assert tuple(made.unet.config.block_out_channels) == fields["channels"]
    assert list(made.unet.config.layers_per_block) == list(fields["layers_per_block"])


def test_a_config_that_cannot_be_is_refused() -> None:
    config = find("teacher").Config
    with pytest.raises(ValidationError, match="give one number, or one for each of the channels"):
        config(layers_per_block=(2, 1))
    with pytest.raises(ValidationError, match="needs a teacher in start_from"):
        config(resize=True)
