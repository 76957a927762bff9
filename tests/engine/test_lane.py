"""Continuous batching: whoever asks, every picture is the one it would be alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from lcm_studio.engine.batch import shares
from lcm_studio.engine.lane import Lane
from lcm_studio.engine.run import Order, run_request
from lcm_studio.engine.session import session as session_of
from lcm_studio.maths.schedule import NoiseSchedule
from lcm_studio.spec.events import Done, Failed, Queued, Step, Stopped
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Generate
from tests.toy import GaussianToy

VP = NoiseSchedule.from_config({"beta_schedule": "scaled_linear"})


class SlowToy(GaussianToy):
    """Takes its time, and remembers how many rows each call had."""

    def __init__(self, seconds: float = 0.02) -> None:
        super().__init__(VP)
        self.seconds = seconds
        self.calls: list[int] = []
        self.hold: threading.Event | None = None

    def predict(self, x_t: torch.Tensor, t: torch.Tensor, cond: Any) -> torch.Tensor:
        if self.hold is not None:
            self.hold.wait(5)
        time.sleep(self.seconds)
        self.calls.append(len(x_t))
        return super().predict(x_t, t, cond)


@pytest.fixture
def toy() -> SlowToy:
    return SlowToy()


@pytest.fixture
def lane(toy: SlowToy) -> Iterator[Lane]:
    lane = Lane(toy, max_rows=8)  # type: ignore[arg-type]
    yield lane
    lane.close()


def request(i: int = 0, **more: Any) -> Generate:
    return Generate(**{"prompt": str(i / 16), "seed": i, "steps": 4, "model": "toy", **more})


def last(lane: Lane, asked: Generate, cancelled: Any = lambda: False) -> Any:
    return list(run_request(Order(request=asked, lane=lane, cancelled=cancelled)))[-1]


def test_eight_clients_share_calls_and_get_their_own_pictures(lane: Lane, toy: SlowToy) -> None:
    alone = [last(lane, request(i, steps=1 + i % 4)).images[0] for i in range(8)]
    toy.calls.clear()
    toy.hold = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(last, lane, request(i, steps=1 + i % 4)) for i in range(8)]
        while sum(lane.load) < 8:
            time.sleep(0.001)
        toy.hold.set()
        together = [f.result().images[0] for f in futures]
    for a, b in zip(alone, together, strict=True):
        assert np.abs(a.astype(int) - b.astype(int)).max() <= 1
    assert sum(toy.calls) == sum(1 + i % 4 for i in range(8))
    assert len(toy.calls) <= 6


def test_steps_come_in_order_with_previews(lane: Lane) -> None:
    events = list(run_request(Order(request=request(previews=True, count=2), lane=lane)))
    steps = [e for e in events if isinstance(e, Step)]
    assert [(s.done, s.total) for s in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [len(s.previews) for s in steps] == [2, 2, 2, 0]
    done = events[-1]
    assert isinstance(done, Done)
    assert done.seeds == (0, 1)
    assert done.timing["evaluations"] == 8
    assert done.timing["total"] >= done.timing["network"] > 0


def test_a_large_request_does_not_starve_a_single_picture(lane: Lane, toy: SlowToy) -> None:
    toy.seconds = 0.05
    with ThreadPoolExecutor(2) as pool:
        large = pool.submit(last, lane, request(count=16, steps=8))
        while not toy.calls:
            time.sleep(0.001)
        toy.hold = threading.Event()  # no call ends before the single picture has been asked for
        single = pool.submit(last, lane, request(3, steps=2))
        while sum(lane.load) < 2:
            time.sleep(0.001)
        before = len(toy.calls)
        toy.hold.set()
        assert isinstance(single.result(), Done)
        assert not large.done()
        assert len(toy.calls) - before <= 5  # calls of the network, two of them its own
        assert len(large.result().images) == 16


def test_live_overtakes_but_does_not_starve(lane: Lane, toy: SlowToy) -> None:
    toy.seconds = 0.03
    stop = threading.Event()
    waited: list[int] = []  # calls of the network until a live picture was there

    def live() -> None:
        while not stop.is_set():
            before = len(toy.calls)
            last(lane, request(1, steps=1, priority="live"))
            waited.append(len(toy.calls) - before)

    with ThreadPoolExecutor(5) as pool:
        normal = [pool.submit(last, lane, request(i, steps=8, count=4)) for i in range(3)]
        while not toy.calls:
            time.sleep(0.001)
        pool.submit(live)
        assert all(isinstance(f.result(timeout=20), Done) for f in normal)
        stop.set()
    assert len(waited) > 5
    assert float(np.median(waited)) < 5


def test_stop_ends_within_a_step_and_keeps_what_is_there(lane: Lane, toy: SlowToy) -> None:
    toy.seconds = 0.05
    flag = threading.Event()
    events = []
    asked = 0
    order = Order(request=request(steps=40, count=2), lane=lane, cancelled=flag.is_set)
    for event in run_request(order):
        events.append(event)
        if isinstance(event, Step) and event.done == 2:
            flag.set()
            asked = len(toy.calls)
    assert isinstance(events[-1], Stopped)
    assert len(toy.calls) - asked <= 2
    assert len(events[-1].previews) == 2
    assert len(toy.calls) <= 4
    assert lane.load == (0, 0)


def test_stop_keeps_finished_pictures(lane: Lane, toy: SlowToy) -> None:
    def stop() -> bool:
        """Asked by the lane between two calls: after the first step of the second eight pictures."""
        return len(toy.calls) >= 3

    ended = last(lane, request(steps=2, count=16), stop)
    assert isinstance(ended, Stopped)
    assert (len(ended.images), ended.seeds) == (8, tuple(range(8)))


def test_leaving_the_iterator_cancels(lane: Lane, toy: SlowToy) -> None:
    for event in run_request(Order(request=request(steps=40), lane=lane)):
        if isinstance(event, Step):
            break
    del event
    deadline = time.perf_counter() + 3
    while lane.load != (0, 0) and time.perf_counter() < deadline:
        time.sleep(0.01)
    assert lane.load == (0, 0)
    assert len(toy.calls) < 10


def test_one_failing_session_leaves_the_others_alone(lane: Lane) -> None:
    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(last, lane, request(steps=6))
        bad = pool.submit(last, lane, request(prompt="not a number"))
        assert isinstance(bad.result(), Failed)
        assert "report this" in bad.result().message
        assert isinstance(good.result(), Done)


def test_out_of_memory_halves_the_calls(lane: Lane, toy: SlowToy) -> None:
    whole = toy.__class__.predict

    def predict(x_t: torch.Tensor, t: torch.Tensor, cond: Any) -> torch.Tensor:
        if len(x_t) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(toy, x_t, t, cond)

    toy.predict = predict  # type: ignore[method-assign]
    done = last(lane, request(count=8, steps=2))
    assert isinstance(done, Done)
    assert max(toy.calls) == 2

    def never(x_t: torch.Tensor, t: torch.Tensor, cond: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    toy.predict = never  # type: ignore[method-assign]
    failed = last(lane, request(count=2))
    assert isinstance(failed, Failed)
    assert "smaller size" in failed.message


def test_live_is_admitted_where_the_lane_is_full(toy: SlowToy) -> None:
    lane = Lane(toy, max_rows=2, max_running=2)  # type: ignore[arg-type]
    with ThreadPoolExecutor(2) as pool:
        full = pool.submit(last, lane, request(count=2, steps=20))
        while lane.load[0] < 1:
            time.sleep(0.001)
        live = last(lane, request(1, steps=1, priority="live"))
        assert isinstance(live, Done)
        assert not full.done()
        full.result()
    lane.close()


def test_a_full_queue_says_so(toy: SlowToy) -> None:
    toy.seconds = 0.05
    lane = Lane(toy, max_rows=2, max_running=2, max_waiting=1)  # type: ignore[arg-type]
    seen: list[Any] = []

    def collect(i: int) -> None:
        seen.extend(run_request(Order(request=request(i, count=2, steps=4), lane=lane)))

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(collect, 1)
        while lane.load[0] < 1:
            time.sleep(0.001)
        second = pool.submit(collect, 2)
        while lane.load[1] < 1:
            time.sleep(0.001)
        refused = last(lane, request(3))
        assert isinstance(refused, Failed)
        assert "waiting" in refused.message
        first.result()
        second.result()
    assert any(isinstance(e, Queued) and e.position == 1 for e in seen)
    assert sum(isinstance(e, Done) for e in seen) == 2
    lane.close()
    assert isinstance(last(lane, request()), Failed)


def test_shares_are_fair() -> None:
    assert shares([16, 1, 1], 8) == [6, 1, 1]
    assert shares([1, 1], 8) == [1, 1]
    assert shares([5, 5, 5], 7) == [3, 2, 2]
    assert shares([4], 0) == [0]


def test_rows_bound_a_request_of_many_pictures(toy: SlowToy) -> None:
    session = session_of(request(count=5, steps=1), toy, tuple(range(5)), 2)  # type: ignore[arg-type]
    from lcm_studio.sampling import drive

    outcome = drive(session, toy)
    assert len(outcome.images) == len(outcome.flagged) == 5
    assert toy.calls == [2, 2, 1]


def test_many_large_requests_of_one_owner_hold_nobody_back(toy: SlowToy) -> None:
    """Another person's single picture starts at once and has a place in every call."""
    toy.seconds = 0.01
    lane = Lane(toy, max_rows=8, max_running=16, max_waiting=64)  # type: ignore[arg-type]
    heavy, light = Owner(person="heavy", session="1"), Owner(person="light", session="1")
    flag = threading.Event()

    def large(i: int) -> Any:
        asked = request(i % 16, count=8, steps=50)
        order = Order(request=asked, lane=lane, cancelled=flag.is_set, owner=heavy)
        return list(run_request(order))[-1]

    with ThreadPoolExecutor(32) as pool:
        crowd = [pool.submit(large, i) for i in range(30)]
        while sum(lane.load) < 30:
            time.sleep(0.001)
        before = len(toy.calls)
        events = list(run_request(Order(request=request(3, steps=4), lane=lane, owner=light)))
        assert isinstance(events[-1], Done)
        assert len(toy.calls) - before <= 4 + 3
        assert sum(lane.load) == 30
        flag.set()
        for future in crowd:
            future.result()
    lane.close()
