"""What a page has asked for goes on while the page is loaded again, and its outputs are taken up there.

A browser tab names itself by a key that only it knows (static/again.js). What it asks for runs in a thread of its own, whose
outputs go to whoever follows: the page that asked, and after a reload the page in its place.
"""

from __future__ import annotations

import contextvars
import queue
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

KEPT_SECONDS = 300  # that the last outputs stay, once all is done
MOST_KEPT = 16  # finished ones, of all pages
PAGE = "x-lcm-page"
KEY = re.compile(r"[A-Za-z0-9.-]{8,64}")

Outputs = Mapping[Any, Any]  # component -> value


def page_of(request: Any) -> str:
    """The key of the browser tab that sent a request; empty of a client that has none."""
    headers = getattr(request, "headers", None) or {}
    return valid(headers.get(PAGE))


def valid(key: object) -> str:
    """A key as browsers make them; empty for everything else."""
    return key if isinstance(key, str) and KEY.fullmatch(key) else ""


@dataclass(eq=False)
class Run:
    """One request of a page: the last value of each output so far, and who follows."""

    page: str
    tab: str
    user: str
    last: dict[Any, Any] = field(default_factory=dict)
    error: Exception | None = None
    over: threading.Event = field(default_factory=threading.Event)
    ended: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    followers: list[queue.SimpleQueue[Outputs | None]] = field(default_factory=list)

    def follow(self) -> Iterator[Outputs]:
        """What is there, then all that comes. Raises what the request has raised."""
        inbox: queue.SimpleQueue[Outputs | None] = queue.SimpleQueue()
        with self.lock:
            if self.last:
                inbox.put(dict(self.last))
            if self.over.is_set():
                inbox.put(None)
            self.followers.append(inbox)
        try:
            while (outputs := inbox.get()) is not None:
                yield outputs
        finally:
            with self.lock:
                self.followers.remove(inbox)
        if self.error is not None:
            raise self.error

    def tell(self, outputs: Outputs) -> None:
        with self.lock:
            self.last |= outputs
            for inbox in self.followers:
                inbox.put(outputs)

    def end(self) -> None:
        with self.lock:
            self.ended = time.monotonic()
            self.over.set()
            for inbox in self.followers:
                inbox.put(None)


class Running:
    """The requests of all pages, each until some time after its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: list[Run] = []

    def start(
        self, outputs: Iterator[Outputs], *, page: str, tab: str, user: str
    ) -> Iterator[Outputs]:
        """`outputs`, made in a thread that goes on without whoever follows; one after the other of a page's tab.

        A client without a key is followed as it is: when it leaves, `outputs` end.
        """
        if not page:
            yield from outputs
            return
        run = Run(page, tab, user)
        with self._lock:
            before = [r for r in self._of(page, tab, user) if not r.over.is_set()]
            self._runs.append(run)

        def work() -> None:
            try:
                for earlier in before:
                    earlier.over.wait()
                for values in outputs:
                    run.tell(values)
            except Exception as error:  # noqa: BLE001  whoever follows raises it
                run.error = error
            finally:
                run.end()
                self._sweep()

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(work,), name=f"page-{tab}", daemon=True).start()
        yield from run.follow()

    def find(self, page: str, tab: str, user: str) -> Run | None:
        """What a page has asked for last, if it is still known."""
        self._sweep()
        with self._lock:
            return next(reversed(self._of(page, tab, user)), None) if valid(page) else None

    def _of(self, page: str, tab: str, user: str) -> list[Run]:
        return [r for r in self._runs if (r.page, r.tab, r.user) == (page, tab, user)]

    def _sweep(self) -> None:
        now = time.monotonic()
        with self._lock:
            ended = [r for r in self._runs if r.over.is_set()]
            gone = {id(r) for r in ended if now - r.ended > KEPT_SECONDS}
            gone |= {id(r) for r in sorted(ended, key=lambda r: r.ended)[:-MOST_KEPT]}
            self._runs = [r for r in self._runs if id(r) not in gone]
