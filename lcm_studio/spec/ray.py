"""Where a Ray cluster's token lies, for all that talks to one. No Ray."""

from __future__ import annotations

import os
from pathlib import Path

from lcm_studio.spec.regular import read_regular

_MOST_TOKEN = 4096


def ray_token() -> str:
    """The token that Ray's own tools would send: of RAY_AUTH_TOKEN, of the file that RAY_AUTH_TOKEN_PATH names, or of
    ~/.ray/auth_token; empty where there is none. Ray makes the last by itself when it starts a cluster from Python, and
    clusters that are started later want it.
    """
    if given := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return given
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return read_regular(path, _MOST_TOKEN).decode("ascii").strip()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: there is no home
        return ""
