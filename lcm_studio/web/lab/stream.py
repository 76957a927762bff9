"""Messages of the Lab's routes: a JSON header and typed arrays behind it, many in one answer as the work goes on.

Each is `[length of header][length of body][header][body]`, both lengths uint32, little-endian. The work runs in a
thread; a browser that leaves, which is how it says Stop, ends it within one step.
"""

from __future__ import annotations

import asyncio
import json
import struct
import threading
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import closing
from typing import Any

from starlette.requests import Request as Http
from starlette.responses import JSONResponse, Response, StreamingResponse

from lcm_studio.spec.errors import BadRequest, StudioError

MAX_BODY = 512 * 1024
MAX_PICTURES = 32 * 1024 * 1024
MEDIA = "application/octet-stream"
UNSTORED = {"Cache-Control": "no-store"}


def pack(header: Mapping[str, Any], body: bytes = b"") -> bytes:
    """One message."""
    words = json.dumps(header, allow_nan=False).encode()
    return struct.pack("<II", len(words), len(body)) + words + body


def unpack(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """The messages of a whole answer."""
    messages, at = [], 0
    while at < len(data):
        head, size = struct.unpack_from("<II", data, at)
        start = at + 8 + head
        messages.append((json.loads(data[at + 8 : start]), data[start : start + size]))
        at = start + size
    return messages


def parted(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """The messages of a request. Raises BadRequest."""
    if len(data) > MAX_PICTURES:
        raise BadRequest(f"the request has {len(data)} bytes; send at most {MAX_PICTURES}")
    try:
        return unpack(data)
    except (ValueError, struct.error, RecursionError) as error:
        raise BadRequest("the request is damaged; send it again") from error


async def json_body(http: Http, most: int = MAX_BODY) -> Mapping[str, Any]:
    """The JSON object of a request. Raises BadRequest."""
    raw = await http.body()
    if len(raw) > most:
        raise BadRequest(f"the request has {len(raw)} bytes; send at most {most}")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, Mapping):
        raise BadRequest("the request is no JSON object; send one")
    return value


class Bench:
    """Runs the work of one bench: at most `limit` at once for all users together."""

    def __init__(self, limit: int) -> None:
        self.slots = threading.BoundedSemaphore(limit)

    async def answer(self, make: Callable[[], Generator[bytes, None, None]]) -> Response:
        """`make()` checks and raises StudioError, or returns the messages, which are made while they are sent."""
        if not self.slots.acquire(blocking=False):
            return busy()
        started = False
        try:
            messages = await asyncio.to_thread(make)
            started = True
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 422)
        finally:
            if not started:
                self.slots.release()
        return StreamingResponse(self._sent(messages), media_type=MEDIA, headers=UNSTORED)

    async def once(self, make: Callable[[], bytes], media: str) -> Response:
        """What `make()` returns, which is made at once."""
        if not self.slots.acquire(blocking=False):
            return busy()
        try:
            return Response(await asyncio.to_thread(make), media_type=media, headers=UNSTORED)
        except StudioError as error:
            return JSONResponse({"detail": str(error)}, 422)
        finally:
            self.slots.release()

    async def _sent(self, messages: Generator[bytes, None, None]) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        gone = threading.Event()

        def post(message: bytes | None) -> None:
            loop.call_soon_threadsafe(inbox.put_nowait, message)

        def work() -> None:
            try:
                with closing(messages):
                    for message in messages:
                        if gone.is_set():
                            return
                        post(message)
            except StudioError as error:
                post(pack({"kind": "failed", "text": str(error)}))
            except ArithmeticError as error:
                post(pack({"kind": "failed", "text": f"{error}; choose other settings."}))
            finally:
                self.slots.release()
                post(None)

        threading.Thread(target=work, name="lab", daemon=True).start()
        try:
            while (message := await inbox.get()) is not None:
                yield message
        finally:
            gone.set()


def busy() -> Response:
    text = "The Lab is busy with the work of others; try again in a moment."
    return JSONResponse({"detail": text}, 503)
