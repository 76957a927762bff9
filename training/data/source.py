"""What the trainer asks of data: a length, an item by index, a key that names the content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Item:
    """One example: RGB uint8 (H, W, 3) and its caption (empty where there is none)."""

    image: np.ndarray
    caption: str = ""
    label: int | None = None


class Source(Protocol):
    """Random access to examples; `key` changes whenever the content does (it keys the caches)."""

    @property
    def key(self) -> str: ...

    def __len__(self) -> int: ...

    def item(self, index: int) -> Item:
        """The example at `index` in [0, len); raises BadSample where it cannot be read."""
        ...

    def caption(self, index: int, epoch: int) -> str:
        """The caption of one passage over the data; sources may re-draw it in every epoch."""
        ...


class BadSample(Exception):
    """An example that cannot be used; the message names the file and the fault."""
