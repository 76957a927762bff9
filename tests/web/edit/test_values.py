"""The Edit tab's values as options of an edit, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lcm_studio.spec.models import ModelInfo
from lcm_studio.web.edit import values as edit_form

FORM: dict[str, Any] = {
    "tool": "colorize",
    "levels": "",
    "method": "default",
    "eta": None,
    "noise_scale": None,
    "relax": None,
    "emphasis": None,
}


@pytest.mark.parametrize(
    ("typed", "sent"), [(None, {}), ("", {}), (0, {"eta": 0}), (0.85, {"eta": 0.85})]
)
@pytest.mark.parametrize("name", ["eta", "noise_scale", "emphasis"])
def test_zero_is_something_else_than_none_given(name: str, typed: Any, sent: Any) -> None:
    expected = {name: sent["eta"]} if sent else {}
    assert edit_form.options("colorize", FORM | {name: typed}) == expected


def test_the_schedule_survives_the_way_through_a_picture_file() -> None:
    said = FORM | {
        "levels": "3; 1, 0.4",
        "method": "once",
        "eta": 0,
        "relax": "0.4; 0,0.3",
        "emphasis": 1.5,
    }
    options = edit_form.options("colorize", said)
    assert options == {
        "levels": ["3", "1", "0.4"],
        "method": "once",
        "eta": 0,
        "relax": ["0.4", "0", "0.3"],
        "emphasis": 1.5,
    }
    again = edit_form.from_settings({"task": "colorize", "options": options})
    assert edit_form.options("colorize", FORM | again) == options
    bare = edit_form.from_settings({"task": "colorize", "options": {}})
    assert edit_form.options("colorize", said | bare) == {}


@pytest.mark.parametrize(
    ("tool", "typed", "sent"),
    [("superres", "0", ["0"]), ("superres", 0, ["0"]), ("superres", " ", None), ("sketch", "0.3", None)],
)  # fmt: skip
def test_relaxation_is_sent_to_the_tools_that_take_it(tool: str, typed: Any, sent: Any) -> None:
    assert edit_form.options(tool, FORM | {"relax": typed}).get("relax") == sent


def test_the_kind_of_the_model_goes_with_the_request_and_comes_back() -> None:
    from lcm_studio.web.edit.controls import fit

    info = ModelInfo(
        id="own", path="", kind="sd", width=64, height=64, multiple=8, guidance="cfg", kinds=("lcm", "tcd"),
    )  # fmt: skip
    desk = edit_form.Desk().show(np.zeros((64, 64, 3), np.uint8))
    form = FORM | {"steps": 4, "guidance": 1.0, "seed": 3}
    assert edit_form.to_request(form, desk, "", info).kind == "auto"
    assert edit_form.to_request(form | {"model_kind": "tcd"}, desk, "", info).kind == "tcd"
    said = {"task": "interpolate", "kind": "tcd", "options": {"kind": "seeds"}}
    known, _ = fit(edit_form.from_settings(said), info)
    assert (known["model_kind"], known["kind"]) == ("tcd", "seeds")
    assert fit(edit_form.from_settings(said | {"kind": "pcm"}), info)[0]["model_kind"] == "auto"


def test_guided_steps_go_with_the_request_and_come_back() -> None:
    from lcm_studio.models.kinds.recognise import with_guided_steps
    from lcm_studio.web.edit.controls import fit

    info = ModelInfo(id="own", path="", kind="sd", width=64, height=64, multiple=8, guidance="none")
    desk = edit_form.Desk().show(np.zeros((64, 64, 3), np.uint8))
    form = FORM | {"steps": 4, "guidance": 3.0, "seed": 3, "guided_steps": 1}
    request = edit_form.to_request(form, desk, "", with_guided_steps(info, 1))
    assert (request.guided_steps, request.guidance) == (1, 3.0)
    plain = edit_form.to_request(form | {"guided_steps": 0}, desk, "", info)
    assert (plain.guided_steps, plain.guidance) == (None, None)
    said = {"task": "inpaint", "guided_steps": 1, "guidance": 3.0}
    known, notes = fit(edit_form.from_settings(said), with_guided_steps(info, 1))
    assert (known["guided_steps"], known["guidance"], notes) == (1, 3.0, [])
    assert edit_form.from_settings({"task": "inpaint"})["guided_steps"] == 0


def test_live_hears_every_setting_of_the_form_as_it_is_typed() -> None:
    from types import SimpleNamespace

    from lcm_studio.web.edit.routes import Sketch
    from lcm_studio.web.server.picture_store import png

    info = ModelInfo(id="own", path="", kind="lcm", width=64, height=64, multiple=8, guidance="embedded")  # fmt: skip
    studio: Any = SimpleNamespace(
        engine=SimpleNamespace(info_as=lambda _, guided_steps: info),
        allowed_model=lambda name: name,
        controls=None,
    )
    typed = {
        "strength": "0.4", "grow": "3", "feather": "0", "invert": True, "method": "The tool's own", "eta": "0,5", "levels": "",
        "blend": "none", "scale": "4", "kernel": "gaussian:2",
    }  # fmt: skip
    said = {
        "image": png(np.zeros((64, 64, 3), np.uint8)), "prompt": "lake", "steps": 4, "seed": 1, "model": "own",
        "settings": typed, "guidance": 3,
    }  # fmt: skip
    request = Sketch(studio).request(said)
    wanted = {"strength": 0.4, "grow": 3, "invert": True, "eta": 0.5, "blend": "none"}
    assert {name: request.options[name] for name in wanted} == wanted
    assert not {"method", "levels", "scale", "kernel"} & set(request.options)
    assert Sketch(studio).request({**said, "seed": -5, "randomize": True}).seed == 0
    strokes = png(np.full((64, 64, 4), 255, np.uint8))
    alone = Sketch(studio).request({**said, "strokes": strokes, "settings": {"strength": "0.4"}})
    assert alone.options["grow"] == edit_form.ROUND_STROKES and alone.mask is not None


def test_a_tool_brings_its_guidance_and_a_scale_set_by_hand_stays() -> None:
    info = ModelInfo(
        id="own", path="", kind="lcm", width=64, height=64, multiple=8, guidance="embedded",
        guidance_default=3, guidance_edit=8, guidance_tasks=(("colorize", 4), ("superres", 12)),
    )  # fmt: skip
    assert edit_form.guidance_of("superres", 8, info) == 12
    assert edit_form.guidance_of("colorize", 12, info) == 4
    assert edit_form.guidance_of("sketch", 4, info) == 8
    assert edit_form.guidance_of("inpaint", None, info) == 8
    assert edit_form.guidance_of("superres", 5.5, info) == 5.5


def test_pictures_of_two_events_at_once_are_both_kept() -> None:
    """Each begins with the desk before both, and only one of the two desks is left."""
    from copy import deepcopy

    first = deepcopy(edit_form.Desk())
    one, other = (np.full((8, 8, 3), grey, np.uint8) for grey in (1, 2))
    early = first.show(one)
    late = first.show(other)
    assert late.back_to(early.sheet).picture is one
    assert early.back_to(late.sheet).picture is other
    form = FORM | {"tool": "colorize", "steps": 1, "guidance": 1.0, "seed": 3}
    info = ModelInfo(id="own", path="", kind="lcm", width=8, height=8, multiple=8, guidance="none")
    request = edit_form.to_request(form, late, f'{{"sheet": {early.sheet}}}', info)
    assert request.image is one, "the canvas says which picture it shows"
    assert deepcopy(edit_form.Desk()).pile is not first.pile


@pytest.mark.parametrize(("error", "more"), [(21.0, True), (1.0, False)])
def test_the_figure_of_deblur_is_said_in_a_sentence(error: float, more: bool) -> None:
    words = edit_form.read_out({"kernel": "gaussian:2", "max_error": error}, {}, None)
    assert f"blurred again, it differs from your picture by at most {error:g}/255" in words
    assert ("Make it exact" in words) == more
