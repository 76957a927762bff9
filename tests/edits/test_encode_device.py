"""What the model is asked to encode lies on the model's device, shown on `meta`, which every machine has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_studio.device import choose
from lcm_studio.engine.session import session
from lcm_studio.models.load import load_folder
from lcm_studio.sampling import Compute, Embed, Encode, answer
from lcm_studio.spec.requests import Edit

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "models" / "scenery-lcm"


class Elsewhere:
    """The bundled model, but that it says it is on `meta`."""

    device = "meta"

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@pytest.mark.parametrize("task", ["inpaint", "colorize", "interpolate"])
def test_pictures_go_to_the_device_before_they_are_encoded(task: str) -> None:
    model = load_folder(BUNDLED, choose("cpu", "fp32"))
    image = np.full((128, 128, 3), 90, np.uint8)
    mask = np.zeros((128, 128), np.uint8)
    mask[40:80, 40:80] = 255
    request = Edit(
        task=task,
        image=image,
        image_b=image if task == "interpolate" else None,
        mask=mask if task == "inpaint" else None,
    )
    steps = session(request, Elsewhere(model), (0,), 1)  # type: ignore[arg-type]
    ask = next(steps)
    while isinstance(ask, Embed | Compute):
        ask = steps.send(answer(ask, model))
    assert isinstance(ask, Encode)
    assert ask.images.device.type == "meta"
