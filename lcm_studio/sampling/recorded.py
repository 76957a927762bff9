"""Watching any sampler: every point that it asked the network about, without changing what it does."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from lcm_studio.sampling.asks import Ask, Predict

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Point:
    """One evaluation: `x_t` `(B, ...)` at levels `t` `(B,)`, and the clean estimate `x0_hat`."""

    x_t: Tensor
    t: Tensor
    x0_hat: Tensor


def recorded(
    steps: Generator[Ask, Any, T], seen: Callable[[Point], Generator[Ask, Any, None] | None]
) -> Generator[Ask, Any, T]:
    """`steps`, with `seen` called after each evaluation; what it returns may ask on its own (to decode a picture)."""
    try:
        ask = next(steps)
        while True:
            value = yield ask
            if isinstance(ask, Predict):
                more = seen(Point(x_t=ask.x_t, t=ask.t, x0_hat=value))
                if more is not None:
                    yield from more
            ask = steps.send(value)
    except StopIteration as end:
        result: T = end.value
        return result
