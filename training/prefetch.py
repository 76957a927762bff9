"""Batches made ahead: while a step uses one, a thread makes the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")


@contextmanager
def prefetched(make: Callable[[int], T], numbers: range, *, threads: int) -> Iterator[Iterator[T]]:
    """`make(n)` for each n in order; with `threads` the next is made beside the use of the one before.

    `make(n)` must depend on n alone and read nothing that its user changes. What it raises comes out
    where its item is taken. `threads`: CPU threads of its operations: as many as the user has, so that the
    numbers do not depend on who made it; 0 makes each item when it is taken.
    """
    if not threads:
        yield map(make, numbers)
        return
    pool = ThreadPoolExecutor(
        1, thread_name_prefix="prefetch", initializer=torch.set_num_threads, initargs=(threads,)
    )

    def items() -> Iterator[T]:
        following = pool.submit(make, numbers[0]) if numbers else None
        for number in numbers:
            assert following is not None
            item = following.result()
            if number + numbers.step in numbers:
                following = pool.submit(make, number + numbers.step)
            yield item

    try:
        yield items()
    finally:
        pool.shutdown(cancel_futures=True)
