"""The page's style sheets do not speak of one class in two places with two meanings."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

STATIC = Path(__file__).resolve().parents[2] / "lcm_studio/web/static"
LONE = re.compile(r"^(\.[\w-]+) \{", re.MULTILINE)  # a rule that draws a class by itself


def test_a_class_is_drawn_in_one_place() -> None:
    rules = Counter(
        name for path in STATIC.rglob("*.css") for name in LONE.findall(path.read_text())
    )
    assert not {name for name, count in rules.items() if count > 1 and name.startswith(".lcm-")}
