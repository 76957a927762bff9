"""Whatever the values, what comes out is within every control's range, and each change has its sentence."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcm_studio.edits import TASKS
from lcm_studio.spec import limits
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.schema import settings_of
from lcm_studio.web import views
from lcm_studio.web.create import controls
from lcm_studio.web.create.fit import fit, side_ends
from tests.toy_models import CM, LCM, SD

NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.none())


@pytest.mark.parametrize("info", [LCM, replace(SD, steps_default=20), CM])
@given(
    steps=NUMBERS, guidance=NUMBERS, seed=st.integers(-(2**70), 2**70), width=st.integers(-9, 2**40)
)
def test_every_value_fits(info: Any, steps: Any, guidance: Any, seed: int, width: int) -> None:
    values = {"steps": steps, "guidance": guidance, "seed": seed, "width": width, "height": 64}
    out, notes = fit({name: value for name, value in values.items() if value is not None}, info)
    assert 1 <= out.get("steps", 1) <= min(limits.MAX_STEPS, info.max_steps)
    assert 0 <= out["seed"] <= limits.MAX_SEED
    low, high = side_ends(info)
    assert low <= out["width"] <= high and out["width"] % info.multiple == 0
    if info.guidance != "none" and guidance is not None:
        assert info.guidance_range[0] <= out["guidance"] <= info.guidance_range[1] or math.isclose(
            out["guidance"], info.guidance_range[0] + 1
        )
    assert all(note.endswith(".") for note in notes)
    assert fit(out, info) == (out, [])


def test_the_defaults_of_a_model_are_within_its_controls() -> None:
    plain = replace(SD, steps_default=20, guidance_default=40.0)
    updates = controls.follow(plain)
    assert updates["steps"]["value"] == 20 <= updates["steps"]["maximum"]
    assert updates["guidance"]["value"] <= updates["guidance"]["maximum"]
    assert fit({"steps": 8, "prompt": "x"}, plain) == ({"steps": 8, "prompt": "x"}, [])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("inpaint needs a mask", "Repaint needs a mask"),
        ("interpolate needs image_b", "Morph needs the second picture"),
        (
            "interpolate needs a second picture (image_b), or kind=prompts, or kind=seeds",
            "Morph needs another picture (Second picture, above the canvas), or Between: prompts, or Between: seeds",
        ),
        ("seed_b=-1 is not usable", "Last seed=-1 is not usable"),
        ("x.noise_scale.bin is no picture", "x.noise_scale.bin is no picture"),
        ("there is no picture yet", "There is no picture yet"),
        ("seed=-3 is out of range", "seed=-3 is out of range"),
        ("/a/b is no folder", "/a/b is no folder"),
    ],
)
def test_messages_speak_the_words_of_the_page(text: str, shown: str) -> None:
    assert views.message(text)["message"]["text"] == shown


def test_a_message_of_morph_is_in_the_words_of_its_controls() -> None:
    """Whatever its settings refuse names the control, and no whole number loses its digits."""
    for setting in settings_of(TASKS["interpolate"].settings):
        with pytest.raises(BadRequest) as caught:
            setting.read(object())
        text = str(views.message(str(caught.value))["message"]["text"])
        assert "_" not in text.partition("<")[0], text
        assert setting.kind != "whole" or "e+" not in text, text
