"""Small answers that outlast the studio, as JSON in the user's data folder. What cannot be read is empty, what cannot be
written is left: nothing of it is worth an error."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def data_folder() -> Path:
    """$LCM_STUDIO_HOME, else the studio's place in the user's data folder."""
    if home := os.environ.get("LCM_STUDIO_HOME"):
        return Path(home).expanduser()
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "lcm-studio"


def read_kept(file: Path) -> dict[str, Any]:
    """What a file keeps; nothing where it is missing or damaged."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_kept(file: Path, values: Mapping[str, Any]) -> None:
    """Puts `values` in the file's place at once, so that no reader finds half of them."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(values, indent=1), encoding="utf-8")
        part.replace(file)
