"""The server under load: what a session leaves behind, clients that hang up, files handed out, the busy answer."""

from __future__ import annotations

import gc
import http.client
import json
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from lcm_studio.web.app import build_app
from lcm_studio.web.options import Options
from lcm_studio.web.page import SESSIONS
from lcm_studio.web.server.blocks import UNREAD
from lcm_studio.web.server.guard import Buckets
from lcm_studio.web.server.handouts import Handouts
from tests.toy_engine import ToyEngine
from tests.web.conftest import free_port

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def toy_server() -> Iterator[tuple[int, ToyEngine, Any]]:
    """(port, engine, app) of a real server on the toy engine, whose steps take 20 ms."""
    engine, port = ToyEngine(pace=0.02), free_port()
    app: Any = build_app(lambda _: engine, Options(preload=False, port=port))
    app.buckets = Buckets(rate=1e9, burst=1e9)
    config = uvicorn.Config(
        app, port=port, log_level="error", ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield port, engine, app
    server.should_exit = True
    thread.join(30)


def ask(port: int, **settings: Any) -> str:
    """The event of a call of /generate."""
    values = {
        "prompt": "", "negative": "", "steps": 1, "guidance": None, "seed": 1, "count": 1, "width": 64, "height": 64,
        "model": "", "loras": None, "decoder": "default", "class_label": None,
    }  # fmt: skip
    data = [*({**values, **settings}).values()]
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    link.request("POST", "/gradio_api/call/generate", json.dumps({"data": data}), JSON)
    answer = json.loads(link.getresponse().read())
    link.close()
    return str(answer["event_id"])


def listen(port: int, event: str) -> http.client.HTTPConnection:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    link.request("GET", f"/gradio_api/call/generate/{event}")
    return link


def test_a_client_that_hangs_up_stops_its_request(toy_server: tuple[int, ToyEngine, Any]) -> None:
    port, engine, _ = toy_server
    before, pace = engine.cancelled, engine.pace
    engine.pace = 1.0  # fifty of them: it does not end by itself meanwhile
    event = ask(port, steps=50, count=16)
    link = listen(port, event)
    answer = link.getresponse()  # the stream is open
    answer.close()
    link.close()
    lane, end = engine.lane("scenery-lcm"), time.monotonic() + 120
    while (engine.cancelled == before or lane.load != (0, 0)) and time.monotonic() < end:
        time.sleep(0.02)
    engine.pace = pace
    assert engine.cancelled == before + 1 and lane.load == (0, 0)


def test_a_client_that_listens_gets_its_picture(toy_server: tuple[int, ToyEngine, Any]) -> None:
    port, engine, _ = toy_server
    before = engine.cancelled
    text = listen(port, ask(port)).getresponse().read().decode()
    assert "event: complete" in text and engine.cancelled == before


def test_a_session_in_work_outlives_many_others(toy_server: tuple[int, ToyEngine, Any]) -> None:
    """A session's messages were dropped once 256 others had come, and a message to it ended the queue for everybody."""
    port, engine, _ = toy_server
    pace, engine.pace = engine.pace, 0.2  # fifty of them: it does not end by itself meanwhile
    first = ask(port, steps=50)
    for _ in range(UNREAD + 20):
        ask(port, steps=10**6)  # refused; nobody reads why
    engine.pace = 0.0
    text = listen(port, first).getresponse().read().decode()
    engine.pace = pace
    assert "event: complete" in text
    assert "event: complete" in listen(port, ask(port)).getresponse().read().decode()


def test_sessions_leave_little_behind(toy_server: tuple[int, ToyEngine, Any]) -> None:
    """Each fresh session kept half a megabyte for good; now the latest few keep a little, and refusals nothing."""
    port, _, _ = toy_server
    from gradio.state_holder import StateHolder

    def visit(number: int) -> None:
        listen(port, ask(port, steps=1 if number % 2 else 10**6)).getresponse().read()

    for number in range(10):  # what is made once
        visit(number)
    gc.collect()
    tracemalloc.start()
    start, _ = tracemalloc.get_traced_memory()
    for number in range(60):
        visit(number)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - start
    tracemalloc.stop()
    assert grown < 60 * 50_000, f"{grown / 60 / 1000:.0f} kB of each session"
    holders = [x for x in gc.get_objects() if isinstance(x, StateHolder)]
    assert {holder.capacity for holder in holders if holder.session_data} <= {SESSIONS}


def test_a_full_queue_of_the_page_answers_in_words(
    toy_server: tuple[int, ToyEngine, Any],
) -> None:
    port, _, _ = toy_server
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    link.request("POST", "/gradio_api/run/generate", json.dumps({"data": [""]}), JSON)
    answer = link.getresponse()
    assert answer.status == 404  # nobody passes the queue by
    assert "detail" in json.loads(answer.read())


def test_files_are_handed_out_once_and_for_an_hour(tmp_path: Path) -> None:
    source = tmp_path / "picture.png"
    source.write_bytes(b"x" * 1000)
    handouts = Handouts(tmp_path / "api", seconds=3600, most=3)
    files = [handouts.add(source, "a.png") for _ in range(5)]
    assert [path.exists() for path in files] == [False, False, True, True, True]
    assert files[-1].stat().st_ino == source.stat().st_ino  # no second copy
    assert len({path.parent for path in files}) == 5
    old = Handouts(tmp_path / "old", seconds=0)
    first = old.add(source, "a.png")
    old.add(source, "b.png")
    assert not first.exists()
