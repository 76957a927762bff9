"""Threads for what is computed outside the networks, so that a lane's own thread only deals."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable


class Workers:
    """Runs jobs, at most `most` at once, each on a thread that ends with it.

    A thread that has computed keeps its OpenMP team, and with more teams than cores libgomp waits by sleeping, which
    slows every later call of a lane: so no thread is kept. A job takes care of its own errors.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most or max(2, min(4, (os.cpu_count() or 2) // 2))
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._busy = 0

    def submit(self, job: Callable[[], None]) -> None:
        """Runs `job` as soon as a thread is free."""
        with self._lock:
            self._waiting.append(job)
            self._start()

    def _start(self) -> None:
        while self._waiting and self._busy < self.most:
            self._busy += 1
            job = self._waiting.popleft()
            threading.Thread(target=self._run, args=(job,), name="compute", daemon=True).start()

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        finally:
            with self._lock:
                self._busy -= 1
                self._start()
