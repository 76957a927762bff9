"""Pixel recipes that start from a model of other classes say so before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from training.errors import TrainingFault
from training.recipes import find

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "models" / "scenery-cm"


@pytest.mark.parametrize("name", ["ect", "ct", "cd"])
def test_classes_are_those_of_the_start(name: str, tmp_path: Path) -> None:
    recipe = find(name)
    start = {"teacher" if name == "cd" else "start_from": str(BUNDLED)}
    data = {"kind": "scenes", "count": 4, "cache": str(tmp_path)}
    config = recipe.Config(resolution=32, classes=0, data=data, **start)
    with pytest.raises(TrainingFault, match="set classes to 4"):
        recipe(config, torch.device("cpu")).build()
