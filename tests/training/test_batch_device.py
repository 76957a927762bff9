"""Batches lie on the recipe's device, shown on `meta`, which every machine has."""

from __future__ import annotations

from pathlib import Path

import torch

from training.recipes import find
from training.recipes.base import Draw
from training.rng import generator

VAE = Path(__file__).resolve().parents[2] / "assets" / "models" / "scenery-teacher" / "vae"


def test_batches_of_the_teacher_are_on_the_device(tmp_path: Path) -> None:
    recipe_class = find("teacher")
    data = {"kind": "scenes", "count": 4, "cache": str(tmp_path)}
    config = recipe_class.Config(autoencoder=str(VAE), data=data)
    recipe = recipe_class(config, torch.device("cpu"))
    recipe.build()
    recipe.device = torch.device("meta")
    draw = Draw(step=0, examples=((0, 0), (1, 0)), generator=generator(0))
    batch = recipe.batch(draw)
    assert {name: value.device.type for name, value in batch.items()} == dict.fromkeys(
        batch, "meta"
    )
