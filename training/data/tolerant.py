"""Skips examples that cannot be used: each one is named and counted, and too many of them end the run."""

from __future__ import annotations

import sys
from collections.abc import Callable

from training.data.source import CENTRE, BadSample, Item, Source, View
from training.errors import TrainingFault

MAX_SHARE = 0.05
ALWAYS_ALLOWED = 2


class Tolerant:
    """`source`, where a bad example is replaced by the next good one.

    The replacement depends on the data alone, so a resumed run sees what an uninterrupted one saw.
    `on_bad(message)` is called once for each. More than 5% of the data set, and more than two, raise
    TrainingFault "data".
    """

    def __init__(self, source: Source, on_bad: Callable[[str], None] | None = None) -> None:
        self.source = source
        self.on_bad = on_bad or (lambda message: print(f"skipped {message}", file=sys.stderr))
        self.bad: dict[int, str] = {}

    @property
    def key(self) -> str:
        return self.source.key

    def __len__(self) -> int:
        return len(self.source)

    @property
    def fixed_captions(self) -> bool:
        """Whether the captions are the same in every epoch."""
        return getattr(self.source, "fixed_captions", False)

    def item(self, index: int, view: View = CENTRE) -> Item:
        """The example at `index`, or the next one after it that can be used."""
        for offset in range(len(self)):
            at = (index + offset) % len(self)
            if at in self.bad:
                continue
            try:
                return self.source.item(at, view)
            except BadSample as error:
                self._note(at, str(error))
        raise TrainingFault("data", "no picture of the data set can be used; run the data doctor")

    def good(self, index: int) -> int:
        """The index that `item(index)` really reads."""
        self.item(index)
        while index in self.bad:
            index = (index + 1) % len(self)
        return index

    def caption(self, index: int, epoch: int) -> str:
        """The caption that belongs to `item(index)`."""
        while index in self.bad:
            index = (index + 1) % len(self)
        return self.source.caption(index, epoch)

    def content(self, index: int, known: Callable[[str], bool] = lambda content: False) -> str:
        """Hash of the content of `item(index)`'s picture.

        One that is `known` was read before, so it is not opened again to see whether it can be.
        """
        found = content(self.source, index)
        return found if known(found) else content(self.source, self.good(index))

    def _note(self, index: int, message: str) -> None:
        self.bad[index] = message
        self.on_bad(message)
        allowed = max(ALWAYS_ALLOWED, int(MAX_SHARE * len(self)))
        if len(self.bad) > allowed:
            names = "; ".join(list(self.bad.values())[-3:])
            raise TrainingFault(
                "data",
                f"{len(self.bad)} of {len(self)} pictures cannot be used, more than {allowed} are too "
                f"many ({names}); run `python -m lcm_studio data doctor FOLDER` and repair them",
            )


def content(source: Source, index: int) -> str:
    """What the picture at `index` is called in caches: its content, where the source tells it."""
    digest = getattr(source, "digest", None)
    return f"{source.key}/{index}" if digest is None else str(digest(index))
