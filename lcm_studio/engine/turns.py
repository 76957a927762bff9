"""Whose turn it is on a lane."""

from __future__ import annotations

from collections.abc import Sequence

from lcm_studio.engine.running import Session
from lcm_studio.spec.owners import Owner

LIVE_BURST = 4


class Turns:
    """Live sessions first but for every fifth turn, then whose person waited longest."""

    def __init__(self) -> None:
        self._live_run = 0

    def choose(self, running: Sequence[Session]) -> Session | None:
        """The session to serve next, of those that wait for the network."""
        ready = [s for s in running if s.work is not None]
        if not ready:
            return None
        live = [s for s in ready if s.priority == "live"]
        normal = [s for s in ready if s.priority != "live"]
        if live and (not normal or self._live_run < LIVE_BURST):
            self._live_run += 1
            return in_turn(live)[0]
        self._live_run = 0
        return in_turn(normal or live)[0]


def in_turn(sessions: Sequence[Session]) -> list[Session]:
    """Whose person was served the longest ago first; among one person's the same by session, then by request.

    Of those served by the same call the smallest comes first.
    """
    persons: dict[str, int] = {}
    owners: dict[Owner, int] = {}
    for s in sessions:
        persons[s.owner.person] = max(s.served, persons.get(s.owner.person, 0))
        owners[s.owner] = max(s.served, owners.get(s.owner, 0))
    return sorted(
        sessions, key=lambda s: (persons[s.owner.person], owners[s.owner], s.served, s.rows)
    )
