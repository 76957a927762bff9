"""Reading a task's own settings: unknown names and wrong values are refused in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

from lcm_studio.spec.errors import BadRequest


class Options:
    """`given` settings of `task`; `allowed` names its own, beside those that all tasks take."""

    COMMON = ("levels", "method", "eta", "noise_scale", "emphasis")

    def __init__(self, task: str, given: Mapping[str, Any], allowed: Sequence[str]) -> None:
        self.task, self.given = task, dict(given)
        names = (*allowed, *self.COMMON)
        for name in self.given:
            if name not in names:
                raise BadRequest(f"{task} has no option {name!r}; it takes {', '.join(names)}")

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A finite number in [low, high]."""
        value = self.given.get(name, default)
        number = _number(value)
        if not low <= number <= high:
            raise BadRequest(f"{name}={value} is not usable; use a number from {low:g} to {high:g}")
        return number

    def per_level(
        self, name: str, default: Sequence[float], low: float, high: float
    ) -> tuple[float, ...]:
        """One number in [low, high] for each level of `default`; given as one or several, those not given are 0."""
        value = self.given.get(name)
        if value is None:
            return tuple(default)
        several = value if isinstance(value, list | tuple) else (value,)
        found = [_number(one) for one in several]
        if not all(low <= number <= high for number in found):
            words = ", ".join(str(one) for one in several)
            raise BadRequest(
                f"{name}={words} is not usable; use numbers from {low:g} to {high:g}, one per level: 0, 0, 0.3"
            )
        if len(found) > len(default):
            raise BadRequest(
                f"{name} has {len(found)} numbers, but there are {len(default)} levels; give one per level at most"
            )
        return (*found, *(0.0 for _ in default[len(found) :]))

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        number = self.number(name, default, low, high)
        if number != int(number):
            raise BadRequest(f"{name}={number} is not a whole number; use {low} to {high}")
        return int(number)

    def choice(self, name: str, default: str, allowed: Sequence[str]) -> str:
        """One of the words allowed."""
        value = self.given.get(name, default)
        if value not in allowed:
            raise BadRequest(f"{name}={value!r} is unknown; use {', '.join(allowed)}")
        return str(value)

    def text(self, name: str, default: str = "") -> str:
        """A string of at most 2,000 characters."""
        value = self.given.get(name, default)
        if not isinstance(value, str) or len(value) > 2000:
            raise BadRequest(f"{name} must be text of at most 2000 characters")
        return value


def _number(value: object) -> float:
    """`value` as a number; NaN, which lies in no range, for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | SupportsFloat):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
