"""Running one sampling generator alone: in tests, scripts and training."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from lcm_studio.models.protocol import Network
from lcm_studio.sampling.asks import (
    Ask,
    Check,
    Compute,
    Decode,
    Embed,
    Encode,
    Estimate,
    Finished,
    Predict,
)

T = TypeVar("T")


def answer(ask: Ask, model: Network) -> Any:
    """What `model` says to one ask; None for a notification."""
    match ask:
        case Predict(x_t, t, cond):
            return model.predict(x_t, t, cond)
        case Decode(latents):
            return model.decode(latents)
        case Encode(images):
            return model.encode(images)
        case Embed(prompts):
            return model.embed(prompts)
        case Check(images):
            return model.check(images)
        case Compute(work):
            return work(_untold)
        case Estimate() | Finished():
            return None


def _untold(share: float) -> None:
    """Progress that nobody looks at."""


def drive(
    steps: Generator[Ask, Any, T],
    model: Network,
    *,
    on_ask: Callable[[Ask], None] | None = None,
) -> T:
    """Runs `steps` to its end, answering each ask at once; returns what it returns.

    `on_ask` sees every ask before it is answered (`Estimate` tells the progress).
    """
    try:
        ask = next(steps)
        while True:
            if on_ask is not None:
                on_ask(ask)
            ask = steps.send(answer(ask, model))
    except StopIteration as end:
        result: T = end.value
        return result
