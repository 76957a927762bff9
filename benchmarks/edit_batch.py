"""Many edits in step: the rows of all generators that ask for the same go into one network call."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from itertools import islice
from typing import Any

import torch

from lcm_studio.engine.batch import Work, run_batch
from lcm_studio.sampling import Decode, Encode, Predict, answer

ROWS = 8  # of a call: on one core more is slower, since activations leave the cache


def together(
    model: Any, generators: Iterable[Generator[Any, Any, Any]], rows: int = ROWS
) -> tuple[list[Any], list[int]]:
    """(what each generator returns, its network evaluations), at most `rows` of them alive at a time."""
    waiting = enumerate(generators)
    results: dict[int, Any] = {}
    evaluations: dict[int, int] = {}
    alive: dict[int, tuple[Generator[Any, Any, Any], Work]] = {}

    def advance(i: int, generator: Generator[Any, Any, Any], value: Any) -> None:
        try:
            ask = generator.send(value)
            while not isinstance(ask, Predict | Decode | Encode):
                ask = generator.send(answer(ask, model))
        except StopIteration as end:
            results[i] = end.value
            alive.pop(i, None)
            return
        evaluations[i] += isinstance(ask, Predict)
        alive[i] = (generator, Work(ask))

    with torch.inference_mode():
        while True:
            for i, generator in islice(waiting, rows - len(alive)):
                evaluations[i] = 0
                advance(i, generator, None)
            if not alive:
                break
            group = next(iter(alive.values()))[1].group
            same = {i: work for i, (_, work) in alive.items() if work.group == group}
            run_batch(model, list(same.values()), rows)
            for i, work in same.items():
                if work.finished:
                    advance(i, alive[i][0], work.result())
    order = sorted(results)
    return [results[i] for i in order], [evaluations[i] for i in order]
