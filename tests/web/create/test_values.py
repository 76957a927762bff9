"""What Gradio lets through (NaN, None, megabytes of text) becomes one sentence; settings come back as they went."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lcm_studio.models.kinds.recognise import with_guided_steps
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.events import Done
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.settings import to_settings
from lcm_studio.web.create import controls as create_form
from lcm_studio.web.create import offer as offers
from lcm_studio.web.create import steering_controls, steering_values
from lcm_studio.web.create import values as form
from lcm_studio.web.create.tab import without_words
from lcm_studio.web.options import Options
from lcm_studio.web.server.folders import models_folder
from tests.toy_models import CM, LCM, SD

TURBO = replace(
    SD, id="some-turbo", guidance="none", guidance_range=(1.0, 1.0), takes_negative=False
)
GOOD: dict[str, Any] = {
    "prompt": "sunset, lake", "negative": "", "model": "scenery-lcm", "steps": 4, "guidance": 8.0, "seed": 7,
    "count": 2, "width": 256, "height": 128, "decoder": "default", "sampler": "auto", "timesteps": "",
    "class_label": None, "lora0": "", "weight0": 1.0, "lora1": None, "weight1": None, "lora2": "", "weight2": 1.0,
}  # fmt: skip


def test_a_form_becomes_a_request() -> None:
    request = form.to_request(GOOD, LCM)
    assert (request.prompt, request.steps, request.seed, request.count) == ("sunset, lake", 4, 7, 2)
    assert (request.width, request.height, request.guidance) == (256, 128, 8.0)
    assert request.loras == () and request.timesteps is None


@pytest.mark.parametrize(
    "change",
    [
        {"steps": math.nan}, {"steps": math.inf}, {"steps": None}, {"steps": "four"}, {"steps": 1.5}, {"steps": True},
        {"guidance": math.nan}, {"guidance": None}, {"guidance": ""}, {"guidance": [1]},
        {"seed": None}, {"seed": 0.5}, {"count": math.nan}, {"width": None}, {"height": "x"},
        {"prompt": "a" * 5_000_000}, {"prompt": ["a"]}, {"model": 5}, {"timesteps": "a,b"}, {"decoder": {}},
        {"lora0": "a.safetensors", "weight0": math.nan}, {"lora0": 7},
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_sentence(change: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        form.to_request({**GOOD, **change}, LCM)
    assert 10 < len(str(caught.value)) < 300


def test_controls_that_have_no_effect_are_not_sent() -> None:
    said = {**GOOD, "negative": "people", "guidance": None, "class_label": 3}
    request = form.to_request(said, CM)
    assert request.guidance is None and request.negative == "" and request.class_label == 3
    typed = {
        text: form.to_request({**said, "class_label": text}, CM).class_label
        for text in ("0", " 2 ", "", None)
    }
    assert typed == {"0": 0, " 2 ": 2, "": None, None: None}
    with pytest.raises(BadRequest, match="two"):
        form.to_request({**said, "class_label": "two"}, CM)
    assert form.to_request({**GOOD, "negative": "people"}, SD).negative == "people"


def test_settings_come_back_into_the_form() -> None:
    said = {
        **GOOD,
        "steps": 12,
        "timesteps": "999,499",
        "lora0": "/x/a.safetensors",
        "clip_skip": 1,
        "guided_steps": None,
        "embeddings": "ink\nmine = /x/b.safetensors\n",
        "weight0": 0.8,
    }
    request = form.to_request(said, LCM)
    again = form.from_settings(to_settings(request, LCM), LCM)
    assert form.to_request(again, LCM) == request
    assert again["more"] is True and again["randomize"] is False


def test_guided_steps_bring_guidance_and_a_negative_prompt() -> None:
    student = with_guided_steps(TURBO, None)
    said = {**GOOD, "negative": "people", "guidance": 3.0, "guided_steps": 2}
    assert form.guided_steps({**GOOD, "guided_steps": 0}) is None
    assert form.guided_steps(GOOD) is None and form.guided_steps(said) == 2
    plain = create_form.follow(student)
    assert plain["guided_steps"]["visible"] and not plain["guidance"]["visible"]
    guided = with_guided_steps(TURBO, 2)
    shown = create_form.follow(guided)
    assert shown["guidance"]["visible"] and shown["negative"]["visible"]
    request = form.to_request(said, guided)
    assert (request.guided_steps, request.guidance, request.negative) == (2, 3.0, "people")
    again = form.from_settings(to_settings(request, guided), guided)
    assert form.to_request(again, guided) == request
    # what is an input of the network, or knows no prompt, has none
    for info in (LCM, CM):
        assert not create_form.follow(info)["guided_steps"]["visible"]
        assert form.to_request(said, info).guided_steps is None


def test_a_model_is_listed_with_kind_size_and_licence() -> None:
    large = replace(
        SD, title="Turbo", bytes=7 * 2**30, licence="Stability AI's licence: no commercial use"
    )
    assert offers.row(large) == {
        "id": "some-sd",
        "name": "some-sd",
        "facts": "Turbo · Stable Diffusion · 512 x 512 · 7.0 GB",
        "licence": "Stability AI's licence: no commercial use",
    }
    assert offers.row(LCM)["facts"] == "Stable Diffusion · 256 x 256 · 32 MB"
    offer = offers.Offer(models=(offers.row(LCM),))
    value = create_form.follow(LCM, offer=offer)["models"]
    assert value["current"] == "scenery-lcm" and [r["id"] for r in value["rows"]] == ["scenery-lcm"]


def test_the_model_of_a_run_is_listed_and_called_by_its_name() -> None:
    made = replace(LCM, id="/runs/20260102-a/output", path="/runs/20260102-a/output", name="Dusk")
    offer = offers.Offer(models=(offers.row(LCM),))
    updates = create_form.follow(made, offer=offer)
    assert [row["name"] for row in updates["models"]["rows"]] == ["Dusk", "scenery-lcm"]
    assert updates["models"]["current"] == made.id
    assert updates["about"]["text"].startswith("Dusk, ")
    assert (updates["about"]["id"], updates["about"]["name"]) == (made.id, "Dusk")
    assert made.called == "Dusk" and LCM.called == "scenery-lcm"


def test_words_of_textual_inversions_are_under_the_prompt() -> None:
    groups = create_form.follow(SD, offer=offers.Offer(words=("bad-hands",)))["chips"]["groups"]
    assert groups == [["textual inversions", ["bad-hands"]]]
    assert create_form.follow(CM)["embeddings"]["visible"] is False
    assert form.to_request({**GOOD, "embeddings": "ink"}, CM).embeddings == ()


@pytest.mark.parametrize("info", [LCM, SD, CM])
def test_controls_follow_the_kind(info: Any) -> None:
    updates = create_form.follow(info)
    assert updates["negative"]["visible"] is info.takes_negative
    assert updates["guidance"]["visible"] is (info.guidance != "none")
    assert updates["prompt"]["visible"] is info.takes_prompt
    assert updates["class_label"]["visible"] is (info.classes > 0)
    assert updates["width"]["step"] == info.multiple
    assert updates["width"]["minimum"] % info.multiple == 0


def test_restored_steps_above_eight_widen_the_slider() -> None:
    values = form.from_settings({"prompt": "x", "steps": 30, "seed": 1}, LCM)
    assert create_form.follow(LCM, values)["steps"]["maximum"] == 50
    values = form.from_settings({"prompt": "x", "steps": 3, "seed": 1}, LCM)
    assert create_form.follow(LCM, values)["steps"]["maximum"] == 8


def test_a_panel_says_where_its_folder_is(tmp_path: Path) -> None:
    """With its path on a page of this machine alone; strangers and engines elsewhere see none."""
    for block in steering_values.BLOCKS:
        near = offers.Offer(free_paths=True, folder=str(tmp_path))
        words = steering_controls.about(block, near)
        assert words.startswith("None for this model") and block.path in words
        assert str(tmp_path / block.where) in words
        held = replace(near, controls=("canny",), ip_adapters=("plus",))
        assert steering_controls.about(block, held).startswith(f"From `{tmp_path / block.where}`")
        assert "/" not in steering_controls.about(block, offers.Offer()).replace(block.where, "")
    options = Options(models_dirs=(tmp_path,))
    assert models_folder(options) == tmp_path.resolve()
    assert models_folder(Options(engine="ray://a:1", models_dirs=(tmp_path,))) is None


def test_an_empty_prompt_says_what_it_has_done() -> None:
    def message(prompt: str, model: ModelInfo = LCM, warnings: tuple[str, ...] = ()) -> str:
        studio = SimpleNamespace(engine=SimpleNamespace(info=lambda _: model))
        settings = {"prompt": prompt, "model": model.id}
        done = Done(images=(), seeds=(), settings=settings, warnings=warnings)
        return str(without_words(studio, done).get("message", {}).get("text", ""))  # type: ignore[arg-type]

    assert "whatever it has learned" in message("  ")
    assert (
        message("a lake")
        == message("", CM)
        == message("", warnings=("there is more to say",))
        == ""
    )
