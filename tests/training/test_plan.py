"""The plan before a run: what it says of time is measured, and nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lcm_studio.models.catalog import read_info
from tests import tiny
from training import estimate, plan
from training.data.load import open_source
from training.errors import TrainingFault
from training.loop import Trainer
from training.progress.validation import Validation
from training.recipes import find

SMALL = {"steps": 600, "batch_size": 2, "device": "cpu", "data": {"kind": "scenes", "count": 4}}
PIXELS = SMALL | {"resolution": 16, "channels": [16, 32], "norm_groups": 8, "head_width": 8}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind in ("sd-plain", "sdxl", "cm-class"):
        tiny.save(kind, root / kind)
    return root


@pytest.fixture(autouse=True)
def few_steps_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_MOST", 2)


def planned(name: str, *, timed: bool = True, **fields: Any) -> str:
    return plan.plan(name, find(name).Config(**fields), timed=timed)


@pytest.mark.parametrize(
    ("name", "teacher"),
    [("lcd", "sd-plain"), ("lcd", "sdxl"), ("lcm-lora", "sd-plain"), ("cd", "cm-class")],
)
def test_time_is_measured_for_teachers_of_every_kind(
    name: str, teacher: str, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures := tmp_path / "pictures").mkdir()
    (there := tmp_path / "there").mkdir()
    monkeypatch.chdir(there)
    fields = PIXELS | {"classes": 7} if name == "cd" else SMALL | {"resolution": 64}
    text = planned(name, **fields | {"data": few(pictures)}, teacher=str(folders / teacher))
    assert "measured now with 2 pictures a step" in text and "steps/s" in text
    assert list(there.iterdir()) == []


@pytest.mark.parametrize("name", ["ct", "edm"])
def test_time_is_measured_for_networks_from_a_config(name: str) -> None:
    assert "measured now" in planned(name, **PIXELS)


def test_time_is_worked_out_from_measured_steps(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that stands still but in steps, sheets and checkpoints, which take what is set here."""
    now = [0.0]
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: now[0])

    def takes(owner: type, name: str, seconds: Any) -> None:
        def work(self: Any, *args: Any) -> float:
            now[0] += seconds(self)
            return 0.0

        monkeypatch.setattr(owner, name, work)

    takes(Trainer, "micro_step", lambda trainer: 0.1 * trainer.config.batch_size)
    takes(Trainer, "sample", lambda _: 3.0)
    takes(Trainer, "save", lambda _: 2.0)
    takes(Validation, "draw_teacher", lambda _: 5.0)
    fields = SMALL | {"resolution": 64, "teacher": str(folders / "sd-plain"), "batch_size": 16}
    text = planned("lcd", **fields)
    # steps of 16 pictures take 1.6 s: 600 take 16 minutes; 2 checkpoints and the model take 6 s
    assert "about 16 min on cpu: 600 steps at 0.625 steps/s, measured now with 16" in text
    assert "checkpoints and the model 6 s" in text and "validation" not in text
    more = planned("lcd", **fields | {"gradient_accumulation_steps": 2, "validate_every": 250})
    assert "about 32 min on cpu: 600 steps at 0.31" in more
    assert "validation pictures 14 s" in more  # 3 sheets and the teacher's


def test_what_is_slow_is_not_tried_and_stands_on_top(folders: Path) -> None:
    config = find("lcd").Config(**SMALL, teacher=str(folders / "sd-plain"), validate_every=100)
    times = estimate.Times(device="cpu", measured=1, step=2.0, start=30.0, encoding=0.5)
    lines = plan.time_lines(config, times, {"encoding": 60})
    assert "about 21 min on cpu: 600 steps at 0.5 steps/s" in lines[0]
    assert "before the first step 30 s; encoding of what the caches lack, at most 30 s" in lines[1]
    assert lines[2].strip() == "on top: validation pictures, checkpoints and the model"


def test_the_plan_names_what_would_end_the_run(folders: Path) -> None:
    with pytest.raises(TrainingFault, match="ddim_steps=30 does not divide"):
        planned("lcd", **SMALL, resolution=64, teacher=str(folders / "sd-plain"), ddim_steps=30)


def test_the_first_examples_alone_are_read(tmp_path: Path) -> None:
    data = few(tmp_path)
    for limit, length in ((0, 2), (1, 1), (9, 2)):
        config = find("ct").Config(**SMALL | {"data": data | {"limit": limit}})
        assert len(open_source(config)) == length
        assert f"{length} pictures, seen" in plan.plan("ct", config, timed=False)


def test_nothing_is_built_where_memory_is_short(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_free_memory", lambda config: 1000)
    monkeypatch.setattr(estimate, "measure", lambda *_, **__: pytest.fail("a network was built"))
    text = planned("lcd", **SMALL, resolution=64, teacher=str(folders / "sd-plain"))
    assert "not measured: memory is short" in text


@pytest.mark.parametrize(("seconds", "words"), [(59, "59 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations(seconds: float, words: str) -> None:
    assert plan._duration(seconds) == words


def test_a_missing_teacher_is_named() -> None:
    with pytest.raises(TrainingFault, match=r"model_index\.json"):
        planned("lcd", **SMALL, teacher="nowhere")


def test_sharded_memory_is_told_for_each_process(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = plan.weight_bytes(folders / "sdxl" / "unet")[0]
    rest = read_info(folders / "sdxl").parameters
    split, whole = 4 * 7 * network / 2**20, 4 * (rest - network) / 2**20
    fields = SMALL | {"resolution": 64, "teacher": str(folders / "sdxl")}
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert f"memory      {split + whole:.0f} MB for weights" in planned(
        "lcd", **fields, timed=False
    )
    text = planned("lcd", **fields, sharding="full", timed=False)
    assert f"{whole:.0f} MB in each process and its share of {split:.0f} MB" in text
    monkeypatch.setenv("WORLD_SIZE", "4")
    text = planned("lcd", **fields, sharding="full", timed=False)
    assert f"{split / 4 + whole:.0f} MB in each of 4 processes" in text


@pytest.mark.parametrize("key", ["autoencoder", "start_from"])
def test_missing_weights_to_go_on_from_are_named_before_anything_starts(key: str) -> None:
    with pytest.raises(TrainingFault, match=f"{key}='nowhere'") as caught:
        planned("teacher", **SMALL, **{key: "nowhere"})
    assert caught.value.reason == "missing_weights"


def config_of(name: str, **fields: Any) -> Any:
    return find(name).Config(**fields)


@pytest.mark.parametrize("teacher", ["sd-plain", "sdxl"])
def test_caches_take_what_was_planned(teacher: str, folders: Path, tmp_path: Path) -> None:
    """Rendered scenes, latents and captions of a run, byte by byte but for the headers of files."""
    import torch

    cache = tmp_path / "cache"
    data = {"kind": "scenes", "count": 64, "cache": str(cache)}
    fields = SMALL | {"resolution": 64, "steps": 32, "data": data}
    config = config_of("lcd", **fields, teacher=str(folders / teacher))
    planned = plan.cache_bytes("lcd", config, 64)
    find("lcd")(config, torch.device("cpu")).build()
    files = {
        "rendered scenes": "scenes-*/images.npy",
        "latents": "latents-*.npy",
        "captions": "*.rows",
    }
    assert planned.keys() == files.keys()
    for name, pattern in files.items():
        taken = sum(path.stat().st_size for path in cache.glob(pattern))
        assert taken - 512 <= planned[name] <= 1.05 * taken, name


def test_caches_of_a_folder_with_crops(folders: Path, tmp_path: Path) -> None:
    """Each picture has its crops, mirrored and not, and one caption."""
    import torch

    cache = tmp_path / "cache"
    data = few(tmp_path) | {"cache": str(cache), "crop": "random", "crops": 3, "flip": True}
    fields = SMALL | {"resolution": 64, "data": data, "teacher": str(folders / "sd-plain")}
    config = config_of("lcd", **fields)
    planned = plan.cache_bytes("lcd", config, 2)
    find("lcd")(config, torch.device("cpu")).build()
    taken = sum(path.stat().st_size for path in cache.glob("*.rows"))
    assert planned.keys() == {"latents", "captions"}
    assert taken <= sum(planned.values())
    assert planned["latents"] == 2 * 6 * plan._row(folders / "sd-plain" / "vae" / "config.json", 64)


def test_caches_that_are_not_made_are_not_planned(folders: Path, tmp_path: Path) -> None:
    teacher = str(folders / "sd-plain")
    online = {"latents": "online", "text": "online"}
    data = SMALL["data"] | online  # type: ignore[operator]
    config = config_of("lcd", **SMALL | {"data": data}, resolution=64, teacher=teacher)
    assert plan.cache_bytes("lcd", config, 4) == {"rendered scenes": 4 * 3 * 64 * 64}
    fields = SMALL | {"data": few(tmp_path) | online}
    text = planned("lcd", **fields, resolution=64, teacher=teacher, timed=False)
    assert "caches" not in text and "2 pictures" in text


def test_solved_paths_take_what_was_planned(folders: Path, tmp_path: Path) -> None:
    import torch

    online = {"latents": "online", "text": "online"}
    data = SMALL["data"] | online | {"cache": str(tmp_path)}  # type: ignore[operator]
    fields = SMALL | {"data": data, "resolution": 64, "path_share": 0.5, "paths": 40}
    config = config_of("lcd", **fields, teacher=str(folders / "sd-plain"))
    planned = plan.cache_bytes("lcd", config, 4)["solved paths"]
    find("lcd")(config, torch.device("cpu")).build()
    assert planned == sum(path.stat().st_size for path in tmp_path.glob("*.rows"))


def test_captions_take_no_more_than_they_may(folders: Path) -> None:
    data = SMALL["data"] | {"text_cache_mb": 1}  # type: ignore[operator]
    teacher = str(folders / "sd-plain")
    config = config_of("lcd", **SMALL | {"data": data}, resolution=64, teacher=teacher)
    assert plan.cache_bytes("lcd", config, 4)["captions"] == 10**6


def test_pictures_elsewhere_are_not_counted(folders: Path) -> None:
    """A plan fetches nothing, so it claims neither a number of pictures nor of megabytes."""
    data = {"kind": "huggingface", "path": "owner/name"}
    text = planned(
        "lcd", **SMALL | {"data": data}, resolution=64, teacher=str(folders / "sd-plain")
    )
    assert "owner/name, counted when the run opens it; 1200 pictures are drawn" in text
    assert "as large as the data set turns out" in text and "measured now" in text
    with pytest.raises(TrainingFault, match=r"needs data\.path"):
        planned("ct", **PIXELS | {"data": {"kind": "huggingface"}})


def few(folder: Path) -> dict[str, Any]:
    """Two pictures in a folder."""
    for i in range(2):
        Image.new("RGB", (64, 64), (0, 80 * i, 40)).save(folder / f"{i}.png")
    return {"kind": "folder", "path": str(folder)}
