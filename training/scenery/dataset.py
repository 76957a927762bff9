"""Writes scenes to disk as an image folder or as WebDataset shards, or hands them over in memory."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from training.scenery.captions import caption
from training.scenery.render import render
from training.scenery.sampling import sample_scene
from training.scenery.scene import labels

TRAIN_SEEDS = range(10**7)
HELD_OUT_SEEDS = range(10**8, 2 * 10**8)
_CAPTION_STREAM = 0x5CE9E  # keeps a caption's draws apart from those of its scene


def caption_of(seed: int, edition: int = 1) -> str:
    """The caption that the data set pairs with a seed's scene: phrases dropped and shuffled."""
    rng = np.random.Generator(np.random.PCG64([_CAPTION_STREAM, seed]))
    return caption(sample_scene(seed, edition), rng)


def arrays(
    seeds: Iterable[int],
    size: int | tuple[int, int] = 128,
    supersample: int = 2,
    *,
    edition: int = 1,
) -> tuple[np.ndarray, list[str]]:
    """Scenes in memory: RGB uint8 (N, H, W, 3) and N captions."""
    cv2.setNumThreads(1)
    chosen = list(seeds)
    width, height = (size, size) if isinstance(size, int) else size
    images = np.empty((len(chosen), height, width, 3), np.uint8)
    for i, seed in enumerate(chosen):
        images[i] = render(sample_scene(seed, edition), size, supersample)
    return images, [caption_of(seed, edition) for seed in chosen]


def _png(image: np.ndarray) -> bytes:
    ok, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise OSError(f"OpenCV could not encode a picture of shape {image.shape} as PNG")
    return data.tobytes()


def _examples(
    seeds: Sequence[int], size: int | tuple[int, int], edition: int
) -> Iterator[tuple[int, bytes, str, dict[str, str]]]:
    for seed in seeds:
        scene = sample_scene(seed, edition)
        yield seed, _png(render(scene, size)), caption_of(seed, edition), labels(scene)


def write_folder(
    out: str | Path,
    count: int,
    seed: int = 0,
    size: int | tuple[int, int] = 128,
    *,
    edition: int = 1,
) -> Path:
    """Scenes seed .. seed + count - 1 as NAME.png with NAME.txt, and metadata.jsonl with labels.

    The folder reads as a plain image folder with side-car captions and as a Hugging Face
    `imagefolder` (file_name and text columns).
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as rows:
        for number, png, text, found in _examples(range(seed, seed + count), size, edition):
            name = f"{number:09d}"
            (folder / f"{name}.png").write_bytes(png)
            (folder / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
            row = {"file_name": f"{name}.png", "text": text, "seed": number, "labels": found}
            rows.write(json.dumps(row) + "\n")
    return folder


def write_shards(
    out: str | Path,
    pattern: str = "scenery-{:05d}.tar",
    *,
    count: int,
    seed: int = 0,
    size: int | tuple[int, int] = 128,
    per_shard: int = 1000,
    edition: int = 1,
) -> list[Path]:
    """Scenes as WebDataset tar shards (KEY.png, KEY.txt, KEY.json); equal calls, equal bytes."""
    if per_shard < 1:
        raise ValueError(f"per_shard={per_shard} leaves shards empty; use 1 or more")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, first in enumerate(range(seed, seed + count, per_shard)):
        path = folder / pattern.format(index)
        last = min(first + per_shard, seed + count)
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, png, text, found in _examples(range(first, last), size, edition):
                name = f"{number:09d}"
                _add(tar, f"{name}.png", png)
                _add(tar, f"{name}.txt", text.encode())
                about = {"seed": number, "labels": found}
                _add(tar, f"{name}.json", json.dumps(about).encode())
        paths.append(path)
    return paths


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)  # owner, mode and time keep TarInfo's fixed defaults
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def preview(
    seeds: Sequence[int], size: int = 128, columns: int = 8, *, edition: int = 1
) -> np.ndarray:
    """A contact sheet of scenes, RGB uint8; empty places are white."""
    images, _ = arrays(seeds, size, edition=edition)
    rows = -(-len(images) // columns)
    blank = np.full((rows * columns - len(images), size, size, 3), 255, np.uint8)
    grid = np.concatenate([images, blank]).reshape(rows, columns, size, size, 3)
    return grid.swapaxes(1, 2).reshape(rows * size, columns * size, 3)
