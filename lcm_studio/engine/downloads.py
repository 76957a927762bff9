"""What comes from the hub, as the page shows it: how much of it is here, and a way to end it. No torch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lcm_studio.models import hub
from lcm_studio.spec.errors import StudioError
from lcm_studio.spec.models import LoadState


class Downloads:
    """One at a time (`engine.registry`). `change`: puts a function of the engine's state in place of it."""

    def __init__(self, change: Callable[[Callable[[LoadState], LoadState]], None]) -> None:
        self._change = change
        self._stop = threading.Event()
        self._before = LoadState()

    def fetch(self, model_id: str, *, offline: bool) -> Path:
        """The folder of a hub id, fetched if need be. Raises ModelError or HubError with the remedy."""
        if offline:
            return hub.fetch_model(model_id, offline=True)
        self._stop.clear()
        self._change(self._begin(model_id))
        try:
            folder = hub.fetch_model(
                model_id, offline=False, tell=lambda done, total: self._tell(model_id, done, total)
            )
        except StudioError as error:
            text = f"model {model_id!r} is not available: {error}"
            self._change(lambda now: replace(now, status="failed", message=text, done=0, total=0))
            raise
        self._change(lambda now: replace(self._before, loaded=now.loaded))
        return folder

    def stop(self) -> None:
        """Ends what is being fetched, at its next bytes; what is here stays, and the next try goes on from there."""
        self._stop.set()

    def _begin(self, model_id: str) -> Callable[[LoadState], LoadState]:
        def begin(now: LoadState) -> LoadState:
            self._before = now
            return replace(
                now,
                status="loading",
                model=model_id,
                message=f"Looking for {model_id} on the hub ...",
            )

        return begin

    def _tell(self, model_id: str, done: int, total: int) -> None:
        if self._stop.is_set():
            raise hub.Stopped
        text = f"Downloading {model_id}: {amount(done)} of {amount(total)}"
        self._change(lambda now: replace(now, message=text, done=done, total=total))


def amount(size: int) -> str:
    """Bytes as people say them."""
    return f"{size / 2**30:.1f} GB" if size >= 2**30 else f"{size / 2**20:.0f} MB"
