"""app.py with the made-up task of tests/edits: python tests/web/made_up_app.py --port 7870."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lcm_studio.edits import TASKS
from lcm_studio.web import flags
from tests.edits.made_up import TASK

if __name__ == "__main__":
    TASKS[TASK.name] = TASK
    sys.exit(flags.main())
