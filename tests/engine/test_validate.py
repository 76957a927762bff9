"""Every wrong value gets one sentence with the remedy."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcm_studio.engine.prompt_words import foreign_syntax, unknown_words
from lcm_studio.engine.registry import Registry
from lcm_studio.engine.validate import check_request
from lcm_studio.spec.errors import BadRequest, ModelError, StudioError
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import Edit, Generate, LoraSpec

LCM = ModelInfo(
    id="scenery-lcm", path="", kind="lcm", width=128, height=128, multiple=8, guidance="embedded",
    guidance_default=8.0, guidance_range=(6.0, 16.0),
    vocabulary=(("sky", ("starry night", "sunset")), ("ground", ("snowy mountains",))),
    glue=("a", "over"),
)  # fmt: skip
CM = ModelInfo(
    id="cm", path="", kind="cm", width=64, height=64, multiple=4, guidance="none",
    max_steps=40, takes_prompt=False, classes=10,
)  # fmt: skip
SD = replace(LCM, id="sd", kind="sd", guidance="cfg", takes_negative=True, vocabulary=())


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"steps": 0}, "1 to 50"),
        ({"steps": 51}, "1 to 50"),
        ({"steps": 2.5}, "whole number"),
        ({"steps": True}, "whole number"),
        ({"steps": None}, "whole number"),
        ({"steps": "4"}, "whole number"),
        ({"count": 0}, "1 to 16"),
        ({"count": 10**9}, "1 to 16"),
        ({"seed": -1}, "0 to"),
        ({"seed": 2**64}, "0 to"),
        ({"seed": math.nan}, "whole number"),
        ({"guidance": math.nan}, "finite"),
        ({"guidance": math.inf}, "finite"),
        ({"guidance": -1}, "0 to 30"),
        ({"guidance": "8"}, "finite"),
        ({"width": 100}, "104|96"),
        ({"width": 8}, "16 to 2048"),
        ({"height": 4096}, "16 to 2048"),
        ({"height": math.inf}, "whole number"),
        ({"prompt": "x" * 5000}, "2000"),
        ({"prompt": None}, "text"),
        ({"prompt": "a\0b"}, "NUL"),
        ({"negative": "x" * 5000}, "2000"),
        ({"clip_skip": -1}, "0 to 12"),
        ({"clip_skip": 1.5}, "whole number"),
        ({"clip_skip": 12}, "0 to 11 layers"),
        ({"timesteps": ()}, "empty"),
        ({"timesteps": (5, 5)}, "fall"),
        ({"timesteps": (1, 2)}, "fall"),
        ({"timesteps": (1000, 1)}, "0 to 999"),
        ({"timesteps": (1.5,)}, "whole"),
        ({"timesteps": tuple(range(60, 0, -1))}, "at most 50"),
        ({"class_label": 3}, "no classes"),
        ({"priority": "high"}, "live or normal"),
        ({"sampler": "euler"}, "ddim"),
        ({"loras": (LoraSpec(path="/nowhere/a.safetensors"),)}, "does not exist"),
        ({"loras": (LoraSpec(path="a.ckpt"),)}, "pickled"),
        ({"loras": (LoraSpec(path="a.safetensors", weight=math.nan),)}, "finite"),
        ({"loras": (LoraSpec(path="a\0"),)}, "NUL"),
        ({"loras": (LoraSpec(path="a"),) * 9}, "at most 8"),
    ],
)
def test_wrong_values(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(StudioError, match=word) as caught:
        check_request(Generate(**{"prompt": "sunset", **wrong}), LCM)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_right_values_pass() -> None:
    assert check_request(Generate(prompt="sunset", width=136, height=64, guidance=8), LCM) == ()
    assert check_request(Generate(timesteps=(22, 0), class_label=9), CM) == ()
    assert check_request(Generate(prompt="anything at all", negative="people"), SD) == ()


def test_class_labels_have_bounds() -> None:
    with pytest.raises(BadRequest, match="0 to 9"):
        check_request(Generate(class_label=10), CM)
    with pytest.raises(BadRequest, match="0 to 39"):
        check_request(Generate(timesteps=(40, 0)), CM)


def test_warnings_name_what_has_no_effect() -> None:
    said = check_request(Generate(prompt="sunset", negative="people", guidance=2), LCM)
    assert any("ignores negative" in w for w in said)
    assert any("6 to 16" in w for w in said)
    assert any("no prompt" in w for w in check_request(Generate(prompt="cat"), CM))


@pytest.mark.parametrize(
    ("kind", "task", "ignored"),
    [
        ("lcm", "inpaint", True),
        ("lcm", "interpolate", True),
        ("tcd", "inpaint", True),
        ("tcd", "interpolate", False),
    ],
)
def test_a_share_of_fresh_noise_that_an_edit_does_not_read_is_said(
    kind: str, task: str, ignored: bool
) -> None:
    info = replace(LCM, kind="sd", sampling=kind, eta=0.3)
    picture = np.zeros((16, 16, 3), np.uint8)
    said = check_request(Edit(task=task, image=picture, prompt="sunset", eta=0.5), info)
    assert any("eta=0.5 is ignored" in w for w in said) is ignored
    assert not check_request(Edit(task=task, image=picture, prompt="sunset"), info)


def test_unknown_words_are_named_with_the_nearest_known() -> None:
    assert unknown_words("a sunset over Snowy mountains", LCM) == ()
    assert unknown_words("sunsett, zebra, zebra", LCM) == ("sunsett (sunset?)", "zebra")
    assert unknown_words("sunset under mountains", LCM) == ("under",)
    assert unknown_words("zebra", SD) == ()


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=5),
)
FIELDS = (
    "steps",
    "count",
    "seed",
    "guidance",
    "width",
    "height",
    "prompt",
    "timesteps",
    "class_label",
)


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_anything_is_accepted_or_refused_in_words(values: dict[str, Any]) -> None:
    try:
        check_request(Generate(**values), LCM)
    except BadRequest as error:
        assert re.search(r"\w", str(error))


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "nope",
        "../../etc",
        "/etc/passwd",
        "a\0b",
        "a/b",
        "owner/name/extra",
        "x" * 5000,
        ".",
    ],
)
def test_unknown_models(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError) as caught:
        Registry((tmp_path,)).info(name)
    assert "\n" not in str(caught.value)


def test_pickled_checkpoints_are_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"\x80\x04")
    with pytest.raises(ModelError, match="pickled"):
        Registry((tmp_path,)).info(str(path))


def test_half_a_character_is_refused() -> None:
    for text in ("\ud83d", "lake \udc00"):
        for field in ("prompt", "negative"):
            with pytest.raises(BadRequest, match="surrogate"):
                check_request(Generate(**{field: text}), LCM)
    check_request(Generate(prompt="\U0001f600"), SD)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a (red:1.3) house", ("(red:1.3)",)),
        ("a BREAK b", ("BREAK",)),
        ("lake <lora:style:0.8>", ("<lora:style:0.8> (choose the file as a LoRA instead)",)),
        ("__colour__ house", ("__colour__ (a wildcard)",)),
        ("{red|blue} house", ("{red|blue} (a choice)",)),
        ("[red:blue:0.5] house", ("[red:blue:0.5] (a change of prompt)",)),
        ("a (small) house, 16:9, in the break", ()),
    ],
)
def test_syntax_of_other_programs_is_named(prompt: str, parts: tuple[str, ...]) -> None:
    assert foreign_syntax(prompt) == parts
    unread = foreign_syntax(prompt, weights=True)
    warnings = check_request(Generate(prompt=prompt), SD)
    assert bool(unread) == any("plain words" in w for w in warnings)
    assert unread == (() if prompt in ("a (red:1.3) house", "a BREAK b") else parts)
