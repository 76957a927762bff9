"""The events of an engine, which blocks, as an asynchronous stream of frames."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from lcm_studio.engine.remote import wire
from lcm_studio.spec.events import Queued

if TYPE_CHECKING:
    from lcm_studio.engine import Engine
    from lcm_studio.spec.owners import Owner
    from lcm_studio.spec.requests import Request


async def streamed(
    engine: Engine, request: Request, owner: Owner, flag: threading.Event
) -> AsyncIterator[bytes]:
    """A frame for each event of the request. `flag` stops it; leaving the stream raises the flag.

    Positions are told by the front alone: where a replica's lane still ends what was stopped a moment ago, a request may
    wait there for a step, and its place there is none in the one line.
    """
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[bytes | None] = asyncio.Queue()

    def work() -> None:
        try:
            for event in engine.run(request, flag.is_set, owner=owner):
                if isinstance(event, Queued):
                    continue
                loop.call_soon_threadsafe(inbox.put_nowait, wire.pack(event))
        finally:
            loop.call_soon_threadsafe(inbox.put_nowait, None)

    threading.Thread(target=work, name="run", daemon=True).start()
    try:
        while (part := await inbox.get()) is not None:
            yield part
    finally:
        flag.set()
