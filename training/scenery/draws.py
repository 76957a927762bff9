"""Short names for a numpy generator's draws, rounded so that scenes print compactly."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class Draws:
    """Random numbers of a scene; `stream` keeps draws of one kind apart from those of others."""

    def __init__(self, seed: int, stream: int | None = None) -> None:
        entropy = seed if stream is None else [stream, seed]
        self.rng = np.random.Generator(np.random.PCG64(entropy))

    def real(self, low: float, high: float) -> float:
        return round(float(self.rng.uniform(low, high)), 4)

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def pick(self, weights: Mapping[str, float]) -> str:
        share = np.asarray(list(weights.values()), dtype=np.float64)
        edge = np.cumsum(share / share.sum())
        index = int(np.searchsorted(edge, self.rng.random(), side="right"))
        return list(weights)[min(index, len(weights) - 1)]
