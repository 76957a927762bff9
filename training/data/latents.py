"""Pictures encoded once: latents of a whole source in one mapped file, keyed by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.data.source import Source

_BATCH = 32


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


def encode_all(
    source: Source,
    encode: Callable[[Tensor], Tensor],
    *,
    key: str,
    cache: Path,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Latents (N, C, h, w) float32 of every example, from the cache where it has them.

    `encode` maps pictures (B, 3, H, W) in [-1, 1] to scaled latents.
    """
    if hasattr(source, "digest"):
        return _by_content(source, encode, key=key, cache=cache, progress=progress)
    path = cache / f"latents-{source.key}-{key}.npy"
    if not path.exists():
        part = path.with_suffix(f".part{os.getpid()}")
        out: np.memmap | None = None
        for first in range(0, len(source), _BATCH):
            indices = range(first, min(first + _BATCH, len(source)))
            images = np.stack([source.item(i).image for i in indices])
            with torch.no_grad():
                z = encode(to_signed(images)).float().cpu().numpy()
            if out is None:
                out = np.lib.format.open_memmap(
                    part, mode="w+", dtype=np.float32, shape=(len(source), *z.shape[1:])
                )
            out[first : first + len(z)] = z
            progress(first + len(z))
        if out is not None:
            out.flush()
        part.rename(path)
    found: np.ndarray = np.load(path, mmap_mode="r")
    return found


def _by_content(
    source: Source,
    encode: Callable[[Tensor], Tensor],
    *,
    key: str,
    cache: Path,
    progress: Callable[[int], None],
) -> np.ndarray:
    """As `encode_all`, for files: a picture that was added or changed is the only one encoded again."""
    from training.data.encodings import Encodings
    from training.data.tolerant import content_key

    def rows(indices: Sequence[int]) -> np.ndarray:
        with torch.no_grad():
            z = encode(to_signed(np.stack([source.item(i).image for i in indices])))
        found: np.ndarray = z.float().cpu().numpy()
        return found

    shape = rows([0]).shape[1:]
    store = Encodings(cache, f"latents-{key}", shape)
    keys = [content_key(source, index) for index in range(len(source))]
    store.fill(keys, rows, batch=_BATCH, progress=lambda done, total: progress(done))
    return store.rows(keys)
