"""One request on a lane: session in, events out."""

from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from lcm_studio.engine.lane import Lane
from lcm_studio.engine.running import Session, Setup
from lcm_studio.engine.session import session
from lcm_studio.maths.pixels import to_pixels
from lcm_studio.models.kinds.recognise import resolve
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.events import Done, Event, Failed, Queued, Step, Stopped, Working
from lcm_studio.spec.limits import MAX_COUNT
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Edit, Request
from lcm_studio.spec.settings import to_settings

if TYPE_CHECKING:
    from torch import Tensor

    from lcm_studio.edits.problem import Outcome
    from lcm_studio.engine.running import Preview
    from lcm_studio.sampling import Estimate
    from lcm_studio.spec.requests import Pixels

ENDS = ("done", "failed", "stopped")


R = TypeVar("R", bound=Request, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Order(Generic[R]):
    """A request that was checked, and where it runs.

    `warnings` go with its result; `cancelled` says whether to stop; turns on the lane go by `owner`.
    """

    request: R
    lane: Lane
    warnings: tuple[str, ...] = ()
    cancelled: Callable[[], bool] = lambda: False
    owner: Owner = field(default_factory=Owner)


def run_request(order: Order[Request]) -> Iterator[Event]:
    """Submits the request's session and yields its events until the last one."""
    yield from _Run(order).events()


class _Run:
    def __init__(self, order: Order[Request]) -> None:
        self.order = order
        self.request, self.lane = order.request, order.lane
        self.warnings = order.warnings
        self.left = False
        self.inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.seeds = tuple(self.request.seed + i for i in range(self.request.count))
        self.started = time.perf_counter()
        self.finished: list[Pixels] = []
        self.flagged: list[bool] = []
        self.position = 0

    def events(self) -> Iterator[Event]:
        try:
            self.session = self._session()
            self.lane.submit(self.session)
        except StudioError as error:
            yield Failed(message=str(error))
            return
        try:
            kind = ""
            while kind not in ENDS:
                kind, value = self.inbox.get()
                event = self._event(kind, value)
                if event is not None:
                    yield event
        finally:
            self.left = True

    def _session(self) -> Session:
        rows = self._rows()
        return Session(
            generator=session(self.request, self.lane.model, self.seeds, rows),
            post=lambda kind, value: self.inbox.put((kind, value)),
            cancelled=lambda: self.left or self.order.cancelled(),
            rows=min(rows, self.request.count),
            setup=self._setup(),
            priority=self.request.priority,
            owner=self.order.owner,
            previews=self.request.previews,
        )

    def _setup(self) -> Setup:
        control, adapter = self.request.control, self.request.ip_adapter
        return Setup(
            loras=self.request.loras,
            decoder=self.request.decoder,
            control="" if control is None else control.found or control.path,
            ip_adapter=None
            if adapter is None
            else adapter.found or (adapter.path, adapter.encoder),
        )

    def _rows(self) -> int:
        """Pictures that are made at a time: of new ones as many as a call takes, of edits as many as may be asked for."""
        request, info = self.request, self.lane.model.info
        if isinstance(request, Edit):
            return MAX_COUNT
        width, height = request.width or info.width, request.height or info.height
        placement = self.lane.model.placement
        return min(len(self.seeds), placement.rows(width, height, most=self.lane.max_rows))

    def _event(self, kind: str, value: Any) -> Event | None:
        if kind == "queued":
            if value == self.position:
                return None
            self.position = value
            return Queued(position=value)
        if kind == "step":
            return self._step(*value)
        if kind == "working":
            what, share = value
            seconds = time.perf_counter() - self.started
            return Working(message=what, share=share, seconds=seconds)
        if kind == "finished":
            self.finished.extend(value.images)
            self.flagged.extend(value.flagged)
            return None
        if kind == "done":
            return self._done(value)
        if kind == "stopped":
            return Stopped(
                images=tuple(self.finished),
                seeds=self.seeds[: len(self.finished)],
                previews=() if value is None else self._unfinished(value.images, value.flagged),
                flagged=tuple(self.flagged),
                previews_flagged=() if value is None else value.flagged,
            )
        return Failed(message=sentence(value))

    def _unfinished(self, images: Tensor, flagged: Sequence[bool]) -> tuple[Pixels, ...]:
        """The last clean estimates, in the pictures that they are of; black where a safety checker objects."""
        estimate = self.session.estimate
        whole = None if estimate is None else estimate.whole
        pictures = to_pixels(images) if whole is None else whole(images)
        return tuple(
            np.zeros_like(p) if bad else p for p, bad in itertools.zip_longest(pictures, flagged)
        )

    def _step(self, estimate: Estimate, preview: Preview | None) -> Step:
        seconds = time.perf_counter() - self.started
        done = estimate.part * estimate.total + estimate.done
        total = estimate.total * estimate.parts
        return Step(
            done=done,
            total=total,
            seconds=seconds,
            remaining=seconds / done * (total - done) if done < total else None,
            previews=() if preview is None else to_pixels(preview.images),
            flagged=() if preview is None else preview.flagged,
        )

    def _done(self, outcome: Outcome) -> Done:
        height, width = outcome.images[0].shape[:2] if outcome.images else (0, 0)
        extra = {**outcome.settings, "width": int(width), "height": int(height)}
        self.warnings = (*self.warnings, *outcome.warnings)
        return Done(
            images=outcome.images,
            seeds=outcome.seeds,
            settings=to_settings(
                self.request, resolve(self.request, self.lane.model.info), **extra
            ),
            timing=self._timing(),
            fidelity=dict(outcome.fidelity),
            warnings=self._warnings(),
            flagged=outcome.flagged,
        )

    def _timing(self) -> dict[str, float]:
        total = time.perf_counter() - self.started
        parts = dict.fromkeys(("prompt", "network", "decode", "encode"), 0.0)
        parts |= self.session.seconds
        parts["waiting"] = self.session.waited
        parts["other"] = max(0.0, total - sum(parts.values()))
        return {**parts, "total": total, "evaluations": float(self.session.evaluations)}

    def _warnings(self) -> tuple[str, ...]:
        warnings = [*self.warnings, *self.lane.model.notes(self.request.loras)]
        if cut := self.lane.model.truncated(self.request.prompt):
            warnings.append(f"the model reads only the start of the prompt; cut off: {cut}")
        return tuple(warnings)


def sentence(error: Exception) -> str:
    """A user's error as it is; anything else with its type, since nobody expected it."""
    if isinstance(error, StudioError):
        return str(error)
    text = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
    if "out of memory" in text.lower() or isinstance(error, MemoryError):
        return (
            "the device is out of memory; use a smaller size or fewer images, half precision (--dtype bf16), "
            "or a smaller model"
        )
    return f"it failed unexpectedly ({type(error).__name__}: {text}); please report this"
