"""The bundled data set as a source: rendered scenes, kept in one file so that later runs map it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np

from training.config import TrainConfig
from training.data.source import CENTRE, Item, View
from training.data.views import Views

_CHUNK = 250
_PART = 125  # scenes of one task where blocks are rendered ahead
_PHRASE_STREAM = 0xCA97


@dataclass(frozen=True, kw_only=True)
class _Scenes:
    """Scenes first .. first + count - 1 of an edition at `size` pixels."""

    first: int
    count: int
    size: int
    edition: int

    @property
    def seeds(self) -> range:
        return range(self.first, self.first + self.count)

    def jobs(self, most: int) -> list[_Scenes]:
        """These scenes in parts of at most `most`."""
        return [
            replace(self, first=seed, count=min(most, self.seeds.stop - seed))
            for seed in self.seeds[::most]
        ]


def _pictures(scenes: _Scenes) -> np.ndarray:
    from training.scenery.dataset import arrays

    return arrays(scenes.seeds, scenes.size, edition=scenes.edition)[0]


def _phrases(scenes: _Scenes) -> list[list[str]]:
    from training.scenery.captions import phrases
    from training.scenery.sampling import sample_scene

    return [phrases(sample_scene(seed, scenes.edition)) for seed in scenes.seeds]


def _render(scenes: _Scenes) -> tuple[np.ndarray, list[list[str]]]:
    return _pictures(scenes), _phrases(scenes)


def _code_key() -> str:
    """Hash of the renderer's source: a changed renderer must not read an old cache."""
    folder = Path(__file__).resolve().parent
    names = (
        "canvas", "captions", "details", "draws", "extras", "objects", "palettes", "render", "sampling", "scene",
    )  # fmt: skip
    digest = hashlib.sha256()
    for name in names:
        digest.update((folder / f"{name}.py").read_bytes())
    return digest.hexdigest()[:12]


class SceneSource:
    """Scenes first .. first + count - 1 of `training.scenery` at size x size pixels.

    Captions are re-drawn in every epoch (order of phrases, and which are left out) from (index, epoch) alone, so a
    resumed run sees what an uninterrupted one would have seen. `views`: where an example is mirrored, its caption
    exchanges left and right.
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
        views: Views | None = None,
    ) -> None:
        if count < 1:
            raise ValueError(f"count={count} scenes is an empty data set; use 1 or more")
        self.key = f"scenes-{_code_key()}-{edition}-{first}-{count}-{size}"
        self.drop = drop
        self.views = views
        self._open(_Scenes(first=first, count=count, size=size, edition=edition), cache, workers)

    def _open(self, scenes: _Scenes, cache: Path, workers: int) -> None:
        folder = cache / self.key
        if not (folder / "phrases.json").exists():
            _write(folder, scenes, workers)
        self._images = np.load(folder / "images.npy", mmap_mode="r")
        self._phrases: list[list[str]] = json.loads((folder / "phrases.json").read_text())

    def __len__(self) -> int:
        return len(self._phrases)

    def _image(self, index: int) -> np.ndarray:
        return np.asarray(self._images[index])

    def item(self, index: int, view: View = CENTRE) -> Item:
        """Scene `index` with its caption of epoch 0; scenes are square, so that a view is a flip."""
        image = self._image(index)
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
        text = ", ".join(kept or [every[order[0]]])
        mirrored = self.views is not None and self.views.at(index, epoch).flip
        return mirror(text) if mirrored else text


class PassingScenes(SceneSource):
    """The same scenes, of which nothing is kept but their phrases: pictures are rendered when they are wanted."""

    def _open(self, scenes: _Scenes, cache: Path, workers: int) -> None:
        self._scenes, self._workers = scenes, workers
        self.block_key = f"scenes-{_code_key()}-{scenes.edition}-{scenes.first}-{scenes.size}"
        path = cache / f"{self.key}-phrases.json"
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with ProcessPoolExecutor(workers) as pool:
                texts = list(chain.from_iterable(pool.map(_phrases, scenes.jobs(_CHUNK))))
            part = path.with_suffix(f".part{os.getpid()}")
            part.write_text(json.dumps(texts))
            part.replace(path)
        self._phrases = json.loads(path.read_text())

    def _image(self, index: int) -> np.ndarray:
        one = _Scenes(
            first=self._scenes.first + index,
            count=1,
            size=self._scenes.size,
            edition=self._scenes.edition,
        )
        return _render(one)[0][0]

    def blocks(self, numbers: Sequence[int], size: int) -> Iterator[np.ndarray]:
        """Pictures (n, H, W, 3) uint8 of each block of `size` scenes, the next ones rendered meanwhile."""
        jobs = self._scenes.jobs(size)
        ahead = 2
        with ProcessPoolExecutor(self._workers) as pool:
            parts = [
                [pool.submit(_pictures, job) for job in jobs[n].jobs(_PART)]
                for n in numbers[:ahead]
            ]
            for place in range(len(numbers)):
                yield np.concatenate([part.result() for part in parts.pop(0)])
                if place + ahead < len(numbers):
                    more = jobs[numbers[place + ahead]].jobs(_PART)
                    parts.append([pool.submit(_pictures, job) for job in more])


def mirror(caption: str) -> str:
    """The caption of the mirrored scene."""
    other = {"left": "right", "right": "left"}
    return ", ".join(
        " ".join(other.get(word, word) for word in phrase.split(" "))
        for phrase in caption.split(", ")
    )


def open_source(config: TrainConfig) -> SceneSource:
    """The scenes that `config.data` names."""
    data = config.data
    source = SceneSource if data.stored else PassingScenes
    return source(
        first=data.first,
        count=min(data.limit, data.count) if data.limit else data.count,
        size=config.resolution,
        edition=data.edition,
        cache=Path(data.cache),
        workers=max(2, os.cpu_count() or 2),
        views=Views.of(config, cached=True) if data.flip else None,
    )


def _write(folder: Path, scenes: _Scenes, workers: int) -> None:
    part = folder.with_name(folder.name + f".part{os.getpid()}")
    part.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(
        part / "images.npy",
        mode="w+",
        dtype=np.uint8,
        shape=(scenes.count, scenes.size, scenes.size, 3),
    )
    texts: list[list[str]] = []
    with ProcessPoolExecutor(workers) as pool:
        for block, phrases in pool.map(_render, scenes.jobs(_CHUNK)):
            images[len(texts) : len(texts) + len(block)] = block
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
