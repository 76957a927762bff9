"""The page's style sheets do not speak of one class in two places with two meanings."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

STATIC = Path(__file__).resolve().parents[2] / "lcm_studio/web/static"
LONE = re.compile(r"^(\.[\w-]+) \{", re.MULTILINE)  # a rule that draws a class by itself


def test_a_class_is_drawn_in_one_place() -> None:
    rules = Counter(
        name for path in STATIC.rglob("*.css") for name in LONE.findall(path.read_text())
    )
    assert not {name for name, count in rules.items() if count > 1 and name.startswith(".lcm-")}


def test_markup_of_our_own_has_no_prose_styles(client: Any) -> None:
    """Gradio's would win over the colours, sizes and margins of our style sheets."""
    parts = [part for part in client.get("/config").json()["components"] if part["type"] == "html"]
    prose = [part["props"]["elem_id"] for part in parts if part["props"]["apply_default_css"]]
    assert len(parts) > 20 and prose == []
