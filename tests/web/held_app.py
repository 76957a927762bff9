"""The page on an engine whose every request waits, after its first step, until the file that HELD names is there."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lcm_studio.engine.engine import never
from lcm_studio.spec.events import Event
from lcm_studio.spec.owners import Owner
from lcm_studio.spec.requests import Request
from lcm_studio.web import flags
from lcm_studio.web.server import serve as server
from tests.toy_engine import ToyEngine


class HeldEngine(ToyEngine):
    """One request at a time: its first call of the network is answered at once, each later one once the file is there."""

    def __init__(self) -> None:
        super().__init__()
        self.free = 1  # calls that do not wait; the one is that of loading
        self.under_way: list[Callable[[], bool]] = []

    def run(
        self,
        request: Request,
        cancelled: Callable[[], bool] = never,
        *,
        owner: Owner | None = None,
    ) -> Iterator[Event]:
        self.free = 1
        self.under_way.append(cancelled)
        try:
            yield from super().run(request, cancelled, owner=owner)
        finally:
            self.under_way.remove(cancelled)

    def before_call(self) -> None:
        if self.free:
            self.free -= 1
            return
        while not Path(os.environ["HELD"]).exists() and self.is_awaited():
            time.sleep(0.01)

    def is_awaited(self) -> bool:
        """Whether there is a request that nobody has stopped."""
        return any(not cancelled() for cancelled in [*self.under_way])


def main() -> int:
    options = flags.read_options(None)
    import lcm_studio.web.app as ui

    ui.engine_for = lambda _: HeldEngine()
    return server.serve(options)


if __name__ == "__main__":
    sys.exit(main())
