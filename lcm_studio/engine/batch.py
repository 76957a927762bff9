"""Joining the rows of several asks into one network call, and handing the answers back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from lcm_studio.models.load import LoadedModel
from lcm_studio.models.protocol import Cond
from lcm_studio.sampling import Ask, Decode, Encode, Predict
from lcm_studio.spec.owners import Owner

PARTS = {Predict: "network", Decode: "decode", Encode: "encode"}


class Work:
    """An ask whose rows may be answered over several calls."""

    def __init__(self, ask: Ask) -> None:
        if not isinstance(ask, Predict | Decode | Encode):
            raise TypeError(f"{type(ask).__name__} is no work for the network")
        self.ask = ask
        self.part = PARTS[type(ask)]
        self.tensor = self._tensor()
        self.rows = len(self.tensor)
        self.done = 0
        self._out: list[Tensor] = []

    def _tensor(self) -> Tensor:
        match self.ask:
            case Predict(x_t, _, _):
                return x_t
            case Decode(latents):
                return latents
            case Encode(images):
                return images
        raise TypeError("no tensor")

    @property
    def group(self) -> Hashable:
        """Only equal groups fit into one call."""
        cond = (
            (self.ask.cond.group, frozenset(self.ask.cond.tensors))
            if isinstance(self.ask, Predict)
            else ()
        )
        shapes = (
            tuple((name, tuple(v.shape[1:])) for name, v in sorted(self.ask.cond.tensors.items()))
            if isinstance(self.ask, Predict)
            else ()
        )
        return (self.part, tuple(self.tensor.shape[1:]), cond, shapes)

    @property
    def finished(self) -> bool:
        return self.done >= self.rows

    def pixels(self, model: LoadedModel) -> tuple[int, int]:
        """(width, height) of one row in pixels, for the memory bound."""
        height, width = self.tensor.shape[-2:]
        factor = model.info.multiple if model.latent and self.part != "encode" else 1
        return int(width) * factor, int(height) * factor

    def give(self, rows: Tensor) -> None:
        self._out.append(rows)
        self.done += len(rows)

    def result(self) -> Tensor:
        """All answers, in order."""
        return self._out[0] if len(self._out) == 1 else torch.cat(self._out)


def shares(wanted: Sequence[int], limit: int, owners: Sequence[Owner] = ()) -> list[int]:
    """How many rows of each work go into one call of at most `limit`.

    The places are dealt one by one, each to the person with the fewest so far, then to the session, then to the
    request: neither a large request nor many of one person take the room of another's single picture.
    """
    whose = owners or [Owner()] * len(wanted)
    given = [0] * len(wanted)
    dealt: Counter[object] = Counter()
    for _ in range(limit):
        still = [i for i, want in enumerate(wanted) if given[i] < want]
        if not still:
            break
        i = min(still, key=lambda i: (dealt[whose[i].person], dealt[whose[i]], given[i]))
        given[i] += 1
        dealt[whose[i].person] += 1
        dealt[whose[i]] += 1
    return given


def run_batch(
    model: LoadedModel, works: Sequence[Work], limit: int, owners: Sequence[Owner] = ()
) -> list[int]:
    """One call for the open rows of `works`, all of one group; returns how many rows of each were answered."""
    taken = shares([work.rows - work.done for work in works], limit, owners)
    parts = [(work, work.done, work.done + n) for work, n in zip(works, taken, strict=True) if n]
    tensor = _join([work.tensor[a:b] for work, a, b in parts])
    if works[0].part == "network":
        t = _join([work.ask.t[a:b] for work, a, b in parts])  # type: ignore[union-attr]
        cond = Cond.join([work.ask.cond.rows(a, b) for work, a, b in parts])  # type: ignore[union-attr]
        out = model.predict(tensor, t, cond)
    elif works[0].part == "decode":
        out = model.decode(tensor)
    else:
        out = model.encode(tensor)
    position = 0
    for work, a, b in parts:
        work.give(out[position : position + b - a])
        position += b - a
    return taken


def _join(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
