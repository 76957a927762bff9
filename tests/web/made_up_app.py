"""app.py with the made-up task of tests/edits and the made-up setting of tests/spec: python tests/web/made_up_app.py --port 7870."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lcm_studio.spec import requests
from tests.spec.made_up import with_sparkle

requests.Generate = with_sparkle()  # type: ignore[misc]

from lcm_studio.edits import TASKS  # noqa: E402
from lcm_studio.web import flags  # noqa: E402
from tests.edits.made_up import TASK  # noqa: E402

if __name__ == "__main__":
    TASKS[TASK.name] = TASK
    sys.exit(flags.main())
