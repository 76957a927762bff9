"""Pictures encoded once and read from disk row by row, or encoded in every step.

A row is what the autoencoder says of one view of a picture: latents (C, h, w), or where it has a
spread, mean and standard deviation (2C, h, w), from which every step draws anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from training.data.encodings import Encodings
from training.data.source import CENTRE, Source, View
from training.data.views import Views

if TYPE_CHECKING:
    from training.data.rendered import RenderedLatents

_BATCH = 32

Examples = Sequence[tuple[int, int]]  # (index, epoch)
Encode = Callable[[Tensor], Tensor]  # pictures (B, 3, H, W) in [-1, 1] -> rows (B, C', h, w)


def weights_key(network: nn.Module) -> str:
    """Hash of a network's weights: another encoder must not read this one's latents."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def to_signed(images: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in [-1, 1]."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return x.div_(127.5).sub_(1)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """`rows` (B, C', h, w) float32 and `sizes` (B, 4): original height and width, top, left; pixels."""

    rows: Tensor
    sizes: Tensor


class Latents(Protocol):
    """Rows of examples, each in the view that its epoch shows."""

    shape: tuple[int, int, int, int]  # (N, C, h, w) of the latents

    def __call__(self, examples: Examples) -> Encoded: ...


def open_latents(
    source: Source,
    encode: Encode,
    *,
    views: Views,
    size: int,
    spread: bool,
    key: str,
    cache: Path | None,
    sized: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Latents:
    """Latents from `cache`, filled first with what it lacks; or encoded in every step for None.

    Rows are mean and standard deviation if `spread`. `key` names the encoder and their form. Files
    are cached by content and view, so that a picture that was added or changed is the only one encoded
    again. The sizes of files are kept only if `sized`; else they are those of a whole square picture.
    """
    found: _Online | _Whole | _ByContent | RenderedLatents
    if cache is None:
        found = _Online(source, encode, views)
    elif hasattr(source, "block_key"):  # rendered on the way
        from training.data.rendered import Rendered, RenderedLatents

        found = RenderedLatents(
            cast(Rendered, source),
            encode,
            views=views,
            size=size,
            key=key,
            cache=cache,
            progress=progress,
        )
    else:
        wanted = _Wanted(source, encode, views, size, key, cache, progress)
        found = _ByContent(wanted, sized) if hasattr(source, "content") else _Whole(wanted)
    channels, height, width = found.row
    found.shape = (len(source), channels // 2 if spread else channels, height, width)
    return found


@dataclass(frozen=True)
class _Wanted:
    """What a cache is filled with, and where."""

    source: Source
    encode: Encode
    views: Views
    size: int
    key: str
    cache: Path
    progress: Callable[[int], None]


def _encode(encode: Encode, images: Sequence[np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = encode(to_signed(np.stack(images))).float().cpu().numpy()
    return found


class _Online:
    shape: tuple[int, int, int, int]

    def __init__(self, source: Source, encode: Encode, views: Views) -> None:
        self._source, self._encode, self._views = source, encode, views
        self.row = _encode(encode, [source.item(0).image]).shape[1:]

    def __call__(self, examples: Examples) -> Encoded:
        items = [self._source.item(i, self._views.at(i, epoch)) for i, epoch in examples]
        with torch.no_grad():
            rows = self._encode(to_signed(np.stack([item.image for item in items]))).float()
        return Encoded(rows=rows, sizes=torch.tensor([item.sizes() for item in items]).float())


class _Whole:
    """One file for each view of a whole source, in the order of its indices."""

    shape: tuple[int, int, int, int]

    def __init__(self, wanted: _Wanted) -> None:
        source, views, size = wanted.source, wanted.views, wanted.size
        self._views, self._size = views, size
        self._files = []
        for number in range(views.count):
            view = views.view(source.key, number)
            named = "" if view == CENTRE else f"{view.name(size)}-"
            path = wanted.cache / f"latents-{source.key}-{named}{wanted.key}.npy"
            if not path.exists():
                _fill(path, source, wanted.encode, view, wanted.progress)
            self._files.append(np.load(path, mmap_mode="r"))
        self.row = self._files[0].shape[1:]

    def __call__(self, examples: Examples) -> Encoded:
        rows = [self._files[self._views.number(i, epoch)][i] for i, epoch in examples]
        return Encoded(
            rows=torch.from_numpy(np.stack(rows)), sizes=square_sizes(len(examples), self._size)
        )


def square_sizes(count: int, size: int) -> Tensor:
    """(count, 4) sizes of whole square pictures of `size` pixels."""
    return torch.tensor([[size, size, 0, 0]], dtype=torch.float32).expand(count, -1)


def _fill(
    path: Path, source: Source, encode: Encode, view: View, progress: Callable[[int], None]
) -> None:
    part = path.with_suffix(f".part{os.getpid()}")
    out: np.memmap | None = None
    for first in range(0, len(source), _BATCH):
        indices = range(first, min(first + _BATCH, len(source)))
        rows = _encode(encode, [source.item(i, view).image for i in indices])
        if out is None:
            out = np.lib.format.open_memmap(
                part, mode="w+", dtype=np.float32, shape=(len(source), *rows.shape[1:])
            )
        out[first : first + len(rows)] = rows
        progress(first + len(rows))
    if out is not None:
        out.flush()
    part.rename(path)


class _ByContent:
    """Rows found by the content of a file and its view; copies share them."""

    shape: tuple[int, int, int, int]

    def __init__(self, asked: _Wanted, sized: bool) -> None:
        source, views, size = asked.source, asked.views, asked.size
        encode, cache, progress = asked.encode, asked.cache, asked.progress
        self._source, self._views, self._size = source, views, size
        self.row = _encode(encode, [source.item(0).image]).shape[1:]
        self._store = Encodings(cache, f"latents-{asked.key}", self.row)
        wanted = [(i, v) for i in range(len(source)) for v in self._named(i)]
        keys = [f"{name}/{view.name(size)}" for _, (name, view) in wanted]

        def rows(places: Sequence[int]) -> np.ndarray:
            return _encode(
                encode, [source.item(wanted[p][0], wanted[p][1][1]).image for p in places]
            )

        def sizes(places: Sequence[int]) -> np.ndarray:
            told = [source.item(wanted[p][0], wanted[p][1][1]).sizes() for p in places]
            return np.array(told, np.float32)

        self._store.fill(keys, rows, batch=_BATCH, progress=lambda done, total: progress(done))
        self._places = self._store.places(keys).reshape(len(source), views.count)
        self._sizes: tuple[Encodings, np.ndarray] | None = None
        if sized:
            store = Encodings(cache, "sizes", (4,))
            store.fill(keys, sizes, batch=_BATCH)
            self._sizes = store, store.places(keys).reshape(self._places.shape)

    def _named(self, index: int) -> list[tuple[str, View]]:
        """The picture's name and each of its views."""

        def known(name: str) -> bool:
            return all(
                f"{name}/{self._views.view(name, number).name(self._size)}" in self._store
                for number in range(self._views.count)
            )

        name: str = self._source.content(index, known)  # type: ignore[attr-defined]
        return [(name, self._views.view(name, number)) for number in range(self._views.count)]

    def __call__(self, examples: Examples) -> Encoded:
        where = tuple(np.array([(i, self._views.number(i, epoch)) for i, epoch in examples]).T)
        rows = torch.from_numpy(self._store.take(self._places[where]))
        if self._sizes is None:
            return Encoded(rows=rows, sizes=square_sizes(len(examples), self._size))
        store, places = self._sizes
        return Encoded(rows=rows, sizes=torch.from_numpy(store.take(places[where])))
