"""The remote engine against the front on a real socket; replicas are engines in this process, one of which dies."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from lcm_studio.engine.likeness import words_on
from lcm_studio.engine.remote import wire
from lcm_studio.engine.remote.client import RemoteEngine, parse
from lcm_studio.engine.remote.front import Front, ReplicaLost, asked
from lcm_studio.engine.remote.stream import streamed
from lcm_studio.spec.errors import BadRequest, ModelError, StudioError
from lcm_studio.spec.events import Done, Failed, Loading, Queued, Step, Stopped
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Generate
from tests.toy_engine import COLOUR, ToyEngine
from tests.toy_models import SD
from tests.web.conftest import free_port


class Here:
    """Replicas in this process. One that is in `dead` loses what it runs."""

    def __init__(self, *names: str) -> None:
        self.engines = {name: ToyEngine(pace=0.02, broken=("scenery-cm",)) for name in names}
        self.dead: set[str] = set()
        self.flags: dict[str, threading.Event] = {}

    def present(self) -> tuple[str, ...]:
        return tuple(name for name in self.engines if name not in self.dead)

    async def run(self, replica: str, ticket: str, frame: bytes) -> AsyncIterator[bytes]:
        _, request, owner = wire.unpack(frame)
        flag = self.flags[ticket] = threading.Event()
        async for part in streamed(self.engines[replica], request, owner, flag):
            if replica in self.dead:
                raise ReplicaLost(replica)
            yield part

    async def stop(self, replica: str, ticket: str) -> None:
        self.flags[ticket].set()

    async def ask(self, replica: str, what: str, given: tuple[Any, ...]) -> Any:
        return asked(self.engines[replica], what, given)


@pytest.fixture
def house() -> Iterator[tuple[RemoteEngine, Here, Front]]:
    here, port = Here("a", "b"), free_port()
    for engine in here.engines.values():
        engine.load("scenery-lcm")
    front = Front(ToyEngine(), here, limit=4, token="secret")
    app = Starlette(routes=[Route("/{path}", front.answer, methods=["GET", "POST"])])
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield RemoteEngine(f"ray://127.0.0.1:{port}", token="secret"), here, front
    server.should_exit = True
    thread.join(30)
    for engine in here.engines.values():
        engine.close()


def settled(front: Front) -> None:
    end = time.monotonic() + 30
    while front.visits or front.dispatcher.running:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_request_has_the_events_of_the_engine(house: Any) -> None:
    remote, _, front = house
    request = Generate(
        prompt="sunset",
        steps=3,
        seed=5,
        count=2,
        previews=True,
        width=64,
        height=64,
        model="scenery-lcm",
    )
    events = list(remote.run(request))
    with ToyEngine() as engine:
        engine.load("scenery-lcm")
        alone = list(engine.run(request))
        assert remote.catalog() == engine.catalog()
    assert [type(e) for e in events] == [type(e) for e in alone]
    assert events[-1].seeds == (5, 6) and events[-1].settings == alone[-1].settings
    for a, b in zip(events[-1].images, alone[-1].images, strict=True):
        assert np.array_equal(a, b)
    assert remote.info("some-sd") == SD
    remote.load("some-sd")
    settled(front)


def test_errors_are_those_of_the_engine(house: Any) -> None:
    remote, _, _ = house
    bad = Generate(steps=10**6)
    (failed,) = remote.run(bad)
    assert [failed] == list(ToyEngine().run(bad)) and isinstance(failed, Failed)
    with pytest.raises(ModelError, match="is unknown; choose one of"):
        remote.info("nothing")
    with pytest.raises(ModelError, match="is truncated; download it again"):
        remote.load("scenery-cm")
    with pytest.raises(StudioError, match="without --engine"):
        remote.lane("scenery-lcm")
    stranger = RemoteEngine(remote.address, token="wrong")
    assert "another token" in list(stranger.run(Generate()))[-1].message
    nobody = RemoteEngine(f"ray://127.0.0.1:{free_port()}")
    assert "cannot be reached" in list(nobody.run(Generate()))[-1].message
    assert nobody.state().status == "failed"
    for address in ("", "ftp://x", "ray://", "ray://h:99999999", "ray://h/path"):
        with pytest.raises(BadRequest):
            parse(address)


def test_a_picture_unlike_the_models_own_is_told_from_afar(house: Any) -> None:
    remote, _, _ = house
    red = np.zeros((1500, 3000, 3), np.uint8)
    red[..., 0] = 255
    words = words_on(remote, red, "scenery-lcm")
    with ToyEngine() as engine:
        engine.load("scenery-lcm")
        assert words == words_on(engine, red, "scenery-lcm")
    assert "unlike those that scenery-lcm was made from" in words
    its_own = np.full((64, 64, 3), COLOUR, np.uint8)
    assert words_on(remote, its_own, "scenery-lcm") == ""
    assert words_on(remote, red, "nothing") == ""


def test_stop_and_hanging_up_reach_the_replica(house: Any) -> None:
    remote, here, front = house
    flag = threading.Event()
    events = []
    for event in remote.run(Generate(steps=40, previews=True, width=64, height=64), flag.is_set):
        events.append(event)
        flag.set()
    assert isinstance(events[-1], Stopped) and len(events[-1].previews) == 1
    for event in remote.run(Generate(steps=40, width=64, height=64)):
        assert isinstance(event, Step)
        break
    settled(front)
    end = time.monotonic() + 30
    while sum(engine.cancelled for engine in here.engines.values()) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_wait_in_a_replicas_lane_is_no_place_in_the_line(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, _, front = house
    run = ToyEngine.run

    def waits(self: ToyEngine, *given: Any, **more: Any) -> Iterator[Any]:
        yield Queued(position=1)
        yield from run(self, *given, **more)

    monkeypatch.setattr(ToyEngine, "run", waits)
    events = list(remote.run(Generate(steps=2, width=64, height=64)))
    assert isinstance(events[-1], Done) and not any(isinstance(e, Queued) for e in events)
    settled(front)


def test_a_lost_replicas_requests_run_again_elsewhere(house: Any) -> None:
    remote, here, front = house
    running = remote.run(Generate(seed=3, steps=20, width=64, height=64))
    next(running)
    first = front.dispatcher.running[0].replica
    here.dead.add(first)
    rest = list(running)
    assert any(isinstance(e, Loading) and "runs again" in e.message for e in rest)
    assert isinstance(rest[-1], Done) and rest[-1].seeds == (3,)
    settled(front)
    here.dead.update(here.engines)  # nobody is left: it waits, and Stop ends it
    waiting = remote.run(Generate(), iter([False, False, True]).__next__)
    events = list(waiting)
    assert [type(e) for e in events if not isinstance(e, Step)][-1] is Stopped, events
    settled(front)


def test_the_wait_is_told_and_a_full_line_is_busy(house: Any) -> None:
    remote, _, front = house
    flag = threading.Event()
    seen: list[list[Any]] = [[] for _ in range(8)]

    def ask(number: int) -> None:
        request = Generate(count=16, steps=50, width=64, height=64, seed=number)
        for event in remote.run(request, flag.is_set, owner=Owner(person="one")):
            seen[number].append(event)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:  # four are in work, four wait
        before = len(front.visits)
        thread.start()
        while len(front.visits) == before:
            time.sleep(0.005)
    refused = list(remote.run(Generate(), owner=Owner(person="one")))
    assert isinstance(refused[-1], Failed) and "busy" in refused[-1].message
    single = list(remote.run(Generate(steps=1), owner=Owner(person="two")))
    assert isinstance(single[-1], Done)
    flag.set()
    for thread in threads:
        thread.join(60)
    firsts = [e.position for events in seen for e in events[:1] if isinstance(e, Queued)]
    assert sorted(firsts) == [1, 2, 3, 4]
    assert all(isinstance(events[-1], Stopped) for events in seen)
    settled(front)
