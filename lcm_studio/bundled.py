"""Where the files that ship with the studio are: beside the package in a checkout, inside it where it is installed. No torch."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent

ASSETS = _PACKAGE / "assets" if (_PACKAGE / "assets").is_dir() else _CHECKOUT / "assets"
MODELS = ASSETS / "models"
EXAMPLES = ASSETS / "examples"
