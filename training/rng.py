"""Random numbers as a function of (seed, step, rank, stream), and the order of examples.

Nothing here carries state from step to step: a run that was killed and resumed draws the numbers
that an uninterrupted one draws, and every rank draws its own.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch


def derive(*parts: int | str) -> int:
    """A 63-bit seed from any parts, well mixed."""
    text = "/".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on `parts` alone."""
    return torch.Generator(device).manual_seed(derive(*parts))


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64([seed, epoch, 0x0DDE])).permutation(length)


def order(position: int, count: int, length: int, seed: int) -> list[tuple[int, int]]:
    """(index, epoch) of examples position .. position + count - 1 of an endless shuffled stream.

    Every epoch is a permutation of range(length) drawn from (seed, epoch).
    """
    found = []
    for at in range(position, position + count):
        epoch, offset = divmod(at, length)
        found.append((int(_permutation(seed, epoch, length)[offset]), epoch))
    return found
