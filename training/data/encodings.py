"""Encodings on disk, keyed by content: posterior mean and standard deviation of pictures, embeddings of texts.

A row is written and synced before its key is, so that a crash leaves at most an unused row. Several processes
may share a file; writers take turns. The same picture under another name, or in another data set, is found.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_KEY_BYTES = 32


def hashed(key: str) -> bytes:
    """32 bytes for any key."""
    return hashlib.sha256(key.encode()).digest()


class Encodings:
    """Rows of `shape` and `dtype` in `folder/NAME.rows`, their keys in `folder/NAME.keys`.

    `name` must tell the encoder and its settings: another autoencoder is another file.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        shape: tuple[int, ...],
        dtype: type[np.floating] = np.float32,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        kind = "" if dtype is np.float32 else f"/{np.dtype(dtype)}"
        safe = hashlib.sha256(f"{name}/{shape}{kind}".encode()).hexdigest()[:24]
        self._rows_path, self._keys_path = folder / f"{safe}.rows", folder / f"{safe}.keys"
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.row_bytes = self.dtype.itemsize * int(np.prod(shape))
        for path in (self._rows_path, self._keys_path):
            path.touch()
        self._where: dict[bytes, int] = {}
        self._known = 0
        self._read_keys()

    def __len__(self) -> int:
        return self._known

    def __contains__(self, key: str) -> bool:
        return hashed(key) in self._where

    def rows(self, keys: Sequence[str]) -> np.ndarray:
        """(len(keys), *shape); raises KeyError for a key that is not there."""
        return self.take(self.places(keys))

    def places(self, keys: Sequence[str]) -> np.ndarray:
        """int64 (len(keys),): where the rows are, for `take`; raises KeyError as `rows` does."""
        return np.array([self._where[hashed(key)] for key in keys], np.int64)

    def take(self, places: np.ndarray) -> np.ndarray:
        """(len(places), *shape): copies of the rows at `places`, and of no others, in memory."""
        if not len(places):
            return np.empty((0, *self.shape), self.dtype)
        return np.asarray(self._map()[places])

    def fill(
        self,
        keys: Sequence[str],
        encode: Callable[[Sequence[int]], np.ndarray],
        *,
        batch: int = 32,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Encodes what is missing of `keys`, by positions in it; returns how many that were."""
        first: dict[bytes, int] = {}
        for place, key in enumerate(keys):
            if key not in self:
                first.setdefault(hashed(key), place)
        missing = list(first.values())
        for start in range(0, len(missing), batch):
            chosen = missing[start : start + batch]
            self._append([keys[i] for i in chosen], encode(chosen))
            if progress is not None:
                progress(start + len(chosen), len(missing))
        return len(missing)

    def _append(self, keys: Sequence[str], rows: np.ndarray) -> None:
        rows = np.ascontiguousarray(rows, dtype=self.dtype)
        if rows.shape != (len(keys), *self.shape):
            raise ValueError(f"rows of shape {rows.shape} do not fit ({len(keys)}, *{self.shape})")
        with self._writing():
            with self._rows_path.open("r+b") as file:
                file.seek(self._known * self.row_bytes)
                file.write(rows.tobytes())
                file.flush()
                os.fsync(file.fileno())
            with self._keys_path.open("r+b") as file:
                file.seek(self._known * _KEY_BYTES)
                file.write(b"".join(hashed(key) for key in keys))
                file.flush()
                os.fsync(file.fileno())
            self._read_keys()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._keys_path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._read_keys()
            yield

    def _read_keys(self) -> None:
        with self._keys_path.open("rb") as file:
            file.seek(self._known * _KEY_BYTES)
            data = file.read()
        for place in range(len(data) // _KEY_BYTES):
            key = data[place * _KEY_BYTES : (place + 1) * _KEY_BYTES]
            self._where[key] = self._known + place
        self._known += len(data) // _KEY_BYTES

    def _map(self) -> np.memmap:
        return np.memmap(self._rows_path, self.dtype, "r", shape=(self._known, *self.shape))
