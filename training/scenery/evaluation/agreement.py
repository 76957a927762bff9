"""Agreement of a rendered scene with its caption, attribute by attribute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from training.scenery.captions import parse


def prompt_agreement(captions: Sequence[str], shown: Sequence[Mapping[str, str]]) -> float:
    """Mean over pictures of the share of the caption's attributes that the picture shows.

    Attributes that `shown` does not tell, and captions that name no other, are passed over; in [0, 1].
    """
    shares = []
    for text, seen in zip(captions, shown, strict=True):
        named = {name: value for name, value in parse(text).items() if name in seen}
        if named:
            shares.append(np.mean([seen[name] == value for name, value in named.items()]))
    if not shares:
        raise ValueError("no caption names an attribute; use phrases of the scenery vocabulary")
    return float(np.mean(shares))


def agreement_by_attribute(
    captions: Sequence[str], shown: Sequence[Mapping[str, str]]
) -> dict[str, float]:
    """Share of pictures that show an attribute as named, over captions that name it."""
    tally: dict[str, list[bool]] = {}
    for text, seen in zip(captions, shown, strict=True):
        for name, value in parse(text).items():
            if name in seen:
                tally.setdefault(name, []).append(seen[name] == value)
    return {name: float(np.mean(found)) for name, found in sorted(tally.items())}
