"""A request with a setting that nobody else has heard of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lcm_studio.spec import requests
from lcm_studio.spec.schema import whole


def with_sparkle() -> Any:
    """`Generate` with one field more; to be put in its place before anything else imports it."""

    @dataclass(frozen=True, kw_only=True)
    class Generate(requests.Generate):
        sparkle: int = whole(3, title="Sparkle", low=0, high=9, help="stars on the water")

    return Generate
