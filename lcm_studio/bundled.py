"""Where the files that ship with the studio are: beside the package in a checkout, inside it where it is installed. No torch."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent

IS_CHECKOUT = not (_PACKAGE / "assets").is_dir()
ASSETS = (_CHECKOUT if IS_CHECKOUT else _PACKAGE) / "assets"
MODELS = ASSETS / "models"
EXAMPLES = ASSETS / "examples"
