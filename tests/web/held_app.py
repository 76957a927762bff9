"""The page on an engine whose every request waits, after its first step, until the file that HELD names is there."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lcm_studio.spec.events import Done, Event, Step, Stopped
from lcm_studio.spec.requests import Edit
from lcm_studio.spec.settings import to_settings
from lcm_studio.web import flags
from lcm_studio.web.server import serve as server
from tests.web.fake_engine import FakeEngine, paint


class HeldEngine(FakeEngine):
    """Edits as well as new pictures; nothing is checked."""

    def validate(self, request: Any) -> tuple[str, ...]:
        return ()

    def run(
        self, request: Any, cancelled: Any = lambda: False, *, owner: Any = None
    ) -> Iterator[Event]:
        info = self.info(request.model)
        width, height = info.width, info.height
        if isinstance(request, Edit):
            height, width = request.image.shape[:2]
        yield Step(done=1, total=2, seconds=1.0, previews=(paint(1, width, height, 0.5),))
        while not Path(os.environ["HELD"]).exists():
            if cancelled():
                yield Stopped()
                return
            time.sleep(0.01)
        settings = to_settings(request, info, width=width, height=height)
        pictures = (paint(request.seed, width, height, 1.0),)
        yield Done(images=pictures, seeds=(request.seed,), settings=settings, timing={"total": 1.0})


def main() -> int:
    options = flags.read_options(None)
    import lcm_studio.web.app as ui

    ui.engine_for = lambda _: HeldEngine()  # type: ignore[assignment,return-value]
    return server.serve(options)


if __name__ == "__main__":
    sys.exit(main())
