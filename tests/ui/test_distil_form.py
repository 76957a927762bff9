"""What the Distil form may name: the YAML of further settings leads nowhere that the form does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lcm_studio.spec.errors import BadRequest
from lcm_studio.ui.distil_form import confined, to_config


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
        confined(config, (pictures,), cache)


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
    confined(config_with(text, pictures), (pictures,), cache)
