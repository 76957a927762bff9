"""The bundled data set as a source: rendered scenes, kept in one file so that later runs map it."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from training.data.source import CENTRE, Item, View

_CHUNK = 250
_PHRASE_STREAM = 0xCA97


def _render(job: tuple[int, int, int, int]) -> tuple[np.ndarray, list[list[str]]]:
    from training.scenery.captions import phrases
    from training.scenery.dataset import arrays
    from training.scenery.sampling import sample_scene

    first, count, size, edition = job
    seeds = range(first, first + count)
    images, _ = arrays(seeds, size, edition=edition)
    return images, [phrases(sample_scene(seed, edition)) for seed in seeds]


def _code_key() -> str:
    """Hash of the renderer's source: a changed renderer must not read an old cache."""
    folder = Path(__file__).resolve().parent.parent / "scenery"
    names = (
        "canvas", "captions", "details", "draws", "extras", "objects", "palettes", "render", "sampling", "scene",
    )  # fmt: skip
    digest = hashlib.sha256()
    for name in names:
        digest.update((folder / f"{name}.py").read_bytes())
    return digest.hexdigest()[:12]


class SceneSource:
    """Scenes first .. first + count - 1 of `training.scenery` at size x size pixels.

    Captions are re-drawn in every epoch (order of phrases, and which are left out) from
    (index, epoch) alone, so a resumed run sees what an uninterrupted one would have seen.
    """

    def __init__(
        self,
        *,
        first: int,
        count: int,
        size: int,
        cache: Path,
        edition: int = 1,
        drop: float = 0.1,
        workers: int = 2,
    ) -> None:
        if count < 1:
            raise ValueError(f"count={count} scenes is an empty data set; use 1 or more")
        self.key = f"scenes-{_code_key()}-{edition}-{first}-{count}-{size}"
        self.drop = drop
        folder = cache / self.key
        if not (folder / "phrases.json").exists():
            _write(folder, first, count, size, edition, workers)
        self._images = np.load(folder / "images.npy", mmap_mode="r")
        self._phrases: list[list[str]] = json.loads((folder / "phrases.json").read_text())

    def __len__(self) -> int:
        return len(self._phrases)

    def item(self, index: int, view: View = CENTRE) -> Item:
        """Scene `index` with its caption of epoch 0; scenes are square, so that a view is a flip."""
        image = np.asarray(self._images[index])
        return Item(
            image=image[:, ::-1] if view.flip else image,
            caption=self.caption(index, 0),
            label=self.label(index),
        )

    def label(self, index: int) -> int:
        """Time of day, in the order of `training.scenery.scene.TIMES`."""
        from training.scenery.scene import TIMES

        return next((TIMES.index(text) for text in self._phrases[index] if text in TIMES), 0)

    def caption(self, index: int, epoch: int) -> str:
        """Phrases of the scene in an order drawn from (index, epoch), each left out by chance."""
        every = self._phrases[index]
        rng = np.random.Generator(np.random.PCG64([_PHRASE_STREAM, index, epoch]))
        order = rng.permutation(len(every))
        kept = [
            every[i] for i, u in zip(order, rng.random(len(every)), strict=True) if u >= self.drop
        ]
        return ", ".join(kept or [every[order[0]]])


def _write(folder: Path, first: int, count: int, size: int, edition: int, workers: int) -> None:
    part = folder.with_name(folder.name + f".part{os.getpid()}")
    part.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(
        part / "images.npy", mode="w+", dtype=np.uint8, shape=(count, size, size, 3)
    )
    jobs = [
        (i, min(_CHUNK, first + count - i), size, edition)
        for i in range(first, first + count, _CHUNK)
    ]
    texts: list[list[str]] = []
    with ProcessPoolExecutor(workers) as pool:
        for job, (block, phrases) in zip(jobs, pool.map(_render, jobs), strict=True):
            images[job[0] - first : job[0] - first + job[1]] = block
            texts += phrases
    images.flush()
    (part / "phrases.json").write_text(json.dumps(texts))
    if folder.exists():  # another process was first
        return
    part.rename(folder)


@lru_cache(maxsize=4)
def held_out(count: int, size: int, edition: int = 1) -> tuple[np.ndarray, tuple[str, ...]]:
    """Scenes that no training run sees: (count, size, size, 3) uint8 and their captions."""
    from training.scenery.dataset import HELD_OUT_SEEDS, arrays

    images, captions = arrays(HELD_OUT_SEEDS[:count], size, edition=edition)
    return images, tuple(captions)
