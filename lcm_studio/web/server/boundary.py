"""Where whatever goes wrong becomes one sentence: errors of our routes, of Gradio's, and of its event streams.

A traceback, a library's message or a list of a validator's findings helps nobody at the page and tells strangers
about the machine. It goes to the log; the answer says what to do.
"""

from __future__ import annotations

import errno
import json
import logging
from typing import TYPE_CHECKING, Any

from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.owners import API
from lcm_studio.web.views import in_page_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from lcm_studio.web.server.stops import Stops

log = logging.getLogger("lcm_studio.web")

FULL = {errno.ENOSPC, errno.EDQUOT}
UNEXPECTED = "Something went wrong in the studio; try again, and see its log if it stays so."
DISK_FULL = "The disk of the studio's machine is full; free some space there."
MEMORY = "The studio is out of memory; use a smaller picture or fewer of them."
MISFIT = (
    "The request does not fit what the studio expects; reload the page, or see docs/guide/api.md."
)
OVER = "The connection of this page is over; reload the page."
BY_STATUS = {
    400: MISFIT,
    401: "Sign in first.",
    403: "This is not allowed here.",
    404: "There is nothing at this address; reload the page.",
    405: "This address does not take such a request; see docs/guide/api.md.",
    413: "The upload is too large; choose a smaller file.",
    422: MISFIT,
    429: "Too many requests; wait a moment.",
    503: "The studio is busy; try again in a moment.",
    507: DISK_FULL,
}
OURS = "/studio/"  # our own routes answer with sentences of their own
STREAMS = ("/gradio_api/queue/data", "/gradio_api/call/")
MAX_ERROR = 64 * 1024


def sentence(error: BaseException) -> tuple[int, str]:
    """(status, words) for a failure. What nobody expected goes to the log with its traceback."""
    if isinstance(error, StudioError):
        return 422, str(error)
    if isinstance(error, OSError) and error.errno in FULL:
        return 507, DISK_FULL
    if isinstance(error, MemoryError):
        return 503, MEMORY
    log.error("unexpected %s", type(error).__name__, exc_info=error)
    return 500, UNEXPECTED


class Boundary:
    """ASGI, inside the guard. It also stops the requests of an API client that has hung up."""

    def __init__(self, app: ASGIApp, stops: Stops) -> None:
        self.app, self.stops = app, stops

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = Answer(send, ours=scope["path"].startswith(OURS))

        async def heard() -> Message:
            message = await receive()
            answer.left |= message["type"] == "http.disconnect" and not answer.ended
            return message

        try:
            await self.app(scope, heard, answer.send)
            await answer.settle()
        except Exception as error:  # noqa: BLE001  the last line: nothing raw leaves the studio
            await answer.fail(*sentence(error))
        finally:
            # Gradio ends the stream of a client that has gone as it ends every other.
            if (answer.left or not answer.ended) and (session := watched(scope)):
                self.stops.stop(session, API)


def watched(scope: Scope) -> str:
    """The session whose results a stream carries; empty for everything else."""
    path = scope["path"]
    if path == STREAMS[0]:
        from urllib.parse import parse_qs

        query = parse_qs(scope["query_string"].decode("latin-1"))
        return query.get("session_hash", [""])[0]
    if scope["method"] == "GET" and path.startswith(STREAMS[1]):
        return str(path.rstrip("/").rpartition("/")[2])
    return ""


class Answer:
    """Passes a response on; one that reports an error is held back and put into words."""

    def __init__(self, send: Send, *, ours: bool) -> None:
        self._send, self._ours = send, ours
        self._held: Message | None = None
        self._body = b""
        self._started = False
        self._stream = False
        self.ended = False
        self.left = False  # the client went before the end

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            if message["status"] >= 400:
                self._held = message
                return
            self._started = True
            self._stream = b"text/event-stream" in dict(message["headers"]).get(
                b"content-type", b""
            )
        elif kind == "http.response.body":
            if self._held is not None:
                await self._hold(message)
                return
            if self._stream and message.get("body"):
                message = {**message, "body": in_words(message["body"])}
            self.ended = not message.get("more_body")
        await self._send(message)

    async def _hold(self, message: Message) -> None:
        self._body = (self._body + message.get("body", b""))[: MAX_ERROR + 1]
        if not message.get("more_body") and self._held is not None and self._held["status"] != 500:
            await self.settle()

    async def settle(self) -> None:
        """Sends what was held back. A 500 waits for the exception behind it, which knows more."""
        if self._held is None:
            return
        start, self._held = self._held, None
        if self._ours and (words := detail(self._body)):
            await self._reply(start["status"], {"detail": in_page_words(words)}, start["headers"])
            return
        await self._reply(start["status"], worded(start["status"], self._body))

    async def fail(self, status: int, text: str) -> None:
        """The app has raised: an answer where none has begun, an ending where one has."""
        if self.ended:
            return
        if not self._started:
            self._held = None
            words = in_page_words(text) if self._ours else text
            await self._reply(status, {"detail": words})
            return
        if self._stream:
            word = {"msg": "unexpected_error", "message": text, "success": False}
            await self._send(
                {
                    "type": "http.response.body",
                    "body": f"data: {json.dumps(word)}\n\n".encode(),
                    "more_body": True,
                }
            )
        self.ended = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _reply(
        self, status: int, value: Any, more: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        body = json.dumps(value).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        headers += [(name, text) for name, text in more if name not in dict(headers)]
        self._started = self.ended = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def detail(body: bytes) -> str:
    """What an error of our own routes has said; empty where it is nothing."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    words = value.get("detail") if isinstance(value, dict) else None
    return words if isinstance(words, str) else ""


def worded(status: int, body: bytes) -> dict[str, Any]:
    """The body of an error of Gradio's: what a function has said stays, everything else becomes a sentence."""
    try:
        value = json.loads(body) if len(body) <= MAX_ERROR else None
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and isinstance(value.get("error"), str):
        return value
    return {"detail": BY_STATUS.get(status, UNEXPECTED)}


def in_words(chunk: bytes) -> bytes:
    """A part of an event stream, where the stream itself has failed in words of ours."""
    if b"unexpected_error" in chunk[:80] and chunk.startswith(b"data: {"):
        try:
            message = json.loads(chunk[6:])
        except ValueError:
            return chunk
        if message.get("msg") != "unexpected_error":
            return chunk
        message["message"] = OVER if message.get("session_not_found") else UNEXPECTED
        return f"data: {json.dumps(message)}\n\n".encode()
    if chunk.startswith(b'event: error\ndata: "'):
        return f"event: error\ndata: {json.dumps(OVER)}\n\n".encode()
    return chunk
