"""Latents of scenes that are rendered on the way: equal to those of stored scenes, mirrored with their captions, kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training.data import rendered
from training.data.latents import open_latents
from training.data.views import Views
from training.scenery.source import PassingScenes, SceneSource, mirror

SIZE = 16


def shrink(x: torch.Tensor) -> torch.Tensor:
    """Pictures (B, 3, H, W) to rows (B, 3, H/8, W/8)."""
    return torch.nn.functional.avg_pool2d(x, 8)


def opened(source: SceneSource, views: Views, cache: Path):
    return open_latents(
        source, shrink, views=views, size=SIZE, spread=False, key="shrink", cache=cache
    )


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendered, "BLOCK", 4)


@pytest.mark.usefixtures("blocks")
def test_passing_scenes_give_the_latents_and_captions_of_stored_ones(tmp_path: Path) -> None:
    views = Views(flip=True, seed=3)
    fields = {
        "first": 5,
        "count": 10,
        "size": SIZE,
        "edition": 2,
        "cache": tmp_path,
        "views": views,
    }
    stored, passing = SceneSource(**fields), PassingScenes(**fields)
    examples = [(i, epoch) for epoch in range(3) for i in range(10)]
    want, rows = (
        opened(stored, views, tmp_path)(examples),
        opened(passing, views, tmp_path)(examples),
    )
    assert torch.allclose(rows.rows, want.rows, atol=1e-3)
    assert torch.equal(rows.sizes, want.sizes)
    assert [passing.caption(*e) for e in examples] == [stored.caption(*e) for e in examples]
    assert np.array_equal(passing.item(7).image, stored.item(7).image)


@pytest.mark.usefixtures("blocks")
def test_what_was_encoded_is_kept_and_a_longer_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    real = PassingScenes.blocks

    def blocks(self: PassingScenes, numbers, size: int):
        made.extend(numbers)
        return real(self, numbers, size)

    monkeypatch.setattr(PassingScenes, "blocks", blocks)
    views = Views(flip=False)
    for count in (10, 10, 18):
        source = PassingScenes(first=0, count=count, size=SIZE, cache=tmp_path)
        latents = opened(source, views, tmp_path)
    assert made == [0, 1, 2, 2, 3, 4]  # the short last block was not taken for a whole one
    alone = PassingScenes(first=17, count=1, size=SIZE, cache=tmp_path)
    last = opened(alone, views, tmp_path)([(0, 0)])
    assert torch.equal(latents([(17, 0)]).rows, last.rows)


def test_a_mirrored_scene_exchanges_left_and_right_in_its_caption() -> None:
    text = "sun on the left, day, a few pine trees"
    assert mirror(text) == "sun on the right, day, a few pine trees"
    assert mirror(mirror(text)) == text
    views = Views(flip=True, seed=0)
    assert {views.at(0, epoch).flip for epoch in range(20)} == {False, True}
