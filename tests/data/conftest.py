"""Small picture folders and shards, made on the spot."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def picture(seed: int, width: int = 40, height: int = 40) -> Image.Image:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 255, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


def png(seed: int, width: int = 40, height: int = 40) -> bytes:
    out = io.BytesIO()
    picture(seed, width, height).save(out, "PNG")
    return out.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """count pictures `000.png` with `000.txt`."""

    def make(count: int = 6, name: str = "pictures", captions: bool = True) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for i in range(count):
            (folder / f"{i:03d}.png").write_bytes(png(i))
            if captions:
                (folder / f"{i:03d}.txt").write_text(f"caption {i}\n")
        return folder

    return make
