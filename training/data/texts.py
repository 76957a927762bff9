"""Captions encoded once: what a frozen text encoder says of them, in one mapped file.

Found by the weights and settings of the encoder and the tokens of the caption, so that captions
that differ in nothing that reaches the encoder share a row.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from training.data.encodings import Encodings

_BATCH = 32
_CHUNK = 1024  # captions whose tokens are in memory at once; a multiple of the batch


class TextEncoder(Protocol):
    """One or more frozen encoders behind one call."""

    device: torch.device

    @property
    def key(self) -> str: ...  # names weights and settings

    @property
    def dtype(self) -> torch.dtype: ...

    def tokens(self, texts: Sequence[str]) -> list[Tensor]: ...

    def encode(self, tokens: Sequence[Tensor]) -> dict[str, Tensor]: ...


class CachedTexts:
    """`encoder` with a memory on disk: the same embeddings, read instead of computed.

    A row holds all embeddings of a caption in the order of their names, in half precision only where
    the encoder itself computes in it. Captions that were not filled in are encoded when asked for.
    """

    def __init__(self, encoder: TextEncoder, folder: Path, *, limit_mb: int) -> None:
        self.encoder = encoder
        self._folder, self._limit = folder, limit_mb * 10**6
        probe = encoder.encode(encoder.tokens([""]))
        self._shapes = {name: tuple(probe[name].shape[1:]) for name in sorted(probe)}
        width = sum(prod(shape) for shape in self._shapes.values())
        dtype = np.float16 if encoder.dtype == torch.float16 else np.float32
        self._store = Encodings(folder, f"texts-{encoder.key}", (width,), dtype)

    def fill(
        self, texts: Iterable[str], progress: Callable[[int], None] = lambda done: None
    ) -> int:
        """Encodes what is missing of `texts`, as far as the disk may be filled; returns what was not.

        `progress` is told now and then how many were encoded.
        """
        waiting, lacking, encoded = iter(texts), 0, 0
        while chunk := list(islice(waiting, _CHUNK)):
            tokens = self.encoder.tokens(chunk)
            keys = _keys(tokens)
            fresh = len(set(keys) - {key for key in keys if key in self._store})
            if fresh > self._room():
                lacking += fresh
                continue

            def rows(places: Sequence[int], tokens: Sequence[Tensor] = tokens) -> np.ndarray:
                return self._encode([part[list(places)] for part in tokens])

            encoded += self._store.fill(keys, rows, batch=_BATCH)
            if fresh:
                progress(encoded)
        return lacking

    def _room(self) -> int:
        """How many more rows may be written."""
        used = len(self._store) * self._store.row_bytes
        free = shutil.disk_usage(self._folder).free // 2
        return max(0, min(self._limit - used, free)) // self._store.row_bytes

    def _encode(self, tokens: Sequence[Tensor]) -> np.ndarray:
        found = self.encoder.encode(tokens)
        flat = torch.cat([found[name].flatten(1) for name in self._shapes], 1)
        rows: np.ndarray = (
            flat.to(torch.promote_types(self.encoder.dtype, torch.float16)).cpu().numpy()
        )
        return rows

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """The embeddings of `texts`, on the encoder's device."""
        tokens = self.encoder.tokens(texts)
        keys = _keys(tokens)
        there = [i for i, key in enumerate(keys) if key in self._store]
        lacking = [i for i, key in enumerate(keys) if key not in self._store]
        rows = np.empty((len(keys), *self._store.shape), self._store.dtype)
        rows[there] = self._store.rows([keys[i] for i in there])
        if lacking:
            rows[lacking] = self._encode([part[lacking] for part in tokens])
        flat = torch.from_numpy(rows).to(self.encoder.device)
        parts = flat.split([prod(shape) for shape in self._shapes.values()], 1)
        return {
            name: part.reshape(len(keys), *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }


def _keys(tokens: Sequence[Tensor]) -> list[str]:
    """A name for each caption: the hash of what its encoders read."""
    every = torch.cat([part.long() for part in tokens], 1).numpy()
    return [hashlib.sha256(row.tobytes()).hexdigest() for row in every]
