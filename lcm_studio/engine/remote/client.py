"""An engine elsewhere with the contract of the embedded one: `RemoteEngine("ray://HOST:PORT")`. No torch, no Ray."""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lcm_studio.engine.remote import wire
from lcm_studio.spec.errors import BadRequest, ModelError, StudioError
from lcm_studio.spec.events import Done, Event, Failed, Stopped
from lcm_studio.spec.models import LoadState, ModelInfo
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Edit, Generate, LoraSpec, Request

if TYPE_CHECKING:
    from lcm_studio.engine.lane import Lane
    from lcm_studio.spec.requests import Pixels

TOKEN = "LCM_STUDIO_ENGINE_TOKEN"  # names the environment's variable
PORT = 8500
POLL = 0.05  # seconds between looks whether somebody cancelled
SILENCE = (
    60.0  # seconds without a byte after which a connection is given up; the front speaks every five
)
LOOKED_AT = 1024  # pixels of the longer side of a picture whose likeness is asked for
GRACE = 60.0  # seconds that a stopped request may take to end
HERE = "This looks into a model, which an engine elsewhere does not show; start the studio without --engine for it."


def never() -> bool:
    return False


def parse(address: str) -> tuple[str, int]:
    """ "ray://HOST[:PORT]" -> host and port of the deployment's HTTP door. Raises BadRequest."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host = None
    if not host or parts.scheme not in ("ray", "http") or parts.path not in ("", "/"):
        raise BadRequest(
            f"--engine {address!r} is no address; use ray://HOST:PORT as `python -m lcm_studio serve` prints it"
        )
    return host, port


class RemoteEngine:
    """All methods may be called from any thread. `token`: of the deployment; None = from LCM_STUDIO_ENGINE_TOKEN."""

    def __init__(self, address: str, *, token: str | None = None) -> None:
        self.host, self.port = parse(address)
        self.address = f"ray://{self.host}:{self.port}"
        self.token = os.environ.get(TOKEN, "") if token is None else token
        self._closed = False

    def catalog(self) -> tuple[ModelInfo, ...]:
        """The models that the deployment offers."""
        return tuple(self._ask("catalog"))

    def info(self, model_id: str) -> ModelInfo:
        """What a model is. Raises ModelError with the remedy."""
        return self._info("info", model_id)

    def info_as(
        self,
        model_id: str,
        *,
        loras: tuple[LoraSpec, ...] = (),
        kind: str = "auto",
        guided_steps: int | None = None,
    ) -> ModelInfo:
        """What `info` says, sampled by a chosen kind, or by that of its LoRAs, with real guidance in its first steps or as it is.

        Raises BadRequest or ModelError.
        """
        request = Generate(model=model_id, loras=loras, kind=kind, guided_steps=guided_steps)
        return self.resolved(request)[1]

    def resolved(self, request: Request) -> tuple[Request, ModelInfo]:
        """`request` with its kind named, and the model as that kind is sampled. Raises BadRequest or ModelError."""
        resolved, info = self._ask("resolved", light(request))
        return restored(resolved, request), info

    def embeddings(self, model_id: str) -> tuple[str, ...]:
        """Words of the deployment's textual inversions that fit a model. Raises ModelError."""
        return tuple(self._ask("embeddings", model_id))

    def controls(self, model_id: str) -> tuple[str, ...]:
        """Names of the deployment's ControlNets that fit a model. Raises ModelError."""
        return tuple(self._ask("controls", model_id))

    def ip_adapters(self, model_id: str) -> tuple[str, ...]:
        """Names of the deployment's IP-Adapters that fit a model. Raises ModelError."""
        return tuple(self._ask("ip_adapters", model_id))

    def decoders(self) -> tuple[str, ...]:
        """Names for `decoder` of a request."""
        return tuple(self._ask("decoders"))

    def validate(self, request: Request) -> tuple[str, ...]:
        """Warnings for the user. Raises BadRequest or ModelError with one sentence."""
        return tuple(self._ask("validate", request))

    def load(self, model_id: str) -> None:
        """Loads a model on one replica at least. Raises ModelError."""
        self._ask("load", model_id)

    def likeness(self, pixels: Pixels, model_id: str) -> float | None:
        """As `Engine.likeness`, of a replica that has the model. Raises ModelError."""
        from lcm_studio.edits.geometry import resize

        share = LOOKED_AT / max(pixels.shape[:2])
        if share < 1:  # it is looked at in the model's size; a photo need not travel
            height, width = (max(1, round(side * share)) for side in pixels.shape[:2])
            pixels = resize(pixels, height, width).round().clip(0, 255).astype(pixels.dtype)
        value = self._ask("likeness", model_id, pixels)
        return value if isinstance(value, float) else None

    def state(self) -> LoadState:
        """The last load's state at one replica; failed where the deployment does not answer."""
        try:
            value = self._ask("state", "")
        except StudioError as error:
            return LoadState(status="failed", message=str(error))
        return value if isinstance(value, LoadState) else LoadState()

    def lane(self, model_id: str) -> Lane:
        """There is none here. Raises StudioError."""
        raise StudioError(HERE)

    def run(
        self,
        request: Request,
        cancelled: Callable[[], bool] = never,
        *,
        owner: Owner | None = None,
    ) -> Iterator[Event]:
        """As `Engine.run`: the last event is Done, Failed or Stopped, and leaving early cancels the request."""
        id_ = secrets.token_hex(16)
        link = Link(self._link(SILENCE))
        inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(
            target=self._listen,
            args=(link, wire.pack((id_, request, owner or Owner())), inbox),
            name="remote-engine",
            daemon=True,
        ).start()
        asked = 0.0
        try:
            while True:
                if not asked and cancelled():
                    asked = time.monotonic()
                    self._stop(id_)
                try:
                    event = inbox.get(timeout=POLL)
                except queue.Empty:
                    if asked and time.monotonic() - asked > GRACE:
                        yield Failed(message=self._lost("it did not stop"))
                        return
                    continue
                yield event
                if isinstance(event, Done | Stopped | Failed):
                    return
        finally:
            link.hang_up()

    def close(self) -> None:
        """Nothing is held here; requests under way go on for their owners."""

    def __enter__(self) -> RemoteEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _listen(self, link: Link, frame: bytes, inbox: queue.SimpleQueue[Any]) -> None:
        """Posts the events of a request; always ends with Done, Stopped or Failed."""
        try:
            link.connect()
            answer = self._post(link.http, "/run", frame)
            while (part := wire.read_frame(answer.read)) is not None:
                event = wire.unpack(part)
                wire.raise_for(event)
                if event is None:
                    continue
                inbox.put(event)
                if isinstance(event, Done | Stopped | Failed):
                    return
            inbox.put(Failed(message=self._lost("the answer was cut off")))
        except StudioError as error:
            inbox.put(Failed(message=str(error)))
        except (OSError, http.client.HTTPException, ValueError) as error:
            inbox.put(Failed(message=self._lost(reason(error))))
        finally:
            link.http.close()

    def _stop(self, id_: str) -> None:
        """Asks for it on a connection of its own, beside the stream."""

        def ask() -> None:
            link = self._link(SILENCE)
            try:
                self._post(link, "/stop", wire.pack(id_)).read()
            except (StudioError, OSError, http.client.HTTPException):
                return  # the stream tells how it ends
            finally:
                link.close()

        threading.Thread(target=ask, name="remote-stop", daemon=True).start()

    def _ask(self, what: str, *given: Any) -> Any:
        link = self._link(600 if what == "load" else SILENCE)
        try:
            answer = self._post(link, "/ask", wire.pack((what, given))).read()
        except (OSError, http.client.HTTPException) as error:
            raise ModelError(self._lost(reason(error))) from error
        finally:
            link.close()
        value = wire.unpack(answer)
        wire.raise_for(value)
        return value

    def _info(self, what: str, *given: Any) -> ModelInfo:
        value = self._ask(what, *given)
        if not isinstance(value, ModelInfo):
            raise ModelError(self._lost("it answered in other words"))
        return value

    def _link(self, seconds: float) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=seconds)

    def _post(
        self, link: http.client.HTTPConnection, path: str, frame: bytes
    ) -> http.client.HTTPResponse:
        headers = {"content-type": "application/octet-stream"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        link.request("POST", path, frame, headers)
        answer = link.getresponse()
        if answer.status == 401:
            raise ModelError(
                f"{self.address} wants another token; set {TOKEN} to that of the deployment."
            )
        if answer.status != 200:
            raise ModelError(self._lost(f"it answered {answer.status}"))
        return answer

    def _lost(self, why: str) -> str:
        return f"The engine at {self.address} cannot be reached ({why}); see whether it runs, then send the request again."


def reason(error: Exception) -> str:
    """A few words for what a socket says."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "the connection broke off"


class Link:
    """A connection that one thread reads and another may end."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.http = connection
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._left = False

    def connect(self) -> None:
        """Raises OSError, also where it has been ended already."""
        self.http.connect()
        with self._lock:
            self._socket = self.http.sock
            if self._left:
                raise ConnectionAbortedError

    def hang_up(self) -> None:
        """The reader gets an end, and the other side a disconnect."""
        with self._lock:
            self._left = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # it is closed already
                    self._socket.shutdown(socket.SHUT_RDWR)


def light(request: Request) -> Request:
    """`request` without its pictures, which say nothing of its kind."""
    from dataclasses import replace

    import numpy as np

    if not isinstance(request, Edit):
        return request
    return replace(request, image=np.zeros((1, 1, 3), np.uint8), image_b=None, mask=None)


def restored(resolved: Request, request: Request) -> Request:
    """`request` with the kind of `resolved`."""
    from dataclasses import replace

    return replace(request, kind=resolved.kind)
