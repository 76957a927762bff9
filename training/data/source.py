"""What the trainer asks of data: a length, an item by index, a key that names the content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, kw_only=True)
class View:
    """Which square of a picture is seen.

    `across`, `down` in [0, 1] place the largest square, 0.5 in the middle; it is mirrored if `flip`.
    """

    across: float = 0.5
    down: float = 0.5
    flip: bool = False

    def name(self, size: int) -> str:
        """What caches call this view at `size` pixels."""
        middle = (self.across, self.down) == (0.5, 0.5)
        place = "centre" if middle else f"at-{self.across:.6f}-{self.down:.6f}"
        return f"{place}-{size}" + ("-flipped" if self.flip else "")


CENTRE = View()


@dataclass(frozen=True, kw_only=True)
class Item:
    """One example: RGB uint8 (H, W, 3), its caption (empty where there is none) and where it was cut.

    `original` is (height, width) of the whole picture; `corner` is (top, left) of the square in the
    picture once its shorter side is H pixels (and mirrored, if it was).
    """

    image: np.ndarray
    caption: str = ""
    label: int | None = None
    original: tuple[int, int] | None = None
    corner: tuple[int, int] = (0, 0)

    def sizes(self) -> tuple[int, int, int, int]:
        """(original height, original width, top, left), as SDXL is told them; pixels."""
        return (*(self.original or self.image.shape[:2]), *self.corner)


class Source(Protocol):
    """Random access to examples; `key` changes whenever the content does (it keys the caches)."""

    @property
    def key(self) -> str: ...

    def __len__(self) -> int: ...

    def item(self, index: int, view: View = CENTRE) -> Item:
        """The example at `index` in [0, len); raises BadSample where it cannot be read."""
        ...

    def caption(self, index: int, epoch: int) -> str:
        """The caption of one passage over the data; sources may re-draw it in every epoch."""
        ...


class BadSample(Exception):
    """An example that cannot be used; the message names the file and the fault."""
