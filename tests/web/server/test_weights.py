"""Whole checkpoints that are handed over: told from their first bytes, kept whole or not at all, and then in the list."""

from __future__ import annotations

import asyncio
import shutil
import struct
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lcm_studio.engine import Engine, EngineConfig
from lcm_studio.spec.errors import ModelError
from lcm_studio.web.server import weights
from lcm_studio.web.server.weights import ModelStore
from tests import tiny
from tests.models.test_single import checkpoint

LIMIT = 64 * 2**20


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint("sd", tmp_path_factory.mktemp("files") / "mine.safetensors")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelStore]:
    monkeypatch.setattr(weights, "SPARE", 0)
    tiny.save("sd", tmp_path / "sd")
    with Engine(EngineConfig(models_dirs=(tmp_path,), device="cpu")) as engine:
        yield ModelStore(engine, tmp_path, limit=LIMIT, allowed=True)


def head(data: bytes) -> bytes:
    return data[: 8 + struct.unpack("<Q", data[:8])[0]]


def tell(store: ModelStore, name: str, data: bytes) -> dict[str, Any]:
    return store.tell(name, len(data), head(data))


def receive(store: ModelStore, name: str, data: bytes, size: int | None = None) -> dict[str, Any]:
    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 65536):
            yield data[start : start + 65536]

    coming = store.receive(name, len(data) if size is None else size, body())
    with ThreadPoolExecutor(1) as pool:  # a browser test before has a loop in this thread
        return pool.submit(asyncio.run, coming).result()


def saved(path: Path, **tensors: torch.Tensor) -> bytes:
    save_file({name.replace("__", "."): value for name, value in tensors.items()}, path)
    data = path.read_bytes()
    path.unlink()
    return data


def here(store: ModelStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def test_what_a_file_is_shows_before_its_weights_travel(
    store: ModelStore, file: Path, tmp_path: Path
) -> None:
    two = torch.ones(2, 2)
    lora = saved(tmp_path / "a", a__lora_up__weight=two, a__lora_down__weight=two + 1)
    assert tell(store, "a.safetensors", lora)["kind"] == "lora"
    assert tell(store, "b.safetensors", saved(tmp_path / "b", emb_params=two))["kind"] == "inversion"  # fmt: skip
    said = tell(store, "My model.safetensors", file.read_bytes())
    assert said == {"kind": "model", "title": "My-model.safetensors", "bytes": file.stat().st_size}
    assert here(store) == ["sd"]


def test_a_checkpoint_is_taken_in_whole_and_is_in_the_list(store: ModelStore, file: Path) -> None:
    data = file.read_bytes()
    assert receive(store, "mine.safetensors", data)["name"] == "mine.safetensors"
    assert (store.folder / "mine.safetensors").read_bytes() == data
    assert [info.id for info in store.engine.catalog()] == ["sd", "mine.safetensors"]
    # the same again stays one file; another of its name gets its own
    assert receive(store, "mine.safetensors", data)["name"] == "mine.safetensors"
    other = data[:-1] + bytes([data[-1] ^ 1])
    assert receive(store, "mine.safetensors", other)["name"] == "mine-2.safetensors"
    assert here(store) == ["mine-2.safetensors", "mine.safetensors", "sd"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 3 * 2**20}, "came only in part"),
        ({"size": 2000}, "larger than was said"),
        ({"size": LIMIT + 1}, "at most 0.1 GB are taken over the page"),
        ({"data": b"x" * 5000}, "not a whole safetensors"),
        ({"name": "x.ckpt"}, "pickled weights"),
    ],
)
def test_what_does_not_come_whole_leaves_nothing(
    store: ModelStore, file: Path, change: dict[str, Any], said: str
) -> None:
    given = {"name": "x.safetensors", "data": file.read_bytes(), **change}
    with pytest.raises(ModelError, match=said):
        receive(store, **given)
    assert here(store) == ["sd"]


def test_what_is_not_taken_says_why_before_its_weights_travel(
    store: ModelStore, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = file.read_bytes()
    with pytest.raises(ModelError, match="cut short"):
        store.tell("x.safetensors", len(data) - 4, head(data))
    with pytest.raises(ModelError, match="is a ControlNet, no LoRA"):
        tell(store, "x.safetensors", saved(tmp_path / "c", controlnet_x__weight=torch.ones(1)))
    closed = ModelStore(store.engine, store.folder, limit=LIMIT, allowed=False)
    with pytest.raises(ModelError, match="put into the studio's folder by who runs it"):
        tell(closed, "x.safetensors", data)
    small = ModelStore(store.engine, store.folder, limit=1000, allowed=True)
    with pytest.raises(ModelError, match="--models-dir"):
        tell(small, "x.safetensors", data)
    monkeypatch.setattr(weights, "SPARE", 2**60)
    with pytest.raises(ModelError, match="are free on the studio's disk"):
        tell(store, "x.safetensors", data)
    shutil.rmtree(store.folder / "sd")  # nothing is there whose configs fit
    with pytest.raises(ModelError, match=r"x\.safetensors needs the configs of its family"):
        tell(store, "x.safetensors", data)
    assert here(store) == []


@pytest.mark.parametrize("path", ["/studio/weights", "/studio/model"])
def test_the_routes_answer_in_one_sentence(client: Any, path: str) -> None:
    answer = client.post(path, params={"name": "x.safetensors"}, content=b"x")
    assert answer.status_code == 422 and "size" in answer.json()["detail"]
    answer = client.post(path, params={"name": "x.bin", "size": "4"}, content=b"xxxx")
    assert answer.status_code == 422 and "pickled" in answer.json()["detail"]
    answer = client.post(path, params={"name": "x.safetensors", "size": "-4"}, content=b"xxxx")
    assert answer.status_code == 422
