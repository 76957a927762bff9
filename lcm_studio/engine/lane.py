"""One thread per loaded model: advances every running session and joins what they ask for into single calls."""

from __future__ import annotations

import atexit
import itertools
import threading
import time
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import torch

from lcm_studio.engine.batch import Work, run_batch
from lcm_studio.engine.computing import Computed, Computing
from lcm_studio.engine.line import MAX_RUNNING, Line, Places
from lcm_studio.engine.running import Preview, Session, Setup
from lcm_studio.engine.turns import Turns, in_turn
from lcm_studio.engine.workers import Workers
from lcm_studio.models.load import LoadedModel
from lcm_studio.sampling import Ask, Check, Compute, Decode, Embed, Estimate, Finished, answer
from lcm_studio.spec.errors import Cancelled, StudioError

# answered alone, by part of the timing
AT_ONCE = {Embed: "prompt", Check: "safety", Decode: "decode"}
POLL = 0.05  # seconds between looks whether somebody cancelled, while all that run are computing


class Lane:
    """Continuous batching: at every turn the rows of all sessions that fit together go into one call.

    `post(kind, value)` of a session is called with ("queued", position), ("step", (estimate, Preview or None)),
    ("working", (what, share)), ("finished", Finished), ("done", result), ("stopped", Preview or None) or ("failed", error); the last three end it.
    Nothing is shown that the model's safety checker has not seen. What a session computes outside the network runs on
    `workers`; its answer comes back between two calls, and is dropped where the session has ended.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        max_rows: int = 16,
        max_running: int = MAX_RUNNING,
        max_waiting: int = 64,
        places: Places | None = None,
        device_lock: threading.Lock | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.model = model
        self.max_rows = max_rows
        self.max_running = max_running
        self.calls = 0
        self.rows = 0
        self._device = device_lock or threading.Lock()
        self._wake = threading.Condition()
        self._line: Line[Session] = Line(places or Places(max_waiting))
        self._moved = False  # whether positions in the line may have changed
        self._running: list[Session] = []
        self._computing = Computing(workers or Workers(), self._wake, lambda: self._closed)
        self._turn = itertools.count(1)
        self._turns = Turns()
        self._closed = False
        self._thread = threading.Thread(
            target=self._main, name=f"lane-{model.info.id}", daemon=True
        )
        self._thread.start()
        # A daemon thread that is cut off at exit can abort the whole process from inside torch.
        atexit.register(self.close)

    @property
    def load(self) -> tuple[int, int]:
        """(running, waiting) sessions."""
        return len(self._running), len(self._line)

    @property
    def alive(self) -> bool:
        """Whether it takes requests and advances them."""
        return self._thread.is_alive()

    def submit(self, session: Session) -> None:
        """Queues a session. Raises Busy where the queue is full."""
        with self._wake:
            if self._closed:
                raise StudioError("the model was unloaded; send the request again")
            self._line.join(session, self._running)
            self._moved = True
            self._wake.notify()

    def close(self) -> None:
        """Stops after the current call; sessions that still run fail with a sentence."""
        atexit.unregister(self.close)
        with self._wake:
            self._closed = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()
            with self._wake:
                self._wake.wait_for(lambda: not self._computing.busy)
        self.model.close()

    def _main(self) -> None:
        with torch.inference_mode():
            while self._admit():
                self._drop_cancelled()
                lead = self._turns.choose(self._running)
                if lead is not None:
                    self._serve(lead)
        error = StudioError("the model was unloaded; send the request again")
        with self._wake:
            waiting = self._line.drop(lambda _: True)
        for session in [*self._running, *waiting]:
            session.post("failed", error)
        self._running.clear()

    def _admit(self) -> bool:
        """Waits for work, starts waiting sessions within the bound; False where the lane closes."""
        fresh: list[Session] = []
        with self._wake:
            while not (self._closed or self._moved or self._computing.answered or self._wanted()):
                if not self._wake.wait(POLL if self._running or len(self._line) else None):
                    break
            if self._closed:
                return False
            computed = self._computing.take()
            if self._moved:
                fresh = self._start()
                for position, session in enumerate(self._line.order(self._running), start=1):
                    session.post("queued", position)
                self._moved = False
        for session in fresh:
            self._advance(session, None, first=True)
        for one in computed:
            self._take(one)
        return True

    def _wanted(self) -> bool:
        """Whether a session waits for the network."""
        return any(session.work is not None for session in self._running)

    def _start(self) -> list[Session]:
        """Starts what there is room for, in the line's order, and who has nothing in work, in a room of their own."""
        fresh: list[Session] = []
        while True:
            rows = sum(s.rows for s in self._running)
            room = self.max_running - rows
            first = next(iter(self._line.order(self._running)), None)
            if first is None:
                return fresh
            extra = rows < 2 * self.max_running and self._line.deserves_a_start(
                first, self._running
            )
            if self._running and room < first.rows and not extra:
                return fresh
            self._line.admit(first)
            first.served = next(self._turn)
            self._running.append(first)
            fresh.append(first)

    def _drop_cancelled(self) -> None:
        for session in [*self._running]:
            if session.cancelled():
                self._stop(session)
        with self._wake:
            gone = self._line.drop(lambda session: session.cancelled())
            self._moved = self._moved or bool(gone)
        for session in gone:
            session.generator.close()
            session.post("stopped", None)

    def _stop(self, session: Session) -> None:
        """Ends a cancelled session; its last clean estimate is decoded, so that the user keeps it."""
        self._end(session)
        session.generator.close()
        preview = session.preview
        if preview is None and session.estimate is not None:
            try:
                images = self._at_once(session, Decode(session.estimate.x0_hat))
                preview = self._checked(session, images)
            except (StudioError, RuntimeError):
                preview = None
        session.post("stopped", preview)

    def _checked(self, session: Session, images: torch.Tensor) -> Preview:
        flagged = self._at_once(session, Check(images))
        if any(flagged):
            images = images.clone()
            images[list(flagged)] = -1.0
        return Preview(images, flagged)

    def _serve(self, lead: Session) -> None:
        """One call for `lead` and everybody whose work fits beside it."""
        assert lead.work is not None
        group = self._group(lead)
        mates = [
            s
            for s in self._running
            if s.work is not None
            and self._group(s) == group
            and (lead.priority != "live" or s.priority == "live")
        ]
        mates = [lead, *(s for s in in_turn(mates) if s is not lead)]
        works = [s.work for s in mates if s.work is not None]
        turn = next(self._turn)
        started = time.perf_counter()
        try:
            with self._device:
                started = time.perf_counter()
                setup = self._setup(lead)
                self._use(setup)
                owners = [s.owner for s in mates]
                taken = run_batch(self.model, works, self._limit(lead.work), owners)
        except torch.OutOfMemoryError as error:
            self._shrink(lead, mates, error)
            return
        except Exception as error:  # noqa: BLE001  whatever a network raises ends its sessions, not the lane
            for session in mates:
                self._fail(session, error)
            return
        seconds = time.perf_counter() - started
        self.calls += 1
        self.rows += sum(taken)
        for session, count in zip(mates, taken, strict=True):
            if not count:
                continue
            session.served = turn
            work = session.work
            assert work is not None
            session.add(work.part, seconds)
            session.waited += max(0.0, started - session.asked)
            session.asked = started + seconds
            session.evaluations += count if work.part == "network" else 0
            if work.finished:
                session.work = None
                self._advance(session, work.result())

    def _shrink(self, lead: Session, mates: list[Session], error: Exception) -> None:
        """Out of memory: halves the calls from now on; a single row that does not fit fails."""
        assert lead.work is not None
        limit = min(self._limit(lead.work), sum(s.work.rows for s in mates if s.work is not None))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if limit <= 1:
            self._fail(lead, error)
        else:
            self.max_rows = limit // 2

    def _group(self, session: Session) -> Hashable:
        assert session.work is not None
        return (session.work.group, self._setup(session))

    def _setup(self, session: Session) -> Setup:
        """What the session's work wants: a preview takes the model's tiny decoder, where there is one."""
        tiny = self.model.preview_decoder
        if session.previewing and tiny != "default":
            return replace(session.setup, decoder=tiny)
        return session.setup

    def _use(self, setup: Setup) -> None:
        more: dict[str, Any] = {}  # not every model knows of these
        if setup.control:
            more["control"] = setup.control
        if setup.ip_adapter:
            more["ip_adapter"] = setup.ip_adapter
        self.model.use(loras=setup.loras, decoder=setup.decoder, **more)

    def _limit(self, work: Work) -> int:
        return min(
            self.max_rows,
            self.model.placement.rows(*work.pixels(self.model), most=self.max_rows),
        )

    def _advance(self, session: Session, value: Any, *, first: bool = False) -> None:
        """Sends an answer in and takes asks until one needs the network; notifications pass at once."""
        try:
            if session.previewing:
                session.preview, session.previewing = self._checked(session, value), False
                session.post("step", (session.estimate, session.preview))
                value = None
            while True:
                ask = next(session.generator) if first else session.generator.send(value)
                first = False
                if isinstance(ask, Estimate):
                    session.estimate, session.preview, value = ask, None, None
                    if session.previews and ask.done < ask.total:
                        session.previewing = True
                        self._want(session, Decode(ask.x0_hat))
                        return
                    session.post("step", (ask, None))
                elif isinstance(ask, Finished):
                    session.estimate, session.preview, value = None, None, None
                    session.post("finished", ask)
                elif isinstance(ask, Embed | Check):
                    value = self._at_once(session, ask)
                elif isinstance(ask, Compute):
                    self._computing.begin(session, ask)
                    return
                else:
                    self._want(session, ask)
                    return
        except StopIteration as end:
            self._end(session)
            session.post("done", end.value)
        except Exception as error:  # noqa: BLE001  a session's own fault ends that session, not the lane
            self._fail(session, error)

    def _take(self, computed: Computed) -> None:
        session = computed.session
        if session not in self._running or isinstance(computed.error, Cancelled):
            return
        session.add("compute", computed.seconds)
        if computed.error is not None:
            self._fail(session, computed.error)
        else:
            self._advance(session, computed.value)

    def _want(self, session: Session, ask: Ask) -> None:
        session.work, session.asked = Work(ask), time.perf_counter()

    def _at_once(self, session: Session, ask: Ask) -> Any:
        started = time.perf_counter()
        with self._device:
            self._use(session.setup)
            value = answer(ask, self.model)
        session.add(AT_ONCE[type(ask)], time.perf_counter() - started)
        return value

    def _fail(self, session: Session, error: Exception) -> None:
        self._end(session)
        session.generator.close()
        session.post("failed", error)

    def _end(self, session: Session) -> None:
        session.work = None
        if session in self._running:
            self._running.remove(session)
            self._moved = True
