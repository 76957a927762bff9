"""Work outside the networks: it holds nobody else up, tells its progress, and is dropped when nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from lcm_studio.engine import Engine, EngineConfig, computing
from lcm_studio.engine.workers import Workers
from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.events import Done, Failed, Step, Stopped, Working
from lcm_studio.spec.requests import Edit, Generate

IMAGE = np.random.default_rng(0).integers(60, 200, (24, 24, 3), np.uint8)


class Endless:
    """A finish that goes on until it is told to end, or that nobody waits for it."""

    def __init__(self) -> None:
        self.entered, self.end, self.left = (threading.Event() for _ in range(3))

    def __call__(self, op: Any, x: Any, y: Any, *, report: Any, **more: Any) -> Any:
        self.entered.set()
        try:
            while not self.end.wait(0.005):
                report(0.5)
        finally:
            self.left.set()
        return np.clip(x, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def engine(tiny_models) -> Iterator[Engine]:
    with Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu")) as engine:
        engine.load("lcm")
        yield engine


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Endless:
    found = Endless()
    monkeypatch.setattr("lcm_studio.edits.finish.meet_operator", found)
    monkeypatch.setattr(computing, "QUIET", 0.0)
    return found


def deblur(**more: Any) -> Edit:
    options = {"kernel": "gaussian:2", "exact": "always"}
    return Edit(task="deblur", image=IMAGE, model="lcm", steps=1, options=options, **more)


def calls(engine: Engine) -> int:
    """Network calls of a one-step request, from now until it is there."""
    before = engine.lane("lcm").calls
    assert isinstance(list(engine.run(Generate(model="lcm", steps=1)))[-1], Done)
    return engine.lane("lcm").calls - before


def test_a_long_finish_holds_nobody_up_and_stop_ends_it(engine: Engine, endless: Endless) -> None:
    alone = calls(engine)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(lambda: list(engine.run(deblur(), stop.is_set)))
        assert endless.entered.wait(30)
        assert calls(engine) <= 3 * alone
        assert not long.done()
        before = engine.lane("lcm").calls
        stop.set()
        events = long.result(timeout=30)
    assert isinstance(events[-1], Stopped)
    assert len(events[-1].previews) == 1
    assert engine.lane("lcm").calls == before
    assert endless.left.wait(30)
    assert engine.lane("lcm").load == (0, 0)


def test_progress_is_told_and_the_answer_comes_back(engine: Engine, endless: Endless) -> None:
    events = []
    for event in engine.run(deblur()):
        events.append(event)
        if isinstance(event, Working) and event.share == 0.5:
            endless.end.set()
    told = [e for e in events if isinstance(e, Working)]
    assert ("Making it exact", 0.5) in {(e.message, e.share) for e in told}
    assert isinstance(events[-1], Done)
    assert events[-1].timing["compute"] > 0
    last = [e for e in events if isinstance(e, Step)][-1]
    assert last.remaining is None  # what is left then is not the network's


def test_a_fault_outside_the_network_ends_that_session_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise BadRequest("this picture cannot be finished; give another")

    monkeypatch.setattr("lcm_studio.edits.finish.meet_operator", refuse)
    last = list(engine.run(deblur()))[-1]
    assert isinstance(last, Failed)
    assert last.message == "this picture cannot be finished; give another"
    assert calls(engine) >= 1


def test_a_lane_that_closes_waits_for_what_is_computed(tiny_models: Any, endless: Endless) -> None:
    engine = Engine(EngineConfig(models_dirs=(tiny_models,), device="cpu"))
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(lambda: list(engine.run(deblur())))
        assert endless.entered.wait(30)
        engine.close()
        assert endless.left.is_set()
        assert isinstance(long.result(timeout=30)[-1], Failed)


def test_workers_run_a_few_at_once_and_all_in_the_end() -> None:
    workers = Workers(2)
    go, done = threading.Event(), threading.Semaphore(0)
    running: list[int] = []
    most: list[int] = []

    def job() -> None:
        running.append(1)
        most.append(len(running))
        go.wait(10)
        running.pop()
        done.release()

    for _ in range(6):
        workers.submit(job)
    go.set()
    for _ in range(6):
        assert done.acquire(timeout=10)
    assert max(most) <= 2
