"""The one queue of requests: a bound for all models together, and turns by person and session. No torch."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lcm_studio.spec.errors import Busy
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Priority

REMEMBERED = 1000  # owners whose last turn is known
MAX_RUNNING = 32  # pictures in work at once; twice as many where people with nothing in work come
ALWAYS = 10**6  # places beyond the limit, for what had one before
KEPT_FREE = 8  # places beyond the limit, for people who have nothing here


class Waiter(Protocol):
    """What waits in a line: a request of `rows` pictures that belongs to somebody."""

    @property
    def owner(self) -> Owner: ...
    @property
    def rows(self) -> int: ...
    @property
    def priority(self) -> Priority: ...


T = TypeVar("T", bound=Waiter)


class Places:
    """How many requests may wait, over all models. One object is shared by the lines of an engine."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        return self._taken

    def take(self, *, beyond: int = 0) -> bool:
        """One place, from `beyond` more than the limit where that many are allowed."""
        with self._lock:
            if self._taken >= self.limit + beyond:
                return False
            self._taken += 1
            return True

    def give_back(self) -> None:
        with self._lock:
            self._taken -= 1


@dataclass(eq=False)
class _Entry(Generic[T]):
    waiter: T
    arrived: int


class Line(Generic[T]):
    """Waiting requests of one lane. Not safe by itself: the lane holds its lock around every call.

    The next one belongs to the person with the fewest pictures in work, single pictures before batches, then to whoever
    had their last turn the longest ago, then the same among that person's sessions, then to the longest wait. Whoever is new counts as
    served at the moment of their first request: a fresh session overtakes nobody. Live requests go first.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self._entries: list[_Entry[T]] = []
        self._turns: OrderedDict[object, int] = OrderedDict()  # person or Owner -> its last turn
        self._served: OrderedDict[Owner, None] = OrderedDict()
        self._turn = 0
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._entries)

    def join(self, waiter: T, running: Iterable[T], *, always: bool = False) -> None:
        """Takes a place. Raises Busy where all are taken; a few are kept for people who have nothing here.

        `always`: though all are taken; of a request that had its place before.
        """
        here = [*(entry.waiter for entry in self._entries), *running]
        beyond = KEPT_FREE if self._comes_alone(waiter.owner, here) else 0
        if always:
            beyond = ALWAYS
        if not self.places.take(beyond=beyond):
            raise Busy(
                f"The studio is busy: {self.places.taken} requests are waiting and the queue holds "
                f"{self.places.limit}; try again in a moment."
            )
        self._arrivals += 1
        self._entries.append(_Entry(waiter, self._arrivals))
        for key in (waiter.owner.person, waiter.owner):
            self._turns.setdefault(key, self._turn)
        while len(self._turns) > 2 * REMEMBERED:
            self._turns.popitem(last=False)

    def leave(self, waiter: T) -> None:
        """The request is no longer waiting, for whatever reason."""
        entry = next(e for e in self._entries if e.waiter is waiter)
        self._entries.remove(entry)
        self.places.give_back()

    def admit(self, waiter: T) -> None:
        """The request's turn has come."""
        self.leave(waiter)
        self._turn += 1
        for key in (waiter.owner.person, waiter.owner):
            self._turns[key] = self._turn
            self._turns.move_to_end(key)
        self._served[waiter.owner] = None
        self._served.move_to_end(waiter.owner)
        while len(self._served) > REMEMBERED:
            self._served.popitem(last=False)

    def deserves_a_start(self, waiter: T, running: Iterable[T]) -> bool:
        """Whether it starts although the lane is full: live, or somebody who has nothing in work there."""
        return waiter.priority == "live" or self._comes_alone(waiter.owner, running)

    def _comes_alone(self, owner: Owner, here: Iterable[T]) -> bool:
        """A person with nothing here, or a session of theirs that was served before and has nothing here.

        A session that nobody has seen yet gets no place of its own: they cost nothing to make.
        """
        sessions = {waiter.owner for waiter in here}
        if all(other.person != owner.person for other in sessions):
            return True
        return owner in self._served and owner not in sessions

    def order(self, running: Iterable[T]) -> list[T]:
        """All that wait, in the order in which they would be let in."""
        busy: Counter[object] = Counter()
        for waiter in running:
            busy[waiter.owner.person] += waiter.rows
            busy[waiter.owner] += waiter.rows
        turns, turn = dict(self._turns), self._turn

        def rank(entry: _Entry[T]) -> tuple[int, ...]:
            owner = entry.waiter.owner
            live, batch = entry.waiter.priority == "live", entry.waiter.rows > 1
            person, session = ((busy[key], turns.get(key, 0)) for key in (owner.person, owner))
            # a single picture goes before batches of people with as much in work
            return (not live, person[0], batch, person[1], *session, entry.arrived)

        left = list(self._entries)
        order: list[T] = []
        while left:
            entry = min(left, key=rank)
            turn += 1
            for key in (entry.waiter.owner.person, entry.waiter.owner):
                turns[key] = turn
                busy[key] += entry.waiter.rows
            left.remove(entry)
            order.append(entry.waiter)
        return order

    def drop(self, gone: Callable[[T], bool]) -> list[T]:
        """Removes and returns the waiting requests that `gone` says so of."""
        dropped = [entry.waiter for entry in self._entries if gone(entry.waiter)]
        for waiter in dropped:
            self.leave(waiter)
        return dropped
