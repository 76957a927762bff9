"""A setting of a picture is one field of `Generate`: the shell, the form and the settings of a PNG have it from there."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lcm_studio.cli import generate as command
from lcm_studio.spec.requests import Generate
from lcm_studio.spec.schema import Setting, settings_of
from lcm_studio.spec.settings import from_settings, to_settings
from lcm_studio.web.create import own, values
from tests.toy_models import SD

SETTINGS = settings_of(Generate)


def some(setting: Setting) -> st.SearchStrategy[Any]:
    if setting.kind == "whole":
        kept: st.SearchStrategy[Any] = st.integers(int(setting.low), int(setting.high))
    elif setting.kind == "number":
        kept = st.floats(setting.low, setting.high)
    else:
        kept = st.text("abc ,", min_size=1, max_size=20)
    return st.one_of(st.just(setting.default), kept)


ANY = st.fixed_dictionaries({setting.name: some(setting) for setting in SETTINGS})


@given(ANY)
def test_settings_come_back_from_a_picture(chosen: dict[str, Any]) -> None:
    request = Generate(**chosen)
    assert from_settings(json.loads(json.dumps(to_settings(request)))) == request


@given(ANY)
def test_the_form_gives_back_what_a_picture_says(chosen: dict[str, Any]) -> None:
    info = replace(SD, eta=0.3, classes=own.FIELDS["class_label"].setting.high + 1)
    form = own.of_settings(to_settings(Generate(**chosen)))
    asked = own.values_of(form, info)
    for name in own.FIELDS:
        setting = own.FIELDS[name].setting
        assert asked.get(name, setting.default) == chosen[name]


def test_every_setting_has_a_flag_and_a_place_in_the_form() -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    flags = parser.parse_args(["generate", "x"])
    for setting in SETTINGS:
        assert setting.name in vars(flags)
        assert setting.name in values.NAMES
        assert setting.help and setting.title


def test_what_a_model_lacks_is_not_asked_of_it() -> None:
    plain = replace(SD, eta=None, classes=0)
    form = {"eta": "0.5", "class_label": "3", "clip_skip": 1, "guided_steps": 0}
    assert own.values_of(form, plain) == {"clip_skip": 1}


def test_a_made_up_setting_is_a_flag() -> None:
    script = (
        "from lcm_studio.spec import requests; from tests.spec.made_up import with_sparkle;"
        "requests.Generate = with_sparkle();"
        "from lcm_studio.__main__ import main; main(['generate', '--help'])"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert "--sparkle N" in said.stdout, said.stderr
    assert "stars on the water (0 to 9; default: 3)" in " ".join(said.stdout.split())
