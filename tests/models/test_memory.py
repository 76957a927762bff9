"""Weights larger than memory give the same picture; quantised ones take less room and give nearly the same."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from lcm_studio import device
from lcm_studio.device import Placement
from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.models.backends.memory import check_room
from lcm_studio.spec.errors import ModelError
from lcm_studio.spec.events import Done, Failed
from lcm_studio.spec.requests import Generate


def ended(folder: Path, name: str, backend: str = "torch") -> Done | Failed:
    config = EngineConfig(models_dirs=(folder,), device="cpu", backend=backend, once=True)
    with Engine(config) as engine:
        end = list(engine.run(Generate(prompt="sunset", model=name, seed=3, steps=2)))[-1]
    assert isinstance(end, Done | Failed)
    return end


def test_what_does_not_fit_is_brought_in_piece_by_piece(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = ended(tiny_models, "lcm")
    assert isinstance(wanted, Done)
    assert not [r for r in caplog.records if "piece by piece" in r.message]
    monkeypatch.setattr(device, "free_bytes", lambda _: 600_000)
    found = ended(tiny_models, "lcm", "openvino")  # a network in pieces stays with torch
    assert isinstance(found, Done), found
    assert np.array_equal(found.images[0], wanted.images[0])
    lines = [r for r in caplog.records if r.levelno >= logging.WARNING and "piece" in r.message]
    assert lines


def test_a_file_that_does_not_fit_says_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    gigabyte = 2**30
    free = {"cpu": 3 * gigabyte, "cuda:0": gigabyte}
    monkeypatch.setattr(device, "free_bytes", free.__getitem__)
    cpu = Placement(device="cpu", dtype="fp32", backend="openvino")
    check_room(gigabyte // 2, cpu, "small.safetensors")
    with pytest.raises(ModelError) as caught:
        check_room(gigabyte, cpu, "large.safetensors")
    assert str(caught.value) == (
        "large.safetensors needs 4.0 GB, and 3.0 GB are free on cpu; use half of it with --dtype bf16 --backend torch, "
        "take its diffusers folder, which is brought in piece by piece, or take a smaller model"
    )
    card = Placement(device="cuda:0", dtype="fp16")
    with pytest.raises(ModelError, match="run it by --device cpu") as caught:
        check_room(gigabyte, card, "large.safetensors")
    assert "bf16" not in str(caught.value)
    with pytest.raises(ModelError, match="on cpu; take its diffusers folder"):
        check_room(10 * gigabyte, cpu, "huge.safetensors")


def test_a_quantised_network(bundled: Path, tmp_path: Path) -> None:
    pytest.importorskip("sdnq", reason="the optional quantiser is not installed")
    shutil.copytree(bundled / "scenery-lcm", tmp_path / "small")
    shutil.copytree(bundled / "scenery-lcm", tmp_path / "plain")
    settings = json.loads((tmp_path / "small" / "studio.json").read_text())
    (tmp_path / "small" / "studio.json").write_text(json.dumps({**settings, "quantize": "int8"}))
    small, plain = ended(tmp_path, "small", "openvino"), ended(tmp_path, "plain")
    assert isinstance(small, Done) and isinstance(plain, Done)
    gap = np.abs(small.images[0].astype(int) - plain.images[0].astype(int))
    assert 0 < gap.mean() < 12


@pytest.mark.parametrize(("numbers", "words"), [("int3.5", "use one of"), ("int8", "pip install")])
def test_a_quantiser_that_is_not_there_is_one_sentence(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: str, words: str
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sdnq", None)
    shutil.copytree(tiny_models / "lcm", tmp_path / "lcm")
    (tmp_path / "lcm" / "studio.json").write_text(json.dumps({"quantize": numbers}))
    failed = ended(tmp_path, "lcm")
    assert isinstance(failed, Failed)
    assert words in failed.message and "report this" not in failed.message
