"""LoRA files that are uploaded: one gate for all of them, and names that lead nowhere else."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.requests import EmbeddingSpec, LoraSpec
from lcm_studio.web.server.loras import LoraStore
from tests.web.create.test_values import GOOD


def safetensors(*names: str) -> bytes:
    """A file of 2 x 2 float32 tensors."""
    data = np.ones((2, 2), np.float32).tobytes()
    head = {
        name: {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * i, 16 * i + 16]}
        for i, name in enumerate(names)
    }
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + data * len(names)


LORA = safetensors("unet.to_q.lora_A.weight", "unet.to_q.lora_B.weight")


def send(client: Any, name: str, data: bytes) -> Any:
    return client.post("/studio/lora", params={"name": name}, content=data)


def live(client: Any, form: dict[str, Any]) -> list[dict[str, Any]]:
    """The stage values of one live picture."""
    answer = client.post("/studio/live", json={"form": form, "refine": False})
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_lora_file_gets_a_name_that_the_form_can_use(client: Any, toy: Any) -> None:
    said = send(client, "My style.safetensors", LORA).json()
    assert said["title"] == "My-style.safetensors" and said["layers"] == 1
    assert said["name"].startswith("uploaded/") and "/tmp" not in said["name"]
    assert send(client, "My style.safetensors", LORA).json()["name"] == said["name"]
    form = {**GOOD, "lora0": said["name"], "weight0": 0.5, "live": True}
    (view,) = live(client, form)
    assert view["phase"] == "live" and view["message"] is None
    (lora,) = toy.requests[-1].loras
    assert Path(lora.path).read_bytes() == LORA and lora.weight == 0.5


def test_a_lora_says_what_it_was_trained_with(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    parts = {f"unet.to_q.lora_{end}.weight": np.ones((2, 2), np.float32) for end in "AB"}
    save_file(parts, tmp_path / "a.safetensors", metadata={"ss_trigger_words": "my cat, fur"})
    store = LoraStore(tmp_path / "loras", limit=99, free_paths=True)
    files = [tmp_path / "a.safetensors", tmp_path / "gone.safetensors", tmp_path]
    assert store.triggers(tuple(LoraSpec(path=str(path)) for path in files)) == ("my cat", "fur")
    # a file of the studio's machine is not looked into for anybody
    stranger = LoraStore(tmp_path / "loras", limit=99, free_paths=False)
    assert stranger.triggers((LoraSpec(path=str(files[0])),)) == ()


def test_a_textual_inversion_comes_in_by_the_same_gate(client: Any, toy: Any) -> None:
    said = send(client, "Old ink.safetensors", safetensors("emb_params")).json()
    assert said["word"] == "Old-ink" and said["vectors"] == 2 and "layers" not in said
    lines = f"mine = {said['name']}\nBad-Hands"
    views = live(client, {**GOOD, "prompt": "mine, sea", "model": "some-sd", "embeddings": lines})
    assert views[-1]["phase"] == "live"
    assert "bad-hands.safetensors is not used" in views[-1]["message"]["text"]
    uploaded, named = toy.requests[-1].embeddings
    assert Path(uploaded.path).read_bytes() == safetensors("emb_params")
    assert (uploaded.word, named.path, named.word) == ("mine", "Bad-Hands", "")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.ckpt", pickle.dumps({"a": 1}), "pickled weights"),
        ("a.pt", LORA, "pickled weights"),
        ("a.safetensors", pickle.dumps({"lora_A": 1}), "not a whole safetensors file"),
        ("a.safetensors", LORA[:-3], "not a whole safetensors file"),
        ("a.safetensors", b"", "not a whole safetensors file"),
        ("a.safetensors", safetensors("conv_in.weight"), "no LoRA"),
        ("a.txt", LORA, "choose a .safetensors file"),
        ("", LORA, "choose a .safetensors file"),
    ],
)
def test_everything_else_is_refused_in_one_sentence(
    client: Any, name: str, data: bytes, words: str
) -> None:
    answer = send(client, name, data)
    assert answer.status_code == 422 and words in answer.json()["detail"]
    assert "part-" not in answer.json()["detail"]


@pytest.mark.parametrize(
    "name", ["../../x.safetensors", "a\\..\\x.safetensors", "/etc/x.safetensors"]
)
def test_names_lead_nowhere_else(client: Any, name: str) -> None:
    assert send(client, name, LORA).json()["title"] == "x.safetensors"


async def chunks(size: int) -> Any:
    for _ in range(size):
        yield b"x" * 1024


async def refused(store: LoraStore) -> str:
    from lcm_studio.spec.errors import ModelError

    with pytest.raises(ModelError) as caught:
        await store.receive("big.safetensors", chunks(3000))
    return str(caught.value)


def test_a_file_above_the_limit_leaves_nothing_behind(tmp_path: Path) -> None:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    store = LoraStore(tmp_path, limit=2 * 2**20, free_paths=True)
    with ThreadPoolExecutor(1) as pool:  # a loop of its own: Playwright's may be running here
        text = pool.submit(asyncio.run, refused(store)).result()
    assert "larger than 2 MB" in text and "path" in text
    assert list(tmp_path.iterdir()) == []


def test_paths_are_for_known_users_only(tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(LORA)
    given = (LoraSpec(path=str(mine)),)
    known = LoraStore(tmp_path / "loras", limit=99, free_paths=True)
    assert known.resolve(given) == given
    anyone = LoraStore(tmp_path / "loras", limit=99, free_paths=False)
    for path in (str(mine), "uploaded/../mine.safetensors", "uploaded/0/gone.safetensors"):
        with pytest.raises(BadRequest, match="upload"):
            anyone.resolve((LoraSpec(path=path),))
    words = (EmbeddingSpec(path="Bad-Hands"),)  # of the studio's folder, for everybody
    assert anyone.resolve_embeddings(words) == words
    with pytest.raises(BadRequest, match="upload"):
        anyone.resolve_embeddings((EmbeddingSpec(path=str(mine)),))
    file = tmp_path / "loras" / "k" / "a.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(LORA)
    (found,) = anyone.resolve((LoraSpec(path="uploaded/k/a.safetensors"),))
    assert found.path == str(file) and anyone.shown(found.path) == "uploaded/k/a.safetensors"
