"""Settings that say what they are: a field of a frozen dataclass, with title, unit, range, default and help. No torch.

A class of settings is the one place where a setting is written: validation, the shell's flags, the page's controls, the
API, the settings in a PNG and the table in the docs come from it.

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        scale: int = whole(4, title="Scale", low=2, high=8, help="times larger")
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, SupportsFloat, TypeAlias, TypeVar

from lcm_studio.spec.errors import BadRequest

Kind = Literal["number", "whole", "choice", "text", "switch", "numbers"]
MAX_TEXT = 2000
KEY = "setting"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting. `kind` says what it holds: numbers are several, such as one per level.

    `default` None: what the task finds for itself. `low`, `high`: bounds, included. `choices`: of a choice; of a number,
    words that stand beside it ("auto"). `example`: how several numbers are written.
    For the page: `slider` is the part of the range that a slider spans, in steps of `step`; `offers` are values to choose
    from; `parts` name the numbers of several, which get a slider each; `start` is what the control starts with.
    Of a setting that goes by the model, `lacks`, `most` and `native` name attributes of `spec.models.ModelInfo`: the reason why
    a model has no such setting ("" = it has), the largest value of a model, and a model's own value. `ignored`: where a model
    lacks it, a value is left out with a warning; else it is refused. `unset`: whose value a request without it gets, for the user.
    `kept`: the settings of a picture name it at its default too.
    """

    name: str = ""
    kind: Kind
    title: str
    help: str
    default: Any = None
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    count: tuple[int, int] = (1, 50)
    example: str = ""
    advanced: bool = False
    slider: tuple[float, float] | None = None
    step: float = 0
    offers: tuple[Any, ...] = ()
    parts: tuple[str, ...] = ()
    start: Any = None
    kept: bool = False
    lacks: str = ""
    ignored: bool = False
    most: str = ""
    native: str = ""
    unset: str = ""

    def read(self, value: Any) -> Any:
        """`value` as the setting's own type. Raises BadRequest with one sentence."""
        return _READERS[self.kind](self, value)

    def cast(self, value: Any) -> Any:
        """`value` as the setting's own type, whatever its range. Raises TypeError, ValueError or OverflowError."""
        return _TYPES[self.kind](value)

    @property
    def span(self) -> str:
        """What is allowed, for the user: `2 to 8 px`, `poisson, colour, none`."""
        unit = f" {self.unit}" if self.unit else ""
        numbers = f"{self.low:g} to {_high(self)}{unit}" if self.low > -math.inf else ""
        return ", ".join(part for part in (numbers, *self.choices) if part)


Settings: TypeAlias = (
    Any  # an instance of a frozen dataclass whose fields were made by the functions below
)
T = TypeVar("T")


def _field(kind: Kind, default: Any, **more: Any) -> Any:
    made = Setting(kind=kind, default=default, **more)
    return field(default=default, metadata={KEY: made})


def number(default: Any, *, title: str, help: str, low: float, high: float, **more: Any) -> Any:
    """A finite number in [low, high]."""
    return _field("number", default, title=title, help=help, low=low, high=high, **more)


def whole(default: Any, *, title: str, help: str, low: int, high: int, **more: Any) -> Any:
    """A whole number in [low, high]."""
    return _field("whole", default, title=title, help=help, low=low, high=high, **more)


def choice(default: Any, *, title: str, help: str, choices: Sequence[str], **more: Any) -> Any:
    """One of a few words."""
    return _field("choice", default, title=title, help=help, choices=tuple(choices), **more)


def text(default: Any, *, title: str, help: str, **more: Any) -> Any:
    """A string of at most 2,000 characters."""
    return _field("text", default, title=title, help=help, **more)


def switch(default: bool, *, title: str, help: str, **more: Any) -> Any:
    """On or off."""
    return _field("switch", default, title=title, help=help, **more)


def numbers(default: Any, *, title: str, help: str, low: float, high: float, **more: Any) -> Any:
    """Several finite numbers in [low, high]; one alone is taken too."""
    return _field("numbers", default, title=title, help=help, low=low, high=high, **more)


def settings_of(cls: type[Settings]) -> tuple[Setting, ...]:
    """The settings of a class, those of its bases after its own."""
    made: tuple[Setting, ...] = _settings_of(cls)  # type: ignore[arg-type]  # a class is hashable
    return made


@functools.cache
def _settings_of(cls: Any) -> tuple[Setting, ...]:
    inherited = {
        f.name
        for base in cls.__mro__[1:]
        if dataclasses.is_dataclass(base)
        for f in dataclasses.fields(base)
    }
    every = [
        dataclasses.replace(f.metadata[KEY], name=f.name)
        for f in dataclasses.fields(cls)
        if KEY in f.metadata
    ]
    return tuple(sorted(every, key=lambda s: s.name in inherited))


def read(cls: type[T], given: Mapping[str, Any], what: str) -> T:
    """Settings of `what` from a mapping. Raises BadRequest for an unknown name or a wrong value, with one sentence.

    A value of None is the default.
    """
    known = {setting.name: setting for setting in settings_of(cls)}
    for name in given:
        if name not in known:
            raise BadRequest(f"{what} has no option {name!r}; it takes {', '.join(known)}")
    values = {n: known[n].read(v) for n, v in given.items() if v is not None}
    return cls(**values)


def _high(setting: Setting) -> str:
    """The upper end, of whole numbers with all of its digits."""
    return f"{setting.high:.0f}" if setting.kind == "whole" else f"{setting.high:g}"


def _number(setting: Setting, value: Any) -> Any:
    if isinstance(value, str) and value in setting.choices:
        return value
    found = to_number(value)
    if not setting.low <= found <= setting.high:
        words = "".join(f" or {word}" for word in setting.choices)
        sort = "a whole number" if setting.kind == "whole" else "a number"
        raise BadRequest(
            f"{setting.name}={value} is not usable; use {sort} from {setting.low:g} to {_high(setting)}{words}"
        )
    return found


def _whole(setting: Setting, value: Any) -> int:
    found = _number(setting, value)
    if found != int(found):
        raise BadRequest(
            f"{setting.name}={found:g} is not usable; use a whole number from {setting.low:g} to {_high(setting)}"
        )
    return int(found)


def _choice(setting: Setting, value: Any) -> str:
    if value not in setting.choices:
        raise BadRequest(f"{setting.name}={value!r} is unknown; use {', '.join(setting.choices)}")
    return str(value)


def _text(setting: Setting, value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise BadRequest(f"{setting.name} must be text of at most {MAX_TEXT} characters")
    return value


def _switch(setting: Setting, value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadRequest(f"{setting.name}={value!r} is neither on nor off; use true or false")
    return value


def _numbers(setting: Setting, value: Any) -> tuple[float, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.replace(";", ",").split(",") if part.strip()]
    several = value if isinstance(value, list | tuple) else (value,)
    found = [to_number(one) for one in several]
    least, most = setting.count
    if not all(setting.low <= one <= setting.high for one in found):
        words = ", ".join(str(one) for one in several)
        raise BadRequest(
            f"{setting.name}={words} is not usable; use numbers from {setting.low:g} to {setting.high:g}, "
            f"as in {setting.example}"
        )
    if not least <= len(found) <= most:
        words = str(least) if least == most else f"{least} to {most}"
        raise BadRequest(
            f"{setting.name} has {len(found)} numbers; give {words}, as in {setting.example}"
        )
    return tuple(found)


_TYPES: dict[Kind, Any] = {
    "number": float,
    "whole": int,
    "choice": str,
    "text": str,
    "switch": bool,
    "numbers": tuple,
}

_READERS: dict[Kind, Any] = {
    "number": _number,
    "whole": _whole,
    "choice": _choice,
    "text": _text,
    "switch": _switch,
    "numbers": _numbers,
}


def to_number(value: object) -> float:
    """`value` as a number; NaN, which lies in no range, for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | SupportsFloat):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
