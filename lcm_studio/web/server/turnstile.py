"""Whose turn it is: a fair queue with visible positions, and a stop flag per request. No Gradio here."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from lcm_studio.spec.errors import Busy

REMEMBERED = 1000  # owners whose last turn is known


@dataclass(eq=False)
class Ticket:
    """One request in the queue or running; `owner` is a browser session, `tab` the tab it came from."""

    owner: str
    tab: str
    stop: threading.Event = field(default_factory=threading.Event)
    running: bool = False


class Turnstile:
    """At most `running` requests at the engine, at most `waiting` behind them.

    The next one let in belongs to the owner with the fewest requests running, then to the one whose last turn is
    longest ago, then to the longest wait: a user with ten requests does not hold up a user with one.
    """

    def __init__(self, *, running: int, waiting: int) -> None:
        self._limit = running
        self._waiting_limit = waiting
        self._changed = threading.Condition()
        self._waiting: list[Ticket] = []
        self._running: list[Ticket] = []
        self._turns: OrderedDict[str, int] = OrderedDict()  # owner -> number of its last turn
        self._turn = 0

    def enter(self, owner: str, tab: str) -> Ticket:
        """Join the queue; Busy when it is full. Leave it again with `leave`, whatever happens."""
        ticket = Ticket(owner, tab)
        with self._changed:
            if len(self._running) >= self._limit and len(self._waiting) >= self._waiting_limit:
                raise Busy(
                    f"The studio is busy: {len(self._waiting)} requests are waiting and the queue holds "
                    f"{self._waiting_limit}; try again in a moment."
                )
            self._waiting.append(ticket)
            self._admit()
        return ticket

    def wait(self, ticket: Ticket, *, every: float = 0.5) -> Iterator[int]:
        """Yield the position (1 = next) whenever it changes, until the ticket runs or is stopped."""
        last = 0
        while True:
            with self._changed:
                if ticket.running or ticket.stop.is_set():
                    return
                position = self._order().index(ticket) + 1
                if position == last:
                    self._changed.wait(every)
                    continue
                last = position
            yield position

    def leave(self, ticket: Ticket) -> None:
        """The request is over; lets the next one in."""
        ticket.stop.set()
        with self._changed:
            for tickets in (self._waiting, self._running):
                if ticket in tickets:
                    tickets.remove(ticket)
            self._admit()
            self._changed.notify_all()

    def stop(self, owner: str, tab: str | None = None) -> int:
        """Ask an owner's requests (of one tab, or all) to stop; returns how many there were."""
        with self._changed:
            mine = [
                ticket
                for ticket in (*self._waiting, *self._running)
                if ticket.owner == owner and tab in (None, ticket.tab)
            ]
            for ticket in mine:
                ticket.stop.set()
            self._changed.notify_all()
        return len(mine)

    def _order(self) -> list[Ticket]:
        """The waiting tickets in the order they will be let in."""
        busy = Counter(ticket.owner for ticket in self._running)
        turns, turn = dict(self._turns), self._turn
        left, order = list(self._waiting), []
        while left:
            ticket = min(left, key=lambda t: (busy[t.owner], turns.get(t.owner, 0)))
            turn += 1
            turns[ticket.owner] = turn
            busy[ticket.owner] += 1
            left.remove(ticket)
            order.append(ticket)
        return order

    def _admit(self) -> None:
        for ticket in self._order()[: max(0, self._limit - len(self._running))]:
            self._waiting.remove(ticket)
            self._running.append(ticket)
            ticket.running = True
            self._turn += 1
            self._turns[ticket.owner] = self._turn
            self._turns.move_to_end(ticket.owner)
        while len(self._turns) > REMEMBERED:
            self._turns.popitem(last=False)
        self._changed.notify_all()
