"""Guidance from a level on: as stock pipelines do it whose guidance is switched on after a step, and for every sampler."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcm_studio import Studio
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.engine.session import session
from lcm_studio.models.catalog import read_info
from lcm_studio.models.load import LoadedModel
from lcm_studio.sampling import drive
from lcm_studio.spec.errors import BadRequest, ModelError
from lcm_studio.spec.requests import Generate
from tests import tiny
from tests.models.test_kinds import STOCK
from tests.models.test_parity import BOUND, PROMPT, load, ours

__all__ = ["load"]
ONE = 1 + 1e-7  # a scale at which stock pipelines still make both evaluations


def on_after(unguided: int, scale: float) -> Any:
    """diffusers' callback that gives guidance after so many steps."""

    def callback(pipe: Any, step: int, t: Any, given: dict[str, Any]) -> dict[str, Any]:
        if step + 1 == unguided:
            pipe._guidance_scale = scale
        return given

    return callback


@pytest.mark.parametrize("unguided", [1, 3])
def test_as_stock(load: Any, unguided: int) -> None:
    pipe = tiny.pipeline("sd-15")
    pipe.set_progress_bar_config(disable=True)
    before = pipe.scheduler
    pipe.scheduler = STOCK["plain"][0](before.config)
    wanted = pipe(
        PROMPT, num_inference_steps=5, guidance_scale=ONE, negative_prompt="night sea",
        generator=torch.Generator("cpu").manual_seed(5), output_type="np",
        callback_on_step_end=on_after(unguided, 20.0),
    ).images  # fmt: skip
    pipe.scheduler = before
    said = {"prompt": PROMPT, "negative": "night sea", "steps": 5, "seed": 5, "guidance": 20.0}
    model = load("sd-15")
    levels = model.grid(5)
    start = 1 - (levels[unguided - 1] + levels[unguided]) / 2000  # between two levels
    found = ours(model, guidance_start=start, **said)
    assert np.abs(found - wanted).max() <= BOUND
    assert np.abs(found - ours(model, **said)).max() > BOUND
    assert np.array_equal(ours(model, guidance_start=0.0, **said), ours(model, **said))


def calls(model: LoadedModel, **settings: Any) -> list[tuple[float, bool]]:
    """(level, guided) of each row of each call of the network."""
    found: list[tuple[float, bool]] = []

    class Watching:
        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def predict(self, x_t: Any, t: Any, cond: Any) -> Any:
            found.extend((level, bool(cond.group[0])) for level in t.tolist())
            assert len(x_t) == len(t) == cond.batch
            return model.predict(x_t, t, cond)

    request = Generate(prompt=PROMPT, guidance=5.0, width=64, height=64, **settings)
    with torch.inference_mode():
        drive(session(request, model, tuple(range(request.count)), 4), Watching())
    return found


@pytest.mark.parametrize(
    "sampler", ["auto", "ddim", "ancestral", "pc", "ode-heun", "dpmpp", "rk45"]
)
def test_every_sampler_is_guided_below_the_level_alone(load: Any, sampler: str) -> None:
    found = calls(load("sd-15"), sampler=sampler, steps=14, count=2, guidance_start=0.3)
    assert {guided for _, guided in found} == {True, False}
    assert all(guided == (level < 700) for level, guided in found)


def test_with_guided_steps_it_is_an_interval(load: Any) -> None:
    found = calls(load("sd-15"), steps=5, guidance_start=0.45, guided_steps=4)
    assert [guided for _, guided in found] == [False, False, True, True, False]


def folder(where: Path, source: Path, said: dict[str, Any]) -> Path:
    shutil.copytree(source, where)
    (where / "studio.json").write_text(json.dumps({"guidance": said}))
    return where


def test_a_folder_names_its_own(tiny_models: Path, tmp_path: Path) -> None:
    folder(tmp_path / "m", tiny_models / "sd-15", {"start": 0.3})
    shutil.copytree(tiny_models / "sd-15", tmp_path / "stock")
    studio = Studio(models_dirs=(tmp_path,), device="cpu")

    def made(model: str, **more: Any) -> Any:
        said = {"steps": 3, "seed": 3, "guidance": 9.0, "width": 64, "height": 64}
        return studio.generate("a sea", model=model, **said, **more)[0]

    assert np.array_equal(made("m").pixels, made("stock", guidance_start=0.3).pixels)
    assert np.array_equal(made("m", guidance_start=0.0).pixels, made("stock").pixels)
    assert made("m").settings["guidance_start"] == 0.3  # a picture says what it was made with
    assert "guidance_start" not in made("stock").settings
    # it was measured of the model's own kind, and of no other
    assert "guidance_start" not in made("m", kind="lcm-lora").settings


@pytest.mark.parametrize("start", [-0.1, 1.0, "x"])
def test_a_folder_with_another_value_is_refused(
    start: Any, tiny_models: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"studio\.json.*start|studio\.json.*float"):
        read_info(folder(tmp_path / "m", tiny_models / "sd-15", {"start": start}))


def test_what_has_no_such_guidance_says_so(tiny_models: Path) -> None:
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu")) as engine:
        asked: Sequence[Any] = engine.validate(Generate(model="lcm", guidance_start=0.2))
        assert any("guidance_start=0.2 is ignored" in words for words in asked)
        assert engine.validate(Generate(model="sd-15", guidance_start=0.2)) == ()
        with pytest.raises(BadRequest, match=r"use 0 to 0\.9"):
            engine.validate(Generate(model="sd-15", guidance_start=0.95))
