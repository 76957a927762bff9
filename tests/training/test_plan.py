"""The plan before a run: what it says of time is measured, and nothing is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import tiny
from training import estimate, plan
from training.errors import TrainingFault
from training.recipes import find

SMALL = {"steps": 600, "batch_size": 2, "device": "cpu", "data": {"kind": "scenes", "count": 4}}
PIXELS = SMALL | {"resolution": 16, "channels": [16, 32], "norm_groups": 8, "head_width": 8}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind in ("sd-plain", "sdxl", "cm-class"):
        tiny.save(kind, root / kind)
    return root


def planned(name: str, **fields: Any) -> str:
    return plan.plan(name, find(name).Config(**fields))


@pytest.mark.parametrize(
    ("name", "teacher"),
    [("lcd", "sd-plain"), ("lcd", "sdxl"), ("lcm-lora", "sd-plain"), ("cd", "cm-class")],
)
def test_time_is_measured_for_teachers_of_every_kind(
    name: str, teacher: str, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fields = PIXELS if name == "cd" else SMALL | {"resolution": 64}
    text = planned(name, **fields, teacher=str(folders / teacher))
    assert "measured now, 2 pictures" in text and "steps/s" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ct", "edm"])
def test_time_is_measured_for_networks_from_a_config(name: str) -> None:
    assert "measured now" in planned(name, **PIXELS)


def test_a_network_that_cannot_be_built_has_no_time() -> None:
    assert "not measured for this recipe" in planned("autoencoder", **SMALL)


def test_time_grows_with_steps_and_batch(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))  # every measured step takes one tick
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: float(next(clock)))
    fields = SMALL | {"resolution": 64, "teacher": str(folders / "sd-plain"), "batch_size": 16}
    text = planned("lcd", **fields)  # 8 pictures fit into the patience, and take one second
    assert "about 20 min on cpu, 0.5 steps/s: measured now, 8 pictures" in text
    more = planned("lcd", **fields | {"gradient_accumulation_steps": 2})
    assert "about 40 min on cpu, 0.25 steps/s" in more


def test_nothing_is_built_where_memory_is_short(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_free_memory", lambda config: 1000)
    monkeypatch.setattr(estimate, "speed", lambda *_: pytest.fail("a network was built"))
    text = planned("lcd", **SMALL, resolution=64, teacher=str(folders / "sd-plain"))
    assert "not measured: memory is short" in text


@pytest.mark.parametrize(("seconds", "words"), [(59, "59 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations(seconds: float, words: str) -> None:
    assert plan._duration(seconds) == words


def test_a_missing_teacher_is_named() -> None:
    with pytest.raises(TrainingFault, match=r"model_index\.json"):
        planned("lcd", **SMALL, teacher="nowhere")


@pytest.mark.parametrize("key", ["autoencoder", "start_from"])
def test_missing_weights_to_go_on_from_are_named_before_anything_starts(key: str) -> None:
    with pytest.raises(TrainingFault, match=f"{key}='nowhere'") as caught:
        planned("teacher", **SMALL, **{key: "nowhere"})
    assert caught.value.reason == "missing_weights"


@pytest.mark.parametrize("teacher", ["sd-plain", "sdxl"])
def test_caches_take_what_was_planned(teacher: str, folders: Path, tmp_path: Path) -> None:
    """Rendered scenes, latents and captions of a run that sees every caption once."""
    import torch

    cache = tmp_path / "cache"
    data = {"kind": "scenes", "count": 64, "cache": str(cache)}
    fields = SMALL | {"resolution": 64, "steps": 32, "data": data}
    fields |= {"teacher": str(folders / teacher)}
    line = next(x for x in planned("lcd", **fields).splitlines() if x.startswith("caches"))
    wanted = [float(x) for x in re.findall(r"(\d+) MB", line)]
    recipe = find("lcd")
    made: Any = recipe(recipe.Config(**fields), torch.device("cpu"))
    made.build()
    kinds = ("scenes-*/images.npy", "latents-*.npy", "*.rows")
    found = [sum(p.stat().st_size for p in cache.glob(kind)) / 2**20 for kind in kinds]
    assert len(wanted) == 3
    for said, taken in zip(wanted, found, strict=True):
        assert taken <= said + 1 and said <= taken * 1.1 + 1


def test_caches_that_are_not_made_are_not_planned(folders: Path, tmp_path: Path) -> None:
    data = SMALL["data"] | {"latents": "online", "text": "online"}  # type: ignore[operator]
    teacher = str(folders / "sd-plain")
    text = planned("lcd", **SMALL | {"data": data}, resolution=64, teacher=teacher)
    assert "rendered scenes" in text and " MB latents" not in text and " MB captions" not in text
    assert "caches" in planned("ct", **PIXELS)  # the rendered scenes
    assert "caches" not in planned(
        "lcd",
        **SMALL | {"data": few(tmp_path) | {"text": "online", "latents": "online"}},
        resolution=64,
        teacher=teacher,
    )


def few(folder: Path) -> dict[str, Any]:
    """Two pictures in a folder."""
    for i in range(2):
        Image.new("RGB", (64, 64), (0, 80 * i, 40)).save(folder / f"{i}.png")
    return {"kind": "folder", "path": str(folder)}
