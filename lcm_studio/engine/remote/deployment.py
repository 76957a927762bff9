"""The engine on Ray Serve: a front that shares requests out, and replicas of one engine each. Runs where Ray is installed.

`application(settings)` is also what a config file of Ray Serve names (`write_config`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.exceptions import RayError

from lcm_studio.engine.remote import present, wire
from lcm_studio.engine.remote.directed import Directed
from lcm_studio.engine.remote.front import Front, ReplicaLost, asked
from lcm_studio.engine.remote.settings import Settings
from lcm_studio.engine.remote.stream import streamed
from lcm_studio.spec.errors import StudioError

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle
    from starlette.requests import Request as Http
    from starlette.responses import Response

    from lcm_studio.engine import Engine

# a busy machine takes longer than Serve waits for its door
PATIENCE = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120"}
OTHER = "another replica"  # what a replica answers that was not meant


class Replica:
    """One engine with its lanes. `settings`: see `Settings`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        given = Settings(**settings)
        self.engine: Engine = given.engine()
        self.name = serve.get_replica_context().replica_id.unique_id
        self.flags: dict[str, threading.Event] = {}
        if given.model:
            self.engine.load(given.model)

    async def run(self, replica: str, ticket: str, frame: bytes) -> AsyncIterator[bytes]:
        """The events of a request; a caller that goes cancels it."""
        if replica != self.name:
            yield OTHER.encode()
            return
        _, request, owner = wire.unpack(frame)
        flag = self.flags[ticket] = threading.Event()
        try:
            async for part in streamed(self.engine, request, owner, flag):
                yield part
        finally:
            del self.flags[ticket]

    async def stop(self, replica: str, ticket: str) -> bool:
        """Whether this replica was meant."""
        if (flag := self.flags.get(ticket)) is not None:
            flag.set()
        return replica == self.name

    async def ask(self, replica: str, what: str, frame: bytes) -> bytes:
        """What `load`, `state` or `likeness` came to, or what went wrong."""
        if replica != self.name:
            return OTHER.encode()
        try:
            return wire.pack(await asyncio.to_thread(asked, self.engine, what, wire.unpack(frame)))
        except StudioError as error:
            return wire.pack(wire.failure(error))

    def check_health(self) -> None:
        """Raises where a lane has died; Serve puts another replica in its place then."""
        if not self.engine.alive:
            raise RuntimeError("a lane has ended")

    def __del__(self) -> None:
        self.engine.close()


class Handles:
    """The replicas through Serve's handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self.handle = handle
        self.handle._init()

    def present(self) -> tuple[str, ...]:
        return present.names

    async def run(self, replica: str, ticket: str, frame: bytes) -> AsyncIterator[bytes]:
        response = self.handle.options(stream=True).run.remote(replica, ticket, frame)
        try:
            async for part in response:
                if part == OTHER.encode():
                    raise ReplicaLost(replica)
                yield part
        except RayError as error:
            raise ReplicaLost(replica) from error
        finally:
            response.cancel()

    async def stop(self, replica: str, ticket: str) -> None:
        try:
            if not await self.handle.stop.remote(replica, ticket):
                raise ReplicaLost(replica)
        except RayError as error:
            raise ReplicaLost(replica) from error

    async def ask(self, replica: str, what: str, given: tuple[Any, ...]) -> Any:
        try:
            answer = await self.handle.ask.remote(replica, what, wire.pack(given))
        except RayError as error:
            raise ReplicaLost(replica) from error
        if answer == OTHER.encode():
            raise ReplicaLost(replica)
        value = wire.unpack(answer)
        wire.raise_for(value)
        return value


class Door:
    """The ingress: one process, which loads no model."""

    def __init__(self, replicas: DeploymentHandle, settings: dict[str, Any]) -> None:
        given = Settings(**settings)
        self.front = Front(
            given.engine(),
            Handles(replicas),
            limit=given.queue_size,
            token=given.token,
            model=given.model,
        )

    async def __call__(self, http: Http) -> Response:
        return await self.front.answer(http)


def application(settings: dict[str, Any]) -> serve.Application:
    """The Serve application of these settings (fields of `Settings`)."""
    given = Settings(**settings)
    replicas = serve.deployment(
        **given.of_replicas(), request_router_config={"request_router_class": Directed}
    )(Replica)
    door = serve.deployment(**given.of_door())(Door)
    return door.bind(replicas.bind(settings), settings)


def start(settings: Settings, address: str, host: str, port: int) -> None:
    """Serves on a Ray cluster, or on this machine where `address` is empty; returns when all replicas are ready.

    Raises StudioError where the cluster does not let us in.
    """
    import ray

    root = str(Path(__file__).resolve().parents[3])
    options: dict[str, Any] = {} if address else {"include_dashboard": False}
    try:
        _join(ray, address, root, options)
    except ConnectionError as error:
        raise StudioError(
            f"{error}; look whether its head runs at --address {address or 'local'}, and whether it wants a token "
            "(RAY_AUTH_TOKEN, or the file that RAY_AUTH_TOKEN_PATH names)"
        ) from error
    with contextlib.suppress(TimeoutError):  # a busy machine; `run` waits for longer
        serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port})
    serve.run(application(settings.plain()), name=settings.name, route_prefix="/")


def _join(ray: Any, address: str, root: str, options: dict[str, Any]) -> None:
    ray.init(
        # "local", not None: Ray would join whatever cluster this machine last had, or fail where that has gone
        address=address or "local",
        runtime_env={"env_vars": {"PYTHONPATH": root, **PATIENCE}},
        log_to_driver=False,
        **options,
    )


def stop(settings: Settings) -> None:
    """Takes the application away; requests in work end first."""
    serve.delete(settings.name)
