"""What the Distil form may name: the YAML of further settings leads nowhere that the form does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lcm_studio.spec.errors import BadRequest
from lcm_studio.web.distil.places import Places, confined
from lcm_studio.web.distil.values import MOST_PROMPTS, NAMES, from_config, to_config
from training.recipes import find
from training.recipes.latents import SHEET_PROMPTS


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    pictures, cache = tmp_path / "pictures", tmp_path / "cache"
    for folder in (pictures / "inner", cache, tmp_path / "else"):
        folder.mkdir(parents=True)
    (pictures / "link").symlink_to(tmp_path / "else")
    return pictures, cache


def config_with(more: str, folder: Path) -> dict[str, Any]:
    return to_config({"recipe": "lcd", "more": more}, teacher="a", folder=str(folder))[1]


@pytest.mark.parametrize(
    "more",
    [
        "data: {path: /etc}",
        "data: {path: PICTURES/../else}",
        "data: {path: PICTURES/link}",
        "data: {kind: webdataset, path: '/etc/x-{00..01}.tar'}",
        "data: {kind: scenes, path: /etc}",
        "data: {cache: /etc}",
        "data: {cache: CACHE/..}",
        "data: {path: ../../etc}",
        'data: {path: "a\\0b"}',
    ],
)
def test_further_settings_do_not_lead_outside(more: str, places: tuple[Path, Path]) -> None:
    pictures, cache = places
    text = more.replace("PICTURES", str(pictures)).replace("CACHE", str(cache))
    config = config_with(text, pictures)
    with pytest.raises(BadRequest):
        confined(config, Places(named=(pictures,)), cache)


@pytest.mark.parametrize(
    "more",
    [
        "",
        "steps: 3",
        "data: {path: PICTURES/inner, cache: CACHE/of-mine}",
        "data: {kind: huggingface, path: owner/name}",
        "data: 3",
    ],
)
def test_what_lies_inside_passes(more: str, places: tuple[Path, Path]) -> None:
    pictures, cache = places
    text = more.replace("PICTURES", str(pictures)).replace("CACHE", str(cache))
    confined(config_with(text, pictures), Places(named=(pictures,)), cache)


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "folder", "path": "FOLDER", "flip": True},
        {"kind": "webdataset", "path": "FOLDER/x-{00..01}.tar"},
        {"kind": "scenes", "count": 40, "first": 7},
        {"kind": "huggingface", "path": "owner/name", "crop": "random"},
    ],
)
def test_a_run_comes_back_from_its_form(data: dict[str, Any], tmp_path: Path) -> None:
    """Duplicate: the form filled from a config gives the same config."""
    data = {k: v.replace("FOLDER", str(tmp_path)) if k == "path" else v for k, v in data.items()}
    config = {
        "data": data, "teacher": "a", "steps": 5, "batch_size": 2, "learning_rate": 1e-4,
        "resolution": 64, "validation_prompts": ["sunset, lake", "a red house"], "w_max": 3.0,
    }  # fmt: skip
    form = from_config("Again", "lcd", config)
    assert tuple(form) == NAMES
    made = to_config(form, teacher=form["teacher"], folder=form["folder"] or "")
    assert made == ("lcd", config)


def test_pictures_are_asked_for_where_none_are_named() -> None:
    for more in ("", "data: {flip: true}", "data: 3", "data: {kind: folder}"):
        with pytest.raises(BadRequest, match="choose a folder"):
            to_config({"recipe": "lcd", "more": more}, teacher="a", folder="")


def test_a_wrong_number_is_told_by_the_name_that_the_page_shows(tmp_path: Path) -> None:
    values = {"recipe": "lcd", "resolution": "large"}
    with pytest.raises(BadRequest, match=r"^Pixels: 'large' is no whole number from 16 up$"):
        to_config(values, teacher="a", folder=str(tmp_path))


def test_validation_prompts_are_lines_of_the_recipes_that_draw_from_prompts(tmp_path: Path) -> None:
    text = "\n  sunset, lake \n\n a red house\n"
    for recipe, wanted in (("teacher", ["sunset, lake", "a red house"]), ("edm", None)):
        values = {"recipe": recipe, "prompts": text}
        _, config = to_config(values, teacher="", folder=str(tmp_path))
        assert config.get("validation_prompts") == wanted
    assert find("lcd").Config(validation_prompts=["sunset, lake"]).validation_prompts  # type: ignore[attr-defined]
    with pytest.raises(BadRequest, match="at most 8"):
        to_config({"recipe": "lcd", "prompts": "a\n" * 9}, teacher="a", folder=str(tmp_path))
    assert MOST_PROMPTS == SHEET_PROMPTS
    odd = {"validation_prompts": ["two\nlines"], "data": {"kind": "scenes"}}
    filled = from_config("Odd", "lcd", odd)
    assert filled["prompts"] is None and "two" in filled["more"]
