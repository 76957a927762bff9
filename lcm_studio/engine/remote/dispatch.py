"""Which request starts next, and on which replica: one line for all of them, no network and no Ray.

A replica is let no more pictures than its lanes start at once, so that nothing waits there and a position in this line is
the true one. Turns are those of the lane (`engine.line`): live previews, then by person, single pictures before batches.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from lcm_studio.engine.line import MAX_RUNNING, Line, Places
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Priority

KEEP = 2  # models that an engine keeps in memory (EngineConfig.keep)
COLD = 32  # pictures in work that a replica may have more than another before the other loads the model


@dataclass(eq=False)
class Ticket:
    """A request at the front. `replica`: where it runs, "" while it waits."""

    id: str
    rows: int
    model: str
    priority: Priority = "normal"
    owner: Owner = field(default_factory=Owner)
    replica: str = ""


@dataclass(eq=False)
class Replica:
    """One engine: its requests in work, and the models that it has, latest used last."""

    running: list[Ticket] = field(default_factory=list)
    models: OrderedDict[str, None] = field(default_factory=OrderedDict)

    @property
    def rows(self) -> int:
        return sum(ticket.rows for ticket in self.running)


class Dispatcher:
    """`limit`: requests that may wait. `capacity`: pictures that a replica has in work. `model`: that a replica has from
    its start, "" = none. Not safe for threads."""

    def __init__(self, limit: int, *, capacity: int = MAX_RUNNING, model: str = "") -> None:
        self.model = model
        self.capacity = capacity
        self.replicas: dict[str, Replica] = {}
        self._line: Line[Ticket] = Line(Places(limit))

    @property
    def running(self) -> list[Ticket]:
        return [ticket for replica in self.replicas.values() for ticket in replica.running]

    @property
    def waiting(self) -> list[Ticket]:
        """All that wait, the next one first."""
        return self._line.order(self.running) if len(self._line) else []

    def present(self, names: Iterable[str]) -> None:
        """These replicas are there. What ran on one that is not goes back by `again`, once its stream has ended."""
        names = set(names)
        for name in names - self.replicas.keys():
            self.replicas[name] = Replica()
            if self.model:
                self.replicas[name].models[self.model] = None
        for name in self.replicas.keys() - names:
            del self.replicas[name]

    def join(self, ticket: Ticket) -> None:
        """Takes a place in the line. Raises Busy where all are taken."""
        self._line.join(ticket, self.running)

    def again(self, ticket: Ticket) -> None:
        """A request whose replica was lost: it waits again, though the line may be full."""
        self._free(ticket)
        self._line.join(ticket, self.running, always=True)

    def end(self, ticket: Ticket) -> None:
        """The request is over, or nobody waits for it any more."""
        if ticket.replica:
            self._free(ticket)
        else:
            self._line.leave(ticket)

    def _free(self, ticket: Ticket) -> None:
        replica = self.replicas.get(ticket.replica)
        if replica is not None and ticket in replica.running:
            replica.running.remove(ticket)
        ticket.replica = ""

    def deal(self) -> list[Ticket]:
        """Starts what there is room for; each ticket names its replica then."""
        started: list[Ticket] = []
        while (first := next(iter(self.waiting), None)) is not None:
            name = self._choose(first)
            if name is None:
                break
            self._line.admit(first)
            first.replica = name
            replica = self.replicas[name]
            replica.running.append(first)
            replica.models[first.model] = None
            replica.models.move_to_end(first.model)
            while len(replica.models) > KEEP:
                replica.models.popitem(last=False)
            started.append(first)
        return started

    def _choose(self, ticket: Ticket) -> str | None:
        """The replica with the fewest pictures in work; one that would load the model first counts as fuller."""
        extra = self._line.deserves_a_start(ticket, self.running)

        def has_room(replica: Replica) -> bool:
            rows = replica.rows
            fits = not rows or rows + ticket.rows <= self.capacity
            return fits or (extra and rows < 2 * self.capacity)

        def cost(name: str) -> int:
            replica = self.replicas[name]
            return replica.rows + (0 if ticket.model in replica.models else COLD)

        open_ = [name for name, replica in self.replicas.items() if has_room(replica)]
        return min(open_, key=cost, default=None)
