"""A second thread beside the training step, on the CPU: half of its cores each.

Small networks do not keep all cores busy with one operation at a time. What does not wait for the weights
of this step runs beside it, one after the other: the averages of the step before, the target network during
the student's forward pass, the frozen teacher on the next batch, and then the gradients of weights that the
backward pass leaves (`training.layers`). The numbers are those of one thread after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

T = TypeVar("T")
Later = Callable[[], T]  # waits for a value and returns it


def at_once(make: Callable[[], T]) -> Later[T]:
    """The value made here and now; what `Beside.start` is without a second thread."""
    value = make()
    return lambda: value


class Beside:
    """One thread that runs what it is given in order, on `threads` cores."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._then: Callable[[], None] | None = None
        self._pool = ThreadPoolExecutor(
            1, thread_name_prefix="beside", initializer=torch.set_num_threads, initargs=(threads,)
        )

    def start(self, make: Callable[[], T]) -> Later[T]:
        """Starts `make`; grad mode and autocast are the thread's own. What it raises comes out later."""
        future: Future[T] = self._pool.submit(make)
        then, self._then = self._then, None
        if then is not None:
            then()
        return future.result

    def then(self, call: Callable[[], None]) -> None:
        """Calls `call` once, right after the next `start`: what it starts is next in the row."""
        self._then = call

    def close(self) -> None:
        """Drops what has not begun and waits for what has."""
        self._pool.shutdown(cancel_futures=True)


class Ahead(Generic[T]):
    """Makes item n + 1 beside the use of item n; `make(n)` must depend on n alone."""

    def __init__(self, make: Callable[[int], T], beside: Beside | None, end: int) -> None:
        self._make, self._beside, self._end = make, beside, end
        self._next: tuple[int, Later[T]] | None = None
        self._begun = -1

    def take(self, number: int) -> T:
        """Item `number`, made ahead or now."""
        waiting, self._next = self._next, None
        if waiting is not None and waiting[0] == number:
            return waiting[1]()
        return self._make(number)

    def start(self, number: int) -> None:
        """Begins item `number`, unless it has begun, where there is a second thread and the run gets that far."""
        if self._beside is not None and self._begun < number < self._end:
            self._begun = number
            self._next = number, self._beside.start(lambda: self._make(number))

    def wait(self) -> None:
        """Until what was begun is there."""
        if self._next is not None:
            self._next[1]()


@contextmanager
def beside(wanted: bool, device: torch.device) -> Iterator[Beside | None]:
    """A second thread where it is wanted, the device is the CPU and there are two cores for it."""
    total = torch.get_num_threads()
    if not wanted or device.type != "cpu" or total < 2:
        yield None
        return
    made = Beside(total // 2)
    torch.set_num_threads(total - total // 2)
    try:
        yield made
    finally:
        made.close()
        torch.set_num_threads(total)
