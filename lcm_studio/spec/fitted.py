"""Numbers of edits that were fitted to one model: its folder's edits.yaml, validated. No torch, no numbers of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from lcm_studio.spec.errors import BadRequest

MOST = 50  # levels, numbers of a list, tasks


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Of one task and about one number of steps.

    `levels`: sigmas, falling, that others lie between (`edits.schedule.along`). `eta`, `noise_scale`: see
    `sampling.multistep`. `relax_first`, `relax_last`: over-relaxation of the first and of the last estimates.
    Of denoising only: `sigma`: the noise that the levels were fitted at; `least`: the lowest that the first and the last
    may be; `relax_from`: below this noise nothing is relaxed, from twice as much on all of it.
    """

    levels: tuple[float, ...]
    eta: float = 1.0
    noise_scale: float = 1.0
    relax_first: tuple[float, ...] = ()
    relax_last: tuple[float, ...] = ()
    sigma: float | None = None
    least: tuple[float, float] | None = None
    relax_from: float | None = None


@dataclass(frozen=True, kw_only=True)
class Errors:
    """The errors of a model's clean estimates: variance `power` per cosine, bent down at `corner` of the highest frequency.

    `last`: how many times less the noisy picture is believed at the last level.
    """

    corner: float
    power: float
    last: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """All of a model. `many_from`: from so many levels on the second fit of a task holds. `made`: date, seeds, commit."""

    tasks: Mapping[str, tuple[Fit, Fit]] = field(default_factory=dict)
    many_from: int = 6
    guidance: Mapping[str, float] = field(default_factory=dict)
    emphasis: Mapping[str, float] = field(default_factory=dict)
    errors: Errors | None = None
    made: Mapping[str, str] = field(default_factory=dict)

    def fit(self, task: str, steps: int) -> Fit | None:
        """The fit of a task for so many steps; an enlargement without one of its own takes the next larger scale's."""
        pair = self.tasks.get(task)
        if pair is None and task.startswith("superres"):
            scales = sorted(int(name[8:]) for name in self.tasks if name.startswith("superres"))
            larger = [scale for scale in scales if scale >= int(task[8:])] or scales[-1:]
            pair = self.tasks[f"superres{larger[0]}"] if larger else None
        return None if pair is None else pair[steps >= self.many_from]

    @property
    def source(self) -> str:
        """Where they come from, for the user."""
        date = self.made.get("date")
        return f"fitted on {date}" if date else "fitted"


def parse(given: Any) -> Fitted:
    """The numbers of an edits.yaml that was read as plain data. Raises BadRequest, naming the first wrong entry."""
    whole = _Entry(given, "edits.yaml")
    whole.only("made", "many_from", "errors", "tasks")
    tasks: dict[str, tuple[Fit, Fit]] = {}
    guidance: dict[str, float] = {}
    emphasis: dict[str, float] = {}
    named = whole.mapping("tasks")
    for name in list(named)[:MOST]:
        entry = _Entry(named[name], f"tasks.{name}")
        entry.only("guidance", "emphasis", "few", "many")
        scale = str(name).removeprefix("superres")
        if scale not in ("", str(name)) and not scale.isdigit():
            raise BadRequest(
                f"tasks.{name} is no task; write superres with its scale, as in superres4"
            )
        if "guidance" in entry.given:
            guidance[str(name)] = entry.number("guidance", 0, 30)
        if "emphasis" in entry.given:
            emphasis[str(name)] = entry.number("emphasis", 0, 3)
        if "few" in entry.given or "many" in entry.given:
            few, many = (
                _fit(_Entry(entry.given.get(key), f"tasks.{name}.{key}")) for key in ("few", "many")
            )
            tasks[str(name)] = few, many
    errors = None
    if "errors" in whole.given:
        entry = _Entry(whole.given["errors"], "errors")
        entry.only("corner", "power", "last")
        errors = Errors(
            corner=entry.number("corner", 1e-3, 10),
            power=entry.number("power", 1e-9, 1e3),
            last=entry.number("last", 1e-3, 1e3, 1.0),
        )
    return Fitted(
        tasks=tasks,
        many_from=int(whole.number("many_from", 1, MOST, 6)),
        guidance=guidance,
        emphasis=emphasis,
        errors=errors,
        made={str(k): str(v) for k, v in whole.mapping("made").items()},
    )


def _fit(entry: _Entry) -> Fit:
    entry.only(*Fit.__dataclass_fields__)
    levels = entry.numbers("levels", 1e-4, 1e4)
    if not levels or any(b >= a for a, b in pairwise(levels)):
        raise entry.wrong("levels", "falling numbers, as in [5, 1.2, 0.3]")
    least = entry.numbers("least", 0, 1e4)
    if least and len(least) != 2:
        raise entry.wrong("least", "two numbers, of the first and the last level")
    return Fit(
        levels=levels,
        eta=entry.number("eta", 0, 1, 1.0),
        noise_scale=entry.number("noise_scale", 0.1, 1, 1.0),
        relax_first=entry.numbers("relax_first", 0, 1),
        relax_last=entry.numbers("relax_last", 0, 1),
        sigma=entry.number("sigma", 1e-4, 1) if "sigma" in entry.given else None,
        least=(least[0], least[1]) if least else None,
        relax_from=entry.number("relax_from", 1e-4, 1) if "relax_from" in entry.given else None,
    )


class _Entry:
    """A mapping from the file, and where it stands there."""

    def __init__(self, given: Any, place: str) -> None:
        if not isinstance(given, Mapping):
            raise BadRequest(f"{place} must hold names and values, not {type(given).__name__}")
        self.given, self.place = given, place

    def wrong(self, name: str, wanted: str) -> BadRequest:
        value = str(self.given.get(name))[:60]
        return BadRequest(f"{self.place}.{name}={value} is not usable; write {wanted}")

    def only(self, *names: str) -> None:
        for name in self.given:
            if name not in names:
                raise BadRequest(
                    f"{self.place} has no {str(name)[:60]!r}; it takes {', '.join(names)}"
                )

    def mapping(self, name: str) -> Mapping[Any, Any]:
        value = self.given.get(name) or {}
        if not isinstance(value, Mapping):
            raise self.wrong(name, "names and values")
        return value

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        value = self.given.get(name, default)
        if not _is_number(value) or not low <= value <= high:
            raise self.wrong(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def numbers(self, name: str, low: float, high: float) -> tuple[float, ...]:
        value = self.given.get(name, ())
        good = isinstance(value, list | tuple) and len(value) <= MOST
        if not good or not all(_is_number(v) and low <= v <= high for v in value):
            raise self.wrong(name, f"numbers from {low:g} to {high:g}, as in [0.5, 0.2]")
        return tuple(float(v) for v in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
