"""The list of models: a picture of each, and when it was last used."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from lcm_studio.images.png import write_png
from lcm_studio.spec.models import ModelInfo
from lcm_studio.web.server import model_list
from lcm_studio.web.server.gallery import Gallery
from lcm_studio.web.server.model_list import ModelList, ModelUse, preview_file


def info(path: Path) -> ModelInfo:
    return ModelInfo(
        id=path.name, path=str(path), kind="sd", width=64, height=64, multiple=8, guidance="cfg"
    )


def test_when_a_model_was_used_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(model_list.time, "time", lambda: clock[0])
    used = ModelUse(tmp_path / "deep" / "models.json")
    assert used.times() == {}
    used.note("a")
    clock[0] += 10
    used.note("b")
    used.note("a")  # a moment later: not written again
    assert used.times() == ModelUse(used.file).times() == {"a": 1000.0, "b": 1010.0}
    clock[0] += 100
    used.note("a")
    assert used.times()["a"] == 1110.0
    for damaged in ("[", "[1]", '{"a": "x", "b": 3, "c": true}'):
        used.file.write_text(damaged)
        assert used.times() in ({}, {"b": 3.0})
    (tmp_path / "file").write_text("")
    ModelUse(tmp_path / "file" / "models.json").note("a")  # cannot be written: no error


def test_only_so_many_models_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_list, "MOST", 2)
    used = ModelUse(tmp_path / "models.json")
    for name in "abc":
        used.note(name)
    assert set(used.times()) == {"b", "c"}


@pytest.mark.parametrize(
    ("model", "picture"),
    [
        ("sd", "sd.preview.png"),
        ("sd", "sd.jpg"),
        ("sd", "sd/preview.png"),
        ("one.safetensors", "one.preview.png"),
        ("one.safetensors", "one.png"),
        ("one.safetensors", "one.safetensors.preview.png"),
    ],
)
def test_the_picture_beside_a_model(tmp_path: Path, model: str, picture: str) -> None:
    path = tmp_path / model
    path.write_bytes(b"") if path.suffix else path.mkdir()
    assert preview_file(info(path)) is None
    (tmp_path / picture).write_bytes(b"x")
    assert preview_file(info(path)) == tmp_path / picture


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """The two routes for two models, and a folder of pictures."""
    (tmp_path / "sd").mkdir()
    models = (info(tmp_path / "sd"), info(tmp_path / "other"))
    studio: Any = SimpleNamespace(
        engine=SimpleNamespace(catalog=lambda: models),
        used=ModelUse(tmp_path / "models.json"),
        options=SimpleNamespace(users={}),
    )
    listed = ModelList(studio=studio, gallery=Gallery(tmp_path / "out"))
    yield TestClient(Starlette(routes=listed.routes()))


def row(client: TestClient, name: str = "sd") -> dict[str, Any]:
    return dict(client.get("/models").json()[name])


def test_the_newest_picture_of_a_model_stands_for_it(client: TestClient, tmp_path: Path) -> None:
    assert row(client) == {"used": None, "picture": None}
    for i, name in enumerate(("first", "last")):
        settings = {"model": str(tmp_path / "sd"), "prompt": "", "seed": 1}  # named by its path
        file = write_png(tmp_path / "out" / f"{name}.png", np.zeros((8, 8, 3), np.uint8), settings)
        os.utime(file, (1000 + i, 1000 + i))
    assert row(client)["picture"].startswith("gallery/thumb/last.png?v=")
    assert row(client)["used"] == 1001
    assert row(client, "other") == {"used": None, "picture": None}


def test_a_picture_beside_the_model_stands_for_it_until_it_was_used(
    client: TestClient, tmp_path: Path
) -> None:
    Image.new("RGB", (900, 600), (250, 0, 0)).save(tmp_path / "sd.preview.png")
    address = row(client)["picture"]
    shown = Image.open(io.BytesIO(client.get(f"/{address}").content))
    assert shown.size == (256, 171) and np.asarray(shown)[9, 9, 0] > 200
    (tmp_path / "sd.preview.png").write_bytes(b"no picture")
    assert client.get(f"/{address}").status_code == 404
    assert client.get("/model-preview", params={"id": "../sd"}).status_code == 404
