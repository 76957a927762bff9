"""One request on a lane: session in, events out."""

from __future__ import annotations

import importlib
import queue
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from lcm_studio.engine.generate import generate_session
from lcm_studio.engine.lane import Lane, Session, Setup
from lcm_studio.maths.pixels import to_pixels
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.events import Done, Event, Failed, Queued, Step, Stopped, Working
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Edit, Generate, Request
from lcm_studio.spec.settings import to_settings

if TYPE_CHECKING:
    from lcm_studio.engine.lane import Preview
    from lcm_studio.models.load import LoadedModel
    from lcm_studio.sampling import Estimate
    from lcm_studio.spec.requests import Pixels

ENDS = ("done", "failed", "stopped")


def run_request(
    request: Request,
    lane: Lane,
    warnings: tuple[str, ...],
    cancelled: Callable[[], bool],
    owner: Owner | None = None,
) -> Iterator[Event]:
    """Submits the request's session and yields its events until the last one."""
    yield from _Run(request, lane, warnings, cancelled, owner or Owner()).events()


class _Run:
    def __init__(
        self,
        request: Request,
        lane: Lane,
        warnings: tuple[str, ...],
        cancelled: Callable[[], bool],
        owner: Owner,
    ) -> None:
        self.request = request
        self.owner = owner
        self.lane = lane
        self.warnings = warnings
        self.left = False
        self.asked_to_stop = cancelled
        self.inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.seeds = tuple(request.seed + i for i in range(request.count))
        self.started = time.perf_counter()
        self.finished: list[Pixels] = []
        self.flagged: list[bool] = []
        self.position = 0
        self.groups = 1
        self.group = 0

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
        model = self.lane.model
        generator: Generator[Any, Any, Any]
        if isinstance(self.request, Edit):
            edits = importlib.import_module("lcm_studio.edits")
            rows = self.request.count
            generator = edits.session(self.request, model)
        else:
            rows = self._rows(self.request, model)
            self.groups = -(-len(self.seeds) // rows)
            generator = generate_session(self.request, model, self.seeds, rows)
        return Session(
            generator=generator,
            post=lambda kind, value: self.inbox.put((kind, value)),
            cancelled=lambda: self.left or self.asked_to_stop(),
            rows=rows,
            setup=Setup(loras=self.request.loras, decoder=self.request.decoder),
            priority=self.request.priority,
            owner=self.owner,
            previews=self.request.previews,
        )

    def _rows(self, request: Generate, model: LoadedModel) -> int:
        width, height = request.width or model.info.width, request.height or model.info.height
        return min(len(self.seeds), model.placement.rows(width, height, most=self.lane.max_rows))

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
            self.group += 1
            return None
        if kind == "done":
            return self._done(value)
        if kind == "stopped":
            return Stopped(
                images=tuple(self.finished),
                seeds=self.seeds[: len(self.finished)],
                previews=() if value is None else to_pixels(value.images),
                flagged=tuple(self.flagged),
                previews_flagged=() if value is None else value.flagged,
            )
        return Failed(message=_sentence(value))

    def _step(self, estimate: Estimate, preview: Preview | None) -> Step:
        seconds = time.perf_counter() - self.started
        done = min(self.group, self.groups - 1) * estimate.total + estimate.done
        total = estimate.total * self.groups
        return Step(
            done=done,
            total=total,
            seconds=seconds,
            remaining=seconds / done * (total - done) if done < total else None,
            previews=() if preview is None else to_pixels(preview.images),
            flagged=() if preview is None else preview.flagged,
        )

    def _done(self, outcome: Any) -> Done:
        if isinstance(self.request, Edit):
            images, fidelity = outcome.images, dict(outcome.fidelity)
            flagged = tuple(getattr(outcome, "flagged", ()) or (False,) * len(images))
            extra = dict(getattr(outcome, "settings", {}) or {})
            seeds = tuple(getattr(outcome, "seeds", ()) or self.seeds[:1] * len(images))
            self.warnings = (*self.warnings, *getattr(outcome, "warnings", ()))
        else:
            (images, flagged, warnings), fidelity, extra, seeds = outcome, {}, {}, self.seeds
            self.warnings = (*self.warnings, *warnings)
        height, width = images[0].shape[:2] if images else (0, 0)
        extra |= {"width": int(width), "height": int(height)}
        return Done(
            images=tuple(images),
            seeds=seeds,
            settings=to_settings(self.request, self.lane.model.info, **extra),
            timing=self._timing(),
            fidelity=fidelity,
            warnings=self._warnings(),
            flagged=flagged,
        )

    def _timing(self) -> dict[str, float]:
        total = time.perf_counter() - self.started
        parts = dict.fromkeys(("prompt", "network", "decode", "encode"), 0.0)
        parts |= self.session.seconds
        parts["waiting"] = self.session.waited
        parts["other"] = max(0.0, total - sum(parts.values()))
        return {**parts, "total": total, "evaluations": float(self.session.evaluations)}

    def _warnings(self) -> tuple[str, ...]:
        cut = self.lane.model.truncated(self.request.prompt)
        if not cut:
            return self.warnings
        return (*self.warnings, f"the model reads only the start of the prompt; cut off: {cut}")


def _sentence(error: Exception) -> str:
    """A user's error as it is; anything else with its type, since nobody expected it."""
    if isinstance(error, StudioError):
        return str(error)
    text = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
    if "out of memory" in text.lower() or isinstance(error, MemoryError):
        return "the device is out of memory; use a smaller size or fewer images"
    return f"it failed unexpectedly ({type(error).__name__}: {text}); please report this"
