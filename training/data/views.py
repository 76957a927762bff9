"""Crops and flips: which view of a picture an example shows, a function of (seed, index, epoch) alone."""

from __future__ import annotations

from dataclasses import dataclass

from training.config import TrainConfig
from training.data.source import View
from training.rng import derive

_GRAIN = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Views:
    """The views of every picture, numbered from 0.

    With a random crop, `crops` of them are taken in turn, one in an epoch; None takes a new one in
    every epoch, which no cache can hold. Each crop comes twice if half of the examples are mirrored.
    """

    random: bool = False
    flip: bool = False
    crops: int | None = None
    seed: int = 0

    @classmethod
    def of(cls, config: TrainConfig, *, cached: bool) -> Views:
        """The views that a config asks for."""
        data = config.data
        return cls(
            random=data.crop == "random",
            flip=data.flip,
            crops=data.crops if cached else None,
            seed=config.seed,
        )

    @property
    def count(self) -> int:
        """Views of one picture in a cache; raises ValueError where they have no end."""
        if self.random and self.crops is None:
            raise ValueError("a new crop in every epoch cannot be cached; give a number of crops")
        return (self.crops or 1 if self.random else 1) * (2 if self.flip else 1)

    def number(self, index: int, epoch: int) -> int:
        """Which view example `index` shows in `epoch`."""
        crop = 0
        if self.random:
            crop = epoch % self.crops if self.crops else epoch
        return 2 * crop + (derive(self.seed, "flip", index, epoch) & 1) if self.flip else crop

    def view(self, name: str, number: int) -> View:
        """View `number` of the picture that is called `name` (its content, for caches)."""
        crop, flip = divmod(number, 2) if self.flip else (number, 0)
        if not self.random:
            return View(flip=bool(flip))
        drawn = derive("crop", name, crop)
        across, down = drawn % _GRAIN, drawn // _GRAIN % _GRAIN
        return View(
            across=round(across / (_GRAIN - 1), 6),
            down=round(down / (_GRAIN - 1), 6),
            flip=bool(flip),
        )

    def at(self, index: int, epoch: int) -> View:
        """The view of one example where nothing is cached."""
        return self.view(f"{self.seed}/{index}", self.number(index, epoch))
