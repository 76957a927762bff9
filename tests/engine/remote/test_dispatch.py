"""One line before many replicas: who starts, where, and what is told of the wait."""

from __future__ import annotations

import pytest

from lcm_studio.engine.remote.dispatch import Dispatcher, Ticket
from lcm_studio.spec.errors import Busy
from lcm_studio.spec.owners import Owner


def ticket(name: str, rows: int = 1, person: str = "", **more: str) -> Ticket:
    return Ticket(name, rows, more.pop("model", "m"), owner=Owner(person=person or name), **more)  # type: ignore[arg-type]


def dispatcher(*names: str, limit: int = 100, capacity: int = 4) -> Dispatcher:
    made = Dispatcher(limit, capacity=capacity)
    made.present(names)
    return made


def test_requests_spread_over_replicas() -> None:
    d = Dispatcher(100, capacity=16, model="m")
    d.present(["a", "b", "c"])
    for i in range(9):
        d.join(ticket(str(i)))
    d.deal()
    assert [r.rows for r in d.replicas.values()] == [3, 3, 3]


def test_a_model_stays_where_it_is_until_that_is_full() -> None:
    d = dispatcher("a", "b", capacity=32)
    for i in range(5):
        d.join(ticket(str(i), 8, person="one"))
    started = d.deal()
    assert [t.replica for t in started][:4] == ["a"] * 4 or [t.replica for t in started][:4] == [
        "b"
    ] * 4
    assert started[4].replica != started[0].replica


def test_live_then_single_then_batches() -> None:
    d = dispatcher("a", capacity=2)
    full = ticket("full", 2, person="x")
    d.join(full)
    d.deal()
    for t in (
        ticket("batch", 16, person="x"),
        ticket("single", person="x"),
        ticket("live", person="x", priority="live"),
    ):
        d.join(t)
    assert [t.id for t in d.waiting] == ["live", "single", "batch"]
    assert [t.id for t in d.deal()] == ["live"]
    d.end(full)
    assert [t.id for t in d.deal()] == ["single"]


def test_many_of_one_person_hold_nobody_back() -> None:
    d = dispatcher("a", "b")
    for i in range(20):
        d.join(ticket(str(i), 4, person="crowd"))
    d.deal()
    d.join(ticket("other"))
    assert [t.id for t in d.deal()] == ["other"]


def test_a_full_line_is_busy_and_what_was_lost_waits_again() -> None:
    d = dispatcher("a", "b", limit=1)
    running = [ticket(str(i), 4, person="one") for i in range(2)]
    for t in running:
        d.join(t)
        d.deal()
    d.join(ticket("waits", 4, person="one"))
    with pytest.raises(Busy):
        d.join(ticket("refused", 4, person="one"))
    lost = next(t for t in running if t.replica == "a")
    d.again(lost)
    d.present(["b"])
    assert lost in d.waiting and not d.deal()
    d.present(["b", "c"])
    assert len(d.deal()) == 1
    for t in (*d.running, *d.waiting):
        d.end(t)
    assert not d.running and not d.waiting
