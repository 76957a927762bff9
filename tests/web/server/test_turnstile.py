"""The queue: fair, bounded, and stoppable by its owner only."""

from __future__ import annotations

import threading

import pytest

from lcm_studio.spec.errors import Busy
from lcm_studio.web.server.turnstile import Turnstile


def test_a_user_with_many_requests_does_not_hold_up_one_with_a_single_request() -> None:
    gate = Turnstile(running=1, waiting=10)
    first = gate.enter("greedy", "create")
    more = [gate.enter("greedy", "create") for _ in range(3)]
    other = gate.enter("patient", "create")
    assert first.running and not other.running
    gate.leave(first)
    assert more[0].running is False or other.running is False
    order = []
    waiting = [*more, other]
    while waiting:
        running = next(ticket for ticket in waiting if ticket.running)
        order.append(running.owner)
        waiting.remove(running)
        gate.leave(running)
    assert order.index("patient") <= 1


def test_owners_that_run_nothing_come_first() -> None:
    gate = Turnstile(running=2, waiting=10)
    running = [gate.enter("a", "t"), gate.enter("b", "t")]
    a, c = gate.enter("a", "t"), gate.enter("c", "t")
    gate.leave(running[1])
    assert c.running and not a.running


def test_full_queue_says_so() -> None:
    gate = Turnstile(running=1, waiting=1)
    gate.enter("a", "t")
    gate.enter("b", "t")
    with pytest.raises(Busy, match="the queue holds 1"):
        gate.enter("c", "t")


def test_positions_fall_until_the_turn_comes() -> None:
    gate = Turnstile(running=1, waiting=10)
    first, second, third = (gate.enter(name, "t") for name in "abc")
    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.extend(gate.wait(third, every=0.02)))
    reader.start()
    while seen != [2]:
        pass
    gate.leave(first)
    while seen != [2, 1]:
        pass
    gate.leave(second)
    reader.join(5)
    assert seen == [2, 1] and third.running


def test_stop_reaches_only_the_owner_and_tab() -> None:
    gate = Turnstile(running=4, waiting=4)
    mine, mine_elsewhere, theirs = (
        gate.enter("me", "create"),
        gate.enter("me", "edit"),
        gate.enter("you", "create"),
    )
    assert gate.stop("me", "create") == 1
    assert mine.stop.is_set()
    assert not mine_elsewhere.stop.is_set() and not theirs.stop.is_set()
    assert gate.stop("me") == 2


def test_eight_threads_claim_every_turn_exactly_once() -> None:
    gate = Turnstile(running=2, waiting=400)
    done: list[int] = []
    most, inside, lock = 0, 0, threading.Lock()

    def worker(name: int) -> None:
        nonlocal most, inside
        for i in range(25):
            ticket = gate.enter(str(name), "t")
            for _ in gate.wait(ticket, every=0.01):
                pass
            with lock:
                inside += 1
                most = max(most, inside)
            with lock:
                inside -= 1
                done.append(name * 100 + i)
            gate.leave(ticket)

    threads = [threading.Thread(target=worker, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == [n * 100 + i for n in range(8) for i in range(25)]
    assert most <= 2
