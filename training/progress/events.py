"""What a run tells the outside: one JSON object a line in events.jsonl, and a result at the end."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class Events:
    """Appends events to `folder/events.jsonl`, a line in one call; `quiet` prints none, `silent` writes none."""

    def __init__(self, folder: Path, *, quiet: bool = False, silent: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._silent = silent
        self._path = folder / "events.jsonl"
        self._quiet = quiet

    def write(self, event: str, **fields: Any) -> None:
        """One event with the time in seconds since 1970."""
        if self._silent:
            return
        row = {"event": event, "time": round(time.time(), 3)}
        row |= {name: _plain(value) for name, value in fields.items()}
        line = json.dumps(row) + "\n"
        with self._path.open("a", encoding="utf-8") as out:
            out.write(line)
        if not self._quiet:
            shown = " ".join(
                f"{k}={v:.5g}" if isinstance(v, float) else f"{k}={v}"
                for k, v in row.items()
                if k not in ("event", "time")
            )
            print(f"{time.strftime('%H:%M:%S')} {event} {shown}", flush=True)


def write_result(folder: Path, state: str, *, reason: str | None = None, message: str = "") -> None:
    """The last word of a run, `result.json`; replaces an older one in one step."""
    part = folder / f"result.json.part{os.getpid()}"
    part.write_text(json.dumps({"state": state, "reason": reason, "message": message}))
    part.replace(folder / "result.json")
