"""Files that requests, folders and shards name: pipes are refused at once, and so are networks that nobody can build."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lcm_studio.data.doctor import examine
from lcm_studio.data.shards import index_shards
from lcm_studio.images import png_bytes
from lcm_studio.models.catalog import read_info, scan
from lcm_studio.models.files import MAX_HEADER, read_header
from lcm_studio.spec.errors import ModelError, StudioError
from lcm_studio.spec.regular import NotRegular, open_regular, read_regular


def at_once(work: Callable[[], Any]) -> Any:
    """`work`'s result or error; a test that hangs fails here, and does not hold up the others."""
    out: list[Any] = []

    def run() -> None:
        try:
            out.append(work())
        except Exception as error:  # noqa: BLE001
            out.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert out, "it waits for the other end of a pipe"
    return out[0]


def pipe(path: Path) -> Path:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    (tmp_path / "link").symlink_to(path)
    assert read_regular(path, 3) == b"abc" == read_regular(tmp_path / "link", 9)
    with pytest.raises(OSError, match="large"):
        read_regular(path, 2)
    for odd in (pipe(tmp_path / "pipe"), Path("/dev/zero"), tmp_path):
        error = at_once(lambda odd=odd: open_regular(odd))
        assert isinstance(error, NotRegular | IsADirectoryError), odd


def test_a_pipe_as_lora(tmp_path: Path) -> None:
    error = at_once(lambda: read_header(pipe(tmp_path / "a.safetensors")))
    assert isinstance(error, ModelError) and "regular" in str(error)


def test_a_header_of_many_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write((MAX_HEADER + 1).to_bytes(8, "little"))
        file.truncate(MAX_HEADER + 100)
    with pytest.raises(ModelError, match="whole safetensors"):
        read_header(path)


@pytest.fixture
def model(tiny_models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_models / "lcm", tmp_path / "models" / "lcm"))


@pytest.mark.parametrize(
    "name", ["unet/config.json", "scheduler/scheduler_config.json", "vocabulary.json"]
)
def test_a_pipe_as_config(name: str, model: Path) -> None:
    pipe(model / name)
    at_once(lambda: scan((model.parent,)))
    error = at_once(lambda: read_info(model))
    assert isinstance(error, StudioError) or name == "vocabulary.json"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layers_per_block", 10_000_000),
        ("layers_per_block", [2, 10_000_000]),
        ("transformer_layers_per_block", [[10**9]]),
        ("block_out_channels", [10**9] * 2),
        ("block_out_channels", [8] * 100_000),
        ("attention_head_dim", 1e308),
        ("in_channels", -4),
    ],
)
def test_networks_that_nobody_can_build(field: str, value: Any, model: Path) -> None:
    path = model / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    error = at_once(lambda: read_info(model))
    if field != "attention_head_dim":
        assert isinstance(error, ModelError) and field in str(error)


def test_a_pipe_as_picture_caption_or_shard(tmp_path: Path) -> None:
    import numpy as np

    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(png_bytes(np.zeros((64, 64, 3), np.uint8)))
    pipe(folder / "a.txt")
    pipe(folder / "b.png")
    report = at_once(lambda: examine(str(folder), size=32))
    assert not isinstance(report, Exception), report
    shard = at_once(lambda: index_shards(str(pipe(tmp_path / "a.tar"))))
    assert isinstance(shard, StudioError)
