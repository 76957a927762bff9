"""Validation pictures: the studio's sampling gives what the stock pipelines give, and the sheets are complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from training.loop import Trainer
from training.progress import sheets
from training.recipes import find

SMALL = {"steps": 2, "batch_size": 2, "log_every": 1, "device": "cpu", "ema_decay": 0.5}
PIXELS = {"resolution": 16, "channels": [16, 32], "norm_groups": 8, "head_width": 8, "levels": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    where = tmp_path_factory.mktemp("cache")
    return {"data": {"kind": "scenes", "count": 4, "cache": str(where)}}


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def stock(pipe: Any, prompts: list[str], steps: int, guidance: float) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    seeds = [torch.Generator("cpu").manual_seed(i) for i in range(len(prompts))]
    found = pipe(prompts, num_inference_steps=steps, guidance_scale=guidance, generator=seeds)
    return np.concatenate([np.asarray(image) for image in found.images], axis=1)


@pytest.mark.parametrize(("kind", "guidance"), [("lcm", 3.0), ("sd", 1.0), ("sd", 2.0)])
def test_a_sheet_is_what_the_stock_pipeline_draws(
    kind: str, guidance: float, tmp_path: Path
) -> None:
    pipe, prompts = tiny.pipeline(kind), ["sunset lake", "red house"]
    found = sheets.sheet(pipe, prompts, tmp_path / "x.png", steps=(1, 2), guidance=guidance)
    wanted = np.concatenate([stock(pipe, prompts, n, guidance) for n in (1, 2)])
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= 1
    assert np.array_equal(opened(tmp_path / "x.png"), found)


def test_a_sheet_of_pixels_has_a_column_for_each_seed(tmp_path: Path) -> None:
    found = sheets.pixel_sheet(tiny.pipeline("cm-class"), tmp_path / "x.png", steps=(1, 2), count=3)
    assert found.shape == (32, 48, 3)


def run(name: str, folder: Path, **fields: Any) -> Trainer:
    recipe = find(name)
    trainer = Trainer(recipe(recipe.Config(**fields), torch.device("cpu")), folder, quiet=True)
    trainer.prepare()
    assert trainer.run()
    return trainer


@pytest.mark.parametrize("name", ["lcd", "lcm-lora"])
def test_the_teacher_is_drawn_at_the_start_and_stands_above_every_sheet(
    name: str, tmp_path: Path, data: dict[str, Any]
) -> None:
    teacher = tiny.save("sd-plain", tmp_path / "teacher")
    fields = SMALL | data | {"teacher": str(teacher), "resolution": 64, "validate_every": 2}
    prompts = (
        ["sunset lake", "red house"] if name == "lcm-lora" else []
    )  # else captions of the data
    fields |= {"rank": 4, "validation_prompts": prompts} if prompts else {}
    trainer = run(name, tmp_path / "run", **fields)
    made: Any = trainer.recipe
    drawn = opened(tmp_path / "run" / "samples" / "teacher.png")
    guidance = 2.0 if name == "lcd" else 4.5  # no w is fed to a LoRA: the middle of [0, 7]
    wanted = stock(tiny.pipeline("sd-plain"), prompts or made.sheet_prompts(), 25, guidance)
    assert drawn.shape == wanted.shape
    assert np.abs(drawn.astype(int) - wanted).max() <= 1
    sheet = opened(tmp_path / "run" / "samples" / "step-000002.png")
    rows = 1 + 3 + 3  # teacher, averaged weights and live ones at 1, 2 and 4 steps
    assert sheet.shape == (rows * 64 + 3 * sheets._LABEL, (len(prompts) or 4) * 64, 3)
    assert np.array_equal(sheet[sheets._LABEL :][:64], drawn)
    assert {path.name for path in (tmp_path / "run" / "samples").iterdir()} == {
        "teacher.png",
        "step-000002.png",
    }


def test_pixel_recipes_draw_their_teacher(tmp_path: Path, data: dict[str, Any]) -> None:
    trainer = run("edm", tmp_path / "edm", **SMALL, **data, **PIXELS)
    trainer.export()
    fields = SMALL | data | PIXELS | {"teacher": str(tmp_path / "edm" / "output")}
    run("cd", tmp_path / "cd", **fields, validate_every=2)
    assert opened(tmp_path / "cd" / "samples" / "teacher.png").shape == (16, 8 * 16, 3)
    sheet = opened(tmp_path / "cd" / "samples" / "step-000002.png")
    assert sheet.shape == ((1 + 2 + 2) * 16 + 3 * sheets._LABEL, 8 * 16, 3)


def test_pictures_do_not_change_what_is_learned(tmp_path: Path, data: dict[str, Any]) -> None:
    teacher = tiny.save("sd-plain", tmp_path / "teacher")
    fields = SMALL | data | {"teacher": str(teacher), "resolution": 64}
    plain = run("lcd", tmp_path / "plain", **fields)
    drawn = run("lcd", tmp_path / "drawn", **fields, validate_every=1)
    assert all(
        torch.equal(p, q)
        for p, q in zip(plain.state.parameters, drawn.state.parameters, strict=True)
    )
