"""One field is a setting everywhere: a made-up task is found in the help, the documents, validation and the PNG's settings."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_studio.cli import parser
from lcm_studio.edits import TASKS, check, describe
from lcm_studio.edits.task import EditTask
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import Edit
from lcm_studio.spec.schema import read, settings_of
from lcm_studio.spec.settings import to_settings
from tests.edits.made_up import TASK, Ripples

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]
INFO = ModelInfo(id="m", path="", kind="cm", width=16, height=16, multiple=1, guidance="none")


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> EditTask:
    monkeypatch.setitem(TASKS, TASK.name, TASK)
    return TASK


def arguments(*given: str) -> argparse.Namespace:
    return parser().parse_args(["edit", "ripples", "--image", "a.png", *given])


def test_every_setting_is_a_flag_with_its_range_and_default(
    made_up: EditTask, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["edit", "ripples", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for setting in settings_of(Ripples):
        assert "--" + setting.name.replace("_", "-") in shown
        assert setting.help in shown
    assert "how high they go (0.1 to 2 px; default: 0.5)" in shown
    assert "--colour blue|green" in shown
    with pytest.raises(SystemExit):
        parser().parse_args(["edit", "--help"])
    assert "waves on water" in capsys.readouterr().out


def test_what_is_typed_is_validated_and_goes_into_the_settings_of_a_picture(
    made_up: EditTask,
) -> None:
    from lcm_studio.cli.flags import typed

    args = arguments(
        "--height", "1.5", "--rings", "4", "--mirrored", "--at", "0.2,0.8", "--eta", "0.5"
    )
    options = typed(args, settings_of(made_up.settings))
    request = Edit(task="ripples", image=np.zeros((8, 8, 3), np.uint8), options=options)
    check(request, INFO)
    wanted = Ripples(height=1.5, rings=4, mirrored=True, at=(0.2, 0.8), eta=0.5)
    assert read(Ripples, options, "ripples") == wanted
    told = json.loads(json.dumps(to_settings(request)))
    assert read(Ripples, told["options"], "ripples") == wanted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heigth": 1}, "has no option 'heigth'; it takes height, rings"),
        ({"height": 3}, "height=3 is not usable; use a number from 0.1 to 2"),
        ({"height": float("nan")}, "height=nan"),
        ({"height": True}, "height=True"),
        ({"height": None, "rings": 2.5}, "rings=2.5 is not usable; use a whole number from 1 to 9"),
        ({"colour": "red"}, "colour='red' is unknown; use blue, green"),
        ({"label": 3}, "label must be text"),
        ({"label": "x" * 2001}, "at most 2000"),
        ({"mirrored": "yes"}, "neither on nor off"),
        ({"at": [0.1]}, "at has 1 numbers; give 2, as in 0.2, 0.8"),
        ({"at": "0.1; 7"}, "at=0.1, 7 is not usable"),
        ({"at": {"x": 1}}, "at="),
    ],
)
def test_wrong_values_are_named(made_up: EditTask, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest) as error:
        check(Edit(task="ripples", image=np.zeros((8, 8, 3), np.uint8), options=options), INFO)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_the_documents_have_a_row_for_it(made_up: EditTask) -> None:
    page = describe.page()
    assert "## Ripples (`ripples`)" in page
    assert "| `height` | how high they go | 0.1 to 2 px | 0.5 |" in page
    assert "| `at` | where | 2 of 0 to 1 |  |" in page


def test_the_page_of_settings_is_that_of_the_schema() -> None:
    assert (ROOT / "docs" / "guide" / "settings.md").read_text() == describe.page()


def test_every_setting_says_what_it_is() -> None:
    for task in TASKS.values():
        for setting in settings_of(task.settings):
            assert setting.title and setting.help
            assert setting.default is None or setting.read(setting.default) == setting.default
