"""Latents of pictures that are rendered on the way and not kept: one file of rows for each block of pictures.

A picture of 256 x 256 takes 196 kB and its latents 16, so that hundreds of thousands of scenes fit on a disk. What a
killed run had encoded stays; a longer run goes on where a shorter one ended.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from training.data.latents import Encode, Encoded, Examples, square_sizes, to_signed
from training.data.source import View
from training.data.views import Views

BLOCK = 1000
_BATCH = 16


class Rendered(Protocol):
    """A source whose pictures are made block by block."""

    block_key: str  # names the content of a block together with its number

    def __len__(self) -> int: ...

    def blocks(self, numbers: Sequence[int], size: int) -> Iterator[np.ndarray]:
        """Pictures (n, H, W, 3) of each block of `size` pictures, rendered ahead by all cores."""
        ...


class RenderedLatents:
    """Rows (C, h, w) in float16 of every picture, and of its mirror image where `views` flips."""

    shape: tuple[int, int, int, int]

    def __init__(
        self,
        source: Rendered,
        encode: Encode,
        *,
        views: Views,
        size: int,
        key: str,
        cache: Path,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        self._views, self._size = views, size
        self._flips = [views.view("", number) for number in range(views.count)]
        folder = cache / f"latents-{source.block_key}-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        count = len(source)
        numbers = range(-(-count // BLOCK))

        def path(number: int, view: View) -> Path:
            rows = min(
                BLOCK, count - number * BLOCK
            )  # a short last block is not that of a longer run
            part = "" if rows == BLOCK else f"-{rows}"
            return folder / f"{number:05d}{part}{'-flipped' if view.flip else ''}.npy"

        paths = {n: [path(n, view) for view in self._flips] for n in numbers}
        missing = [n for n in numbers if not all(file.exists() for file in paths[n])]
        for n, images in zip(missing, source.blocks(missing, BLOCK), strict=True):
            for view, file in zip(self._flips, paths[n], strict=True):
                _write(file, images[:, :, ::-1] if view.flip else images, encode)
            progress((n + 1) * BLOCK)
        self._files = [[np.load(file, mmap_mode="r") for file in paths[n]] for n in numbers]
        self.row = self._files[0][0].shape[1:]

    def __call__(self, examples: Examples) -> Encoded:
        rows = [
            self._files[i // BLOCK][self._views.number(i, epoch)][i % BLOCK]
            for i, epoch in examples
        ]
        return Encoded(
            rows=torch.from_numpy(np.stack(rows)).float(),
            sizes=square_sizes(len(examples), self._size),
        )


def _write(path: Path, images: np.ndarray, encode: Encode) -> None:
    rows = []
    with torch.no_grad():
        for first in range(0, len(images), _BATCH):
            batch = to_signed(np.ascontiguousarray(images[first : first + _BATCH]))
            rows.append(encode(batch).to(torch.float16).cpu().numpy())
    part = path.with_suffix(f".part{os.getpid()}")
    with part.open("wb") as file:
        np.save(file, np.concatenate(rows))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
