"""What the sessions of a lane compute outside its networks, on workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lcm_studio.engine.running import Session
from lcm_studio.engine.workers import Workers
from lcm_studio.sampling import Compute
from lcm_studio.spec.errors import Cancelled

QUIET = 0.4  # seconds that work may take before its progress is told, and between two tellings


@dataclass(frozen=True, eq=False)
class Computed:
    """What work came to after `seconds`, waiting for a thread included."""

    session: Session
    value: Any
    error: Exception | None
    seconds: float


class Computing:
    """Work that is with the workers, and answers that nobody has taken yet. Guarded by the lane's condition `wake`."""

    def __init__(
        self, workers: Workers, wake: threading.Condition, closed: Callable[[], bool]
    ) -> None:
        self._workers, self._wake, self._closed = workers, wake, closed
        self._jobs = 0
        self._answers: list[Computed] = []

    @property
    def busy(self) -> bool:
        """Whether workers are at it."""
        return self._jobs > 0

    @property
    def answered(self) -> bool:
        """Whether there is something to take."""
        return bool(self._answers)

    def take(self) -> list[Computed]:
        """The answers since the last time."""
        answers, self._answers = self._answers, []
        return answers

    def begin(self, session: Session, ask: Compute) -> None:
        """Sends work to the workers; it ends early where its session is cancelled or the lane closes."""
        asked = told = time.perf_counter()

        def report(share: float) -> None:
            nonlocal told
            if session.cancelled() or self._closed():
                raise Cancelled("the request was stopped")
            now = time.perf_counter()
            if now - told > QUIET:
                told = now
                session.post("working", (ask.what, share))

        def job() -> None:
            value: Any = None
            error: Exception | None = None
            try:
                report(0.0)
                with torch.inference_mode():
                    value = ask.work(report)
            except Exception as raised:  # noqa: BLE001  it is the session's, and ends it
                error = raised
            answer = Computed(session, value, error, time.perf_counter() - asked)
            with self._wake:
                self._jobs -= 1
                self._answers.append(answer)
                self._wake.notify_all()

        with self._wake:
            self._jobs += 1
        self._workers.submit(job)
