"""One generator of asks on a model's lane, as events: what `Engine.run` is for requests."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lcm_studio.spec.errors import BadRequest, StudioError
from lcm_studio.spec.events import Event, Failed, Loading, Queued, Step, Stopped

if TYPE_CHECKING:
    from lcm_studio.engine import Engine
    from lcm_studio.models.load import LoadedModel
    from lcm_studio.spec.owners import Owner

T = TypeVar("T")
Show = Callable[[Any], None]
Make = Callable[["LoadedModel", Show], Generator[Any, Any, T]]


class Ended(Exception):
    """A run that ends before its result: `event` is Failed or Stopped."""

    def __init__(self, event: Failed | Stopped) -> None:
        super().__init__()
        self.event = event


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome(Generic[T]):
    """`result` of a session; `evaluations` and `seconds` are its own: its share of network calls, and all but waiting."""

    result: T
    evaluations: int
    seconds: float


def events(run: Generator[Any, None, Any]) -> Iterator[Any]:
    """`run` with its mistakes as a last event, and its result as one."""
    try:
        result = yield from run
    except Ended as end:
        yield end.event
    except StudioError as error:
        yield Failed(message=str(error))
    else:
        yield result


def on_lane(
    engine: Engine,
    model: str,
    make: Make[T],
    cancelled: Callable[[], bool],
    owner: Owner | None = None,
) -> Generator[Event | Any, None, Outcome[T]]:
    """Runs `make(loaded model, show)` on the lane of `model`; yields events and whatever it shows.

    `show` may be called while it runs. Raises Ended where it fails or is stopped. Leaving the iterator cancels it.
    """
    from lcm_studio.engine.run import ENDS
    from lcm_studio.engine.running import Session
    from lcm_studio.spec.owners import Owner as Nobody

    if model not in engine.state().loaded:
        yield Loading(message=f"Loading {model} ...")
    lane = engine.lane(model)
    inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    left = [False]
    session = Session(
        generator=make(lane.model, lambda value: inbox.put(("show", value))),
        post=lambda kind, value: inbox.put((kind, value)),
        cancelled=lambda: left[0] or cancelled(),
        owner=owner or Nobody(),
    )
    started = time.perf_counter()
    lane.submit(session)
    position = 0
    try:
        while True:
            kind, value = inbox.get()
            if kind == "show":
                yield value
            elif kind == "step":
                yield _step(value[0], time.perf_counter() - started)
            elif kind == "queued" and value != position:
                position = value
                yield Queued(position=value)
            elif kind in ENDS:
                break
    finally:
        left[0] = True
    if kind == "done":
        seconds = sum(session.seconds.values())
        return Outcome(result=value, evaluations=session.evaluations, seconds=seconds)
    raise Ended(Stopped() if kind == "stopped" else Failed(message=_sentence(value)))


def _step(estimate: Any, seconds: float) -> Step:
    left = seconds / max(1, estimate.done) * (estimate.total - estimate.done)
    return Step(done=estimate.done, total=estimate.total, seconds=seconds, remaining=left)


def _sentence(error: Exception) -> str:
    from lcm_studio.engine.run import sentence

    return sentence(error)


def check_frames(frames: int) -> None:
    """Raises BadRequest for a number of frames that cannot be shown."""
    from lcm_studio.spec.lab import MOST_FRAMES

    if isinstance(frames, bool) or not isinstance(frames, int) or not 0 <= frames <= MOST_FRAMES:
        raise BadRequest(f"frames={frames!r}: use 0 to {MOST_FRAMES}")
