"""Tiny decoders: previews take one wherever there is one, final pictures where `fast` is asked for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.spec.events import Done, Failed, Step
from lcm_studio.spec.requests import Generate
from tests import tiny


def ended(engine: Engine, **settings: Any) -> Any:
    return list(engine.run(Generate(prompt="sunset", seed=3, steps=2, **settings)))


@pytest.mark.parametrize("place", ["own", "shared"])
def test_previews_and_the_fast_choice(tiny_models: Path, tmp_path: Path, place: str) -> None:
    shutil.copytree(tiny_models / "lcm", tmp_path / "lcm")
    folder = tmp_path / "lcm" / "vae_tiny" if place == "own" else tmp_path / "taesd"
    tiny.vae(tiny=True).save_pretrained(folder)
    with Engine(EngineConfig(models_dirs=(tmp_path,), device="cpu")) as engine:
        assert engine.decoders()[:2] == ("default", "fast")
        model: Any = engine.model("lcm")
        used: list[tuple[str, int]] = []
        decode = model.codec.decode
        model.codec.decode = lambda z: used.append((model.codec._current, len(z))) or decode(z)
        plain = ended(engine, model="lcm", previews=True)
        assert [type(e) for e in plain] == [Step, Step, Done]
        assert used == [("fast", 1), ("default", 1)]
        fast = ended(engine, model="lcm", decoder="fast")[-1]
        assert not np.array_equal(fast.images[0], plain[-1].images[0])
        assert fast.settings["decoder"] == "fast"
        assert np.array_equal(ended(engine, model="lcm")[-1].images[0], plain[-1].images[0])


@pytest.mark.parametrize("fault", ["missing", "broken", "other latents"])
def test_without_one_the_models_own_decodes(tiny_models: Path, tmp_path: Path, fault: str) -> None:
    shutil.copytree(tiny_models / "lcm", tmp_path / "lcm")
    if fault != "missing":
        folder = tmp_path / "lcm" / "vae_tiny"
        tiny.vae(5 if fault == "other latents" else 4, tiny=True).save_pretrained(folder)
        if fault == "broken":
            weights = folder / "diffusion_pytorch_model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-50])
    with Engine(EngineConfig(models_dirs=(tmp_path,), device="cpu")) as engine:
        assert [type(e) for e in ended(engine, model="lcm", previews=True)][-1] is Done
        assert engine.model("lcm").preview_decoder == "default"
        failed = ended(engine, model="lcm", decoder="fast")[-1]
        assert isinstance(failed, Failed)
        assert "report this" not in failed.message
