"""The door of a deployment: HTTP in, frames of events out, requests shared out to replicas. No Ray here."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lcm_studio.engine.remote import wire
from lcm_studio.engine.remote.dispatch import Dispatcher, Ticket
from lcm_studio.spec.errors import BadRequest, Busy, ModelError, StudioError
from lcm_studio.spec.events import Failed, Loading, Queued, Stopped
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Edit, Generate

if TYPE_CHECKING:
    from starlette.requests import Request as Http
    from starlette.responses import Response

    from lcm_studio.engine import Engine

LOOK = 0.5  # seconds between looks at which replicas are there
ALIVE = 5.0  # seconds without an event after which an empty frame says that the connection lives
TRIES = 3
SHUN = 30.0  # seconds that a replica gets no requests after it has lost one
LOST = "The machine that worked on this request was lost {tries} times; send the request again."


class ReplicaLost(Exception):
    """The replica died, or was not the one that was meant."""


class Replicas(Protocol):
    """How the front reaches the engines. All raise ReplicaLost."""

    def present(self) -> tuple[str, ...]:
        """Names of those that are ready."""

    def run(self, replica: str, ticket: str, frame: bytes) -> AsyncIterator[bytes]:
        """Frames of the events of a request, the last of them its end."""

    async def stop(self, replica: str, ticket: str) -> None:
        """Asks a running request to stop; its events go on to Stopped."""

    async def ask(self, replica: str, what: str, given: tuple[Any, ...]) -> Any:
        """`load` a model, the `state` of the last load, or the `likeness` of a picture; `given`: a model and what else it takes."""


class Visit:
    """One request of a client and what happens to it: ("queued", position), ("start", replica), ("stop", "")."""

    def __init__(self, ticket: Ticket, frame: bytes) -> None:
        self.ticket, self.frame = ticket, frame
        self.news: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.stopped = False
        self.position = 0


class Front:
    """`engine` answers what needs no network: catalog, infos, checks; it loads nothing. `token`: wanted of every client.
    `model`: that every replica has from its start."""

    def __init__(
        self, engine: Engine, replicas: Replicas, *, limit: int, token: str = "", model: str = ""
    ) -> None:
        self.engine, self.replicas, self.token = engine, replicas, token
        self.dispatcher = Dispatcher(limit, model=model)
        self.visits: dict[str, Visit] = {}
        self._lost: dict[str, float] = {}
        self._watch: asyncio.Task[None] | None = None

    async def answer(self, http: Http) -> Response:
        """One HTTP request."""
        from starlette.responses import PlainTextResponse, Response, StreamingResponse

        if self._watch is None:
            self._watch = asyncio.create_task(self._look())
        if http.url.path == "/healthz":
            return PlainTextResponse("ok")
        given = http.headers.get("authorization", "")
        if self.token and not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            return PlainTextResponse("the token is missing or wrong", 401)
        if http.method != "POST" or http.url.path not in ("/run", "/stop", "/ask"):
            return PlainTextResponse("nothing here", 404)
        try:
            frame = await body(http)
            value = await asyncio.to_thread(wire.unpack, frame)
            if http.url.path == "/run":
                visit = self._visit(value, frame)
                return StreamingResponse(self.events(visit), media_type="application/octet-stream")
            if http.url.path == "/stop":
                return Response(wire.pack(self.stop(str(value))))
            return Response(wire.pack(await self.ask(value)))
        except StudioError as error:
            return Response(wire.pack(wire.failure(error)))

    def _visit(self, value: Any, frame: bytes) -> Visit:
        try:
            id_, request, owner = value
        except (TypeError, ValueError) as error:
            raise BadRequest("/run wants (id, request, owner)") from error
        known = isinstance(request, Generate | Edit) and isinstance(owner, Owner)
        if not known or not isinstance(id_, str) or not id_ or id_ in self.visits:
            raise BadRequest("/run wants (a fresh id, request, owner)")
        rows = request.count if isinstance(request.count, int) else 1
        ticket = Ticket(id_, max(1, min(rows, 64)), str(request.model), request.priority, owner)
        return Visit(ticket, frame)

    def stop(self, id_: str) -> bool:
        """Whether there was such a request."""
        visit = self.visits.get(id_)
        if visit is None:
            return False
        visit.stopped = True
        visit.news.put_nowait(("stop", ""))
        return True

    async def ask(self, value: Any) -> Any:
        """(what, arguments) -> what the engine tells of its models."""
        match value:
            case (("load" | "state") as what, (str(),) as given):
                return await self._ask_one(what, given)
            case ("likeness" as what, (str(), np.ndarray()) as given):
                return await self._ask_one(what, given)
            case (
                (
                    "catalog"
                    | "controls"
                    | "decoders"
                    | "embeddings"
                    | "info"
                    | "ip_adapters"
                    | "resolved"
                    | "validate"
                ) as what,
                tuple(given),
            ):
                return await asyncio.to_thread(getattr(self.engine, what), *given)
        raise BadRequest(
            "/ask wants (catalog, controls, decoders, embeddings, info, ip_adapters, resolved, validate, likeness, load or state)"
        )

    async def _ask_one(self, what: str, given: tuple[Any, ...]) -> Any:
        """Of one replica; of one that has the model, if there is any."""
        name = given[0]
        self.dispatcher.present(self.present())
        have = self.dispatcher.replicas
        if not have:
            raise ModelError(
                "No engine is ready yet; wait a moment, or see the log of the deployment."
            )
        chosen = min(have, key=lambda r: (name not in have[r].models, have[r].rows))
        try:
            return await self.replicas.ask(chosen, what, given)
        except ReplicaLost as error:
            raise ModelError("The engine was lost; try again.") from error

    async def events(self, visit: Visit) -> AsyncIterator[bytes]:
        """The frames of one request. A client that goes ends it."""
        ticket = visit.ticket
        self.visits[ticket.id] = visit
        joined = False
        try:
            self.dispatcher.join(ticket)
            joined = True
            self.deal()
            for tries in range(1, TRIES + 1):
                async for frame in self._wait(visit):
                    yield frame
                if not ticket.replica:
                    yield wire.pack(Stopped())
                    return
                try:
                    async for frame in self._follow(visit):
                        yield frame
                    return
                except ReplicaLost:
                    self._lost[ticket.replica] = time.monotonic()
                    self.dispatcher.again(ticket)
                    if tries == TRIES:
                        break
                    self.dispatcher.present(self.present())
                    self.deal()
                    yield wire.pack(
                        Loading(message="The machine was lost; the request runs again ...")
                    )
            yield wire.pack(Failed(message=LOST.format(tries=TRIES)))
        except Busy as error:
            yield wire.pack(Failed(message=str(error)))
        finally:
            del self.visits[ticket.id]
            if joined:
                self.dispatcher.end(ticket)
                self.deal()

    async def _wait(self, visit: Visit) -> AsyncIterator[bytes]:
        """Until the request has a replica, or is stopped."""
        while not visit.ticket.replica and not visit.stopped:
            try:
                kind, value = await asyncio.wait_for(visit.news.get(), ALIVE)
            except (TimeoutError, asyncio.TimeoutError):
                yield wire.pack(None)
                continue
            if kind == "queued":
                yield wire.pack(Queued(position=value))

    async def _follow(self, visit: Visit) -> AsyncIterator[bytes]:
        """The events of the replica. Stop is passed on, and the stream is followed to its end."""
        ticket = visit.ticket
        stream = self.replicas.run(ticket.replica, ticket.id, visit.frame)
        following = asyncio.ensure_future(anext(stream, None))
        news = asyncio.ensure_future(visit.news.get())
        if visit.stopped:
            visit.news.put_nowait(("stop", ""))
        try:
            while True:
                await asyncio.wait(
                    (following, news), timeout=ALIVE, return_when=asyncio.FIRST_COMPLETED
                )
                if news.done():
                    if news.result()[0] == "stop":
                        await self.replicas.stop(ticket.replica, ticket.id)
                    news = asyncio.ensure_future(visit.news.get())
                if following.done():
                    frame = following.result()
                    if frame is None:
                        return
                    yield frame
                    following = asyncio.ensure_future(anext(stream, None))
                elif not news.done():
                    yield wire.pack(None)
        finally:
            news.cancel()
            following.cancel()
            await close(stream)

    def deal(self) -> None:
        """Starts what there is room for, and tells the others their positions."""
        for ticket in self.dispatcher.deal():
            self.visits[ticket.id].news.put_nowait(("start", ticket.replica))
        for position, ticket in enumerate(self.dispatcher.waiting, start=1):
            visit = self.visits[ticket.id]
            if visit.position != position:
                visit.position = position
                visit.news.put_nowait(("queued", position))

    def present(self) -> set[str]:
        """Replicas that are ready; one that has just lost a request may not have been found out yet."""
        now = time.monotonic()
        return {
            name
            for name in self.replicas.present()
            if now - self._lost.get(name, float("-inf")) > SHUN
        }

    async def _look(self) -> None:
        """Sees replicas come and go."""
        while True:
            names = self.present()
            if names != self.dispatcher.replicas.keys():
                self.dispatcher.present(names)
                self.deal()
            await asyncio.sleep(LOOK)


def asked(engine: Engine, what: str, given: tuple[Any, ...]) -> Any:
    """One question of the front: of a model's name and what else it takes. Raises StudioError."""
    if what == "load":
        engine.load(given[0])
        return None
    if what == "likeness":
        return engine.likeness(given[1], given[0])
    return engine.state()


async def body(http: Http) -> bytes:
    """The whole body, bounded. Raises BadRequest."""
    parts, size = [], 0
    async for part in http.stream():
        size += len(part)
        if size > wire.MOST_ARRAYS:
            raise BadRequest("The request is too large for the engine.")
        parts.append(part)
    return b"".join(parts)


async def close(stream: AsyncIterator[bytes]) -> None:
    """Ends a stream, whatever state it is in."""
    ending = getattr(stream, "aclose", None)
    if ending is not None:
        try:
            await ending()
        except (RuntimeError, ReplicaLost, asyncio.CancelledError):
            return
