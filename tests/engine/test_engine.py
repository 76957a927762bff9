"""The engine's contract, on tiny models."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.spec.errors import BadRequest, ModelError
from lcm_studio.spec.events import Done, Failed, Loading, Step
from lcm_studio.spec.requests import Generate
from lcm_studio.spec.settings import from_settings


@pytest.fixture(scope="module")
def engine(tiny_models: Path) -> Iterator[Engine]:
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu", keep=3)) as engine:
        yield engine


def last(engine: Engine, **settings: Any) -> Any:
    return list(engine.run(Generate(**{"prompt": "sunset", "model": "lcm", **settings})))[-1]


def test_events_in_order_and_settings_that_repeat(engine: Engine) -> None:
    request = Generate(prompt="sunset", model="lcm-v", steps=3, seed=5, count=2, previews=True)
    events = list(engine.run(request))
    kinds = [type(e) for e in events]
    assert kinds == [Loading, Step, Step, Step, Done]
    done = events[-1]
    assert isinstance(done, Done)
    assert done.seeds == (5, 6)
    assert json.loads(json.dumps(done.settings))["guidance"] == 8.0
    again = list(engine.run(from_settings(done.settings)))[-1]
    assert isinstance(again, Done)
    assert np.array_equal(again.images[1], done.images[1])
    assert engine.state().status == "ready"
    assert "lcm-v" in engine.state().loaded


def test_mixed_requests_at_once_are_what_they_are_alone(engine: Engine) -> None:
    requests = [
        {"prompt": "sunset", "seed": 1, "steps": 4, "guidance": 8.0},
        {"prompt": "night sea", "seed": 2, "steps": 2, "guidance": 3.0},
        {"prompt": "red house, tree", "seed": 3, "steps": 1},
        {"prompt": "", "seed": 4, "steps": 8, "count": 3},
        {"model": "sd", "prompt": "lake", "negative": "night", "seed": 5, "steps": 4},
        {"model": "sd", "prompt": "lake", "guidance": 1.0, "seed": 6, "steps": 4},
        {"prompt": "sunset", "seed": 7, "steps": 4, "width": 80},
        {"model": "cm-class", "class_label": 3, "seed": 8, "steps": 2},
    ]
    alone = [last(engine, **r).images for r in requests]
    with ThreadPoolExecutor(8) as pool:
        together = [f.images for f in pool.map(lambda r: last(engine, **r), requests)]
    for a, b in zip(alone, together, strict=True):
        for x, y in zip(a, b, strict=True):
            assert np.abs(x.astype(int) - y.astype(int)).max() <= 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 99},
        {"model": "nope"},
        {"guidance": float("nan")},
        {"decoder": "nope"},
        {"width": 100},
        {"model": "cm", "decoder": "sd/vae"},
    ],
)
def test_mistakes_are_events_and_the_engine_goes_on(engine: Engine, wrong: dict[str, Any]) -> None:
    failed = last(engine, **wrong)
    assert isinstance(failed, Failed)
    assert "report this" not in failed.message
    assert "\n" not in failed.message
    assert isinstance(last(engine), Done)


def test_validate_raises_and_warns(engine: Engine) -> None:
    with pytest.raises(BadRequest):
        engine.validate(Generate(model="lcm", count=99))
    assert engine.validate(Generate(prompt="zebra", model="lcm")) == ("lcm does not know: zebra",)


def test_a_long_prompt_is_heard_to_its_end(engine: Engine) -> None:
    long = ", ".join(["sunset lake"] * 20)
    done, other = (last(engine, prompt=f"{long}, {end}", steps=1) for end in ("sea", "night"))
    assert not any("cut off" in w for w in done.warnings)
    assert not np.array_equal(done.images[0], other.images[0])


def test_a_broken_model_leaves_the_old_one(
    engine: Engine, tiny_models: Path, tmp_path: Path
) -> None:
    engine.load("lcm")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_models / "lcm", broken)
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cut short"):
        engine.load(str(broken))
    swapped = tmp_path / "swapped"
    shutil.copytree(tiny_models / "lcm", swapped)
    shutil.copy(
        tiny_models / "sdxl" / "unet" / "diffusion_pytorch_model.safetensors",
        swapped / "unet" / "diffusion_pytorch_model.safetensors",
    )
    with pytest.raises(ModelError, match="copy the folder again"):
        engine.load(str(swapped))
    assert engine.state().status == "failed"
    assert isinstance(last(engine), Done)


def test_a_decoder_swapped_in(engine: Engine, tiny_models: Path, tmp_path: Path) -> None:
    from tests import tiny

    tiny.vae(tiny=True).save_pretrained(tmp_path / "taesd")
    plain = last(engine, seed=3).images[0]
    other = last(engine, seed=3, decoder=str(tmp_path / "taesd")).images[0]
    assert other.shape == plain.shape
    assert not np.array_equal(other, plain)
    assert np.array_equal(last(engine, seed=3).images[0], plain)
    tiny.vae(5, tiny=True).save_pretrained(tmp_path / "wide")
    failed = last(engine, decoder=str(tmp_path / "wide"))
    assert isinstance(failed, Failed)
    assert "latent channels" in failed.message


def test_only_as_many_models_as_asked_stay(tiny_models: Path) -> None:
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu", keep=1)) as engine:
        for name in ("lcm", "sd", "cm"):
            engine.load(name)
        assert engine.state().loaded == ("cm",)


def test_loading_at_once_happens_once(tiny_models: Path) -> None:
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu")) as engine:
        lanes = []
        threads = [
            threading.Thread(target=lambda: lanes.append(engine.lane("cm"))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(lane) for lane in lanes}) == 1


def test_a_forgotten_engine_ends_its_threads_before_the_interpreter(tiny_models: Path) -> None:
    code = (
        "import atexit, sys, threading;"
        "lanes = lambda: [t for t in threading.enumerate() if t.name.startswith('lane-')];"
        "atexit.register(lambda: print('left', len(lanes())));"
        "from lcm_studio.engine import Engine, EngineConfig;"
        "engine = Engine(EngineConfig(models_dirs=(sys.argv[1],), device='cpu'));"
        "engine.load('cm'); print('running', len(lanes()))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tiny_models)], check=True, capture_output=True, text=True
    ).stdout
    assert out.split("\n")[:2] == ["running 1", "left 0"]


def test_offline_hub_ids_say_what_to_do(engine: Engine) -> None:
    failed = last(engine, model="some-owner/some-model")
    assert isinstance(failed, Failed)
    assert "--online" in failed.message
