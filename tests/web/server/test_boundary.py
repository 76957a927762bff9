"""Whatever an app below raises or answers, one sentence comes out and every stream ends."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.owners import API
from lcm_studio.web.server import boundary
from lcm_studio.web.server.boundary import Boundary
from lcm_studio.web.server.stops import Stops

FAILURES: list[tuple[Exception, int, str]] = [
    (StudioError("this has its words"), 422, "this has its words"),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 507, boundary.DISK_FULL),
    (MemoryError(), 503, boundary.MEMORY),
    (ValueError("secret /home/ada"), 500, boundary.UNEXPECTED),
]


def client(answer: Callable[[Request], Any], path: str = "/x") -> TestClient:
    app = Starlette(routes=[Route(path, answer)])
    return TestClient(Boundary(app, Stops()))


@pytest.mark.parametrize(("error", "status", "words"), FAILURES)
def test_what_is_raised_becomes_a_sentence(error: Exception, status: int, words: str) -> None:
    async def fail(_: Request) -> Response:
        raise error

    answer = client(fail).get("/x")
    assert (answer.status_code, answer.json()) == (status, {"detail": words})


@pytest.mark.parametrize(("error", "status", "words"), FAILURES)
def test_a_stream_that_fails_says_so_and_ends(error: Exception, status: int, words: str) -> None:
    async def fail(_: Request) -> Response:
        async def parts() -> Any:
            yield 'data: {"msg": "first"}\n\n'
            raise error

        return StreamingResponse(parts(), media_type="text/event-stream")

    first, last = client(fail).get("/x").text.split("\n\n")[:2]
    assert json.loads(first[6:]) == {"msg": "first"}
    assert json.loads(last[6:]) == {"msg": "unexpected_error", "message": words, "success": False}


@pytest.mark.parametrize(
    ("body", "status", "kept"),
    [
        (PlainTextResponse("Internal Server Error", 500), 500, False),
        (JSONResponse({"detail": [{"loc": ["body"], "msg": "field required"}]}, 422), 422, False),
        (JSONResponse({"detail": "Queue is full. Max size is 4 and size is 4."}, 503), 503, False),
        (JSONResponse({"error": "steps=0 is out of range; use 1 to 50"}, 500), 500, True),
        (PlainTextResponse("x" * 200_000, 404), 404, False),
    ],
)
def test_errors_of_others_are_put_into_words(body: Response, status: int, kept: bool) -> None:
    async def answer(_: Request) -> Response:
        return body

    said = client(answer).get("/x")
    assert said.status_code == status
    if kept:
        assert said.json() == {"error": "steps=0 is out of range; use 1 to 50"}
    else:
        assert said.json() == {"detail": boundary.BY_STATUS.get(status, boundary.UNEXPECTED)}


def test_our_own_words_stay() -> None:
    async def answer(_: Request) -> Response:
        return JSONResponse({"detail": "There is no such run."}, 404, headers={"x-mine": "1"})

    said = client(answer, "/studio/x").get("/studio/x")
    assert said.json() == {"detail": "There is no such run."} and said.headers["x-mine"] == "1"


@pytest.mark.parametrize("raised", [True, False])
def test_our_own_words_are_those_of_the_page(raised: bool) -> None:
    words = "inpaint needs a mask: paint one"

    async def answer(_: Request) -> Response:
        if raised:
            raise StudioError(words)
        return JSONResponse({"detail": words}, 422, headers={"X-More": "1"})

    said = client(answer, "/studio/x").get("/studio/x")
    assert said.json() == {"detail": "Repaint needs a mask: paint one"}
    assert raised or said.headers["x-more"] == "1"


def test_errors_inside_a_stream_are_put_into_words() -> None:
    raw = (
        b'data: {"msg":"unexpected_error","message":"404: Not Found","session_not_found":true}\n\n'
    )
    assert json.loads(boundary.in_words(raw)[6:])["message"] == boundary.OVER
    assert boundary.in_words(
        b'event: error\ndata: "KeyError"\n\n'
    ) == b"event: error\ndata: %s\n\n" % (json.dumps(boundary.OVER).encode())
    for other in (
        b'data: {"msg":"log","log":"x"}\n\n',
        b"",
        b'event: complete\ndata: ["unexpected_error"]\n\n',
    ):
        assert boundary.in_words(other) == other


def run(work: Coroutine[Any, Any, None]) -> None:
    """In a thread of its own: this one may have a loop already, a browser test's."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


@pytest.mark.parametrize("polite", [False, True], ids=["cut off", "ended"])
@pytest.mark.parametrize(
    ("path", "query"),
    [("/gradio_api/queue/data", b"session_hash=abc"), ("/gradio_api/call/generate/abc", b"")],
)
def test_a_stream_that_is_left_stops_its_requests(path: str, query: bytes, polite: bool) -> None:
    stops = Stops()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == path:  # the client goes: the server returns, with or without an end
            await receive()
            if not polite:
                return
        await send({"type": "http.response.body", "body": b""})

    async def send(_: Any) -> None: ...

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": path, "query_string": query, "headers": []}
    with (
        stops.under_way("abc", API) as mine,
        stops.under_way("abc", "create") as page,
        stops.under_way("other", API) as other,
    ):
        run(Boundary(app, stops)(scope, receive, send))
        assert [t.stop.is_set() for t in (mine, page, other)] == [True, False, False]
        run(Boundary(app, stops)({**scope, "path": "/elsewhere"}, receive, send))
        assert not other.stop.is_set()
