"""The page on the toy engine, to look at it or to drive it quickly: python -m tests.web.toy_app --port 7870."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lcm_studio.web import flags
from lcm_studio.web.server import serve as server


def main(argv: list[str] | None = None) -> int:
    from tests.toy_engine import ToyEngine

    options = flags.read_options(argv)
    import lcm_studio.web.app as ui

    ui.engine_for = lambda _: ToyEngine(pace=0.15, broken=("some-sd",))
    return server.serve(options)


if __name__ == "__main__":
    sys.exit(main())
