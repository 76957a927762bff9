"""The requests of every open page, each with a flag that stops it; raised by its owner only. No Gradio here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lcm_studio.spec.owners import API, Owner, network_of

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

LEFT_SECONDS = 30.0  # that a request goes on without its page, which may be on the way back
USER = "studio.user"  # where the guard notes in a scope who is signed in


def owner_of(request: Any, *, api: bool = False) -> Owner:
    """Whose request this is; of Gradio's request or Starlette's. A client of the API is one owner however it asks."""
    http: HTTPConnection | None = getattr(request, "request", request)
    scope = getattr(http, "scope", None) or {}
    address = (scope.get("client") or ("", 0))[0]
    session = API if api else str(getattr(request, "session_hash", None) or "")
    return Owner(person=scope.get(USER) or network_of(address), session=session)


def user_of(request: Any) -> str:
    """The name of the signed-in user; empty where nobody signs in."""
    http = getattr(request, "request", request)
    return str((getattr(http, "scope", None) or {}).get(USER) or "")


@dataclass(eq=False)
class Ticket:
    """One request under way; `sessions` are the pages or the client that follow it, `tab` the tab it came from.

    `page`: the key of the browser tab that asked, empty of others.
    """

    sessions: set[str]
    tab: str
    page: str = ""
    stop: threading.Event = field(default_factory=threading.Event)


class Stops:
    """What is under way, so that Stop, a closed page or a client that has hung up ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tickets: list[Ticket] = []

    def __len__(self) -> int:
        return len(self._tickets)

    @contextmanager
    def under_way(self, session: str, tab: str, page: str = "") -> Iterator[Ticket]:
        """A ticket for as long as the request runs; its flag is up afterwards, whatever happened."""
        ticket = Ticket({session}, tab, page)
        with self._lock:
            self._tickets.append(ticket)
        try:
            yield ticket
        finally:
            ticket.stop.set()
            with self._lock:
                self._tickets.remove(ticket)

    def stop(self, session: str, tab: str | None = None) -> int:
        """Asks a session's requests (of one tab, or all) to stop; returns how many there were."""
        with self._lock:
            mine = [t for t in self._tickets if session in t.sessions and tab in (None, t.tab)]
        for ticket in mine:
            ticket.stop.set()
        return len(mine)

    def join(self, page: str, session: str) -> None:
        """A browser tab was loaded again: what it asked for before is this session's too."""
        with self._lock:
            for ticket in self._tickets:
                if page and ticket.page == page:
                    ticket.sessions.add(session)

    def left(self, session: str, patience: float = LEFT_SECONDS) -> None:
        """A page was closed. What it asked for stops, at once or, where it may come back, if it has not after `patience` seconds."""
        with self._lock:
            mine = [t for t in self._tickets if session in t.sessions]
            for ticket in mine:
                ticket.sessions.discard(session)
        for ticket in mine:
            if not ticket.page:
                ticket.stop.set()
                continue
            later = threading.Timer(patience, self._end_alone, [ticket])
            later.daemon = True
            later.start()

    def _end_alone(self, ticket: Ticket) -> None:
        with self._lock:
            if not ticket.sessions:
                ticket.stop.set()
