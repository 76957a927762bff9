"""The form's fields for the settings of a picture that only some models have, made from their schema. No Gradio here.

The page lays out by hand what every picture has, and what of it depends on each other (`LAID_OUT`). Every other field of
`spec.requests.Generate` gets its control here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.models import ModelInfo
from lcm_studio.spec.requests import Generate
from lcm_studio.spec.schema import Setting, settings_of, to_number
from lcm_studio.web.fields import Field

LAID_OUT = (
    "prompt",
    "negative",
    "steps",
    "guidance",
    "seed",
    "count",
    "decoder",
    "width",
    "height",
)
FIELDS: dict[str, Field] = {
    setting.name: Field(
        name=setting.name,
        setting=setting,
        start=setting.default if setting.start is None else setting.start,
    )
    for setting in settings_of(Generate)
    if setting.name not in LAID_OUT
}
EDITED = {name: FIELDS[name] for name in ("guided_steps",)}
"""Those that the Edit tab shows too."""


def there(setting: Setting, info: ModelInfo) -> bool:
    """Whether the model has the setting."""
    return not (setting.lacks and getattr(info, setting.lacks))


def most(setting: Setting, info: ModelInfo) -> float:
    """The largest value of a model that has the setting."""
    if not setting.most or not there(setting, info):
        return setting.high
    return min(setting.high, float(getattr(info, setting.most)))


def ends(field: Field, info: ModelInfo, value: Any = None) -> tuple[float, float]:
    """The ends of a slider for a model; `value` is a larger one that it must reach."""
    low, high = field.span or (0, 1)
    reached = to_number(value)
    if not math.isnan(reached):
        high = max(high, reached)
    high = max(min(high, most(field.setting, info)), low + 1)
    return (int(low), int(high)) if field.setting.kind == "whole" else (low, high)


def hint(field: Field, info: ModelInfo) -> str:
    """What the setting does for a model, in a sentence or two."""
    setting = field.setting
    words = [setting.help[:1].upper() + setting.help[1:] + "."]
    if field.drawn == "text" and setting.kind in ("number", "whole"):
        words.append(f"{setting.low:g} to {most(setting, info):g}.")
    if setting.unset:
        empty = "Empty" if field.drawn == "text" else f"{field.start}"
        words.append(f"{empty}: {setting.unset}.")
    return " ".join(words)


def native(setting: Setting, info: ModelInfo) -> str:
    """The model's own value, as its field shows it while it is empty."""
    value = getattr(info, setting.native) if setting.native else None
    return "" if value is None else f"{value:g}"


def values_of(
    form: Mapping[str, Any], info: ModelInfo, fields: Mapping[str, Field] = FIELDS
) -> dict[str, Any]:
    """What a form asks for, of settings that the model has. Raises BadRequest for what is no such value."""
    return {
        name: read(field, form[name])
        for name, field in fields.items()
        if there(field.setting, info) and asked(field, form.get(name))
    }


def asked(field: Field, value: Any) -> bool:
    """Whether a field holds more than what it starts with."""
    filled = value is not None and str(value).strip() != ""
    return filled and not (field.setting.default is None and value == field.start)


def read(field: Field, value: Any) -> Any:
    """A field's value as its type; ranges are the engine's. Raises BadRequest."""
    setting = field.setting
    if setting.kind not in ("number", "whole"):
        return value
    number = to_number(value.replace(",", ".") if isinstance(value, str) else value)
    if not abs(number) < float("inf"):
        raise BadRequest(f"{setting.title}={value!r} is no finite number; enter one")
    if setting.kind == "number":
        return number
    if number != int(number):
        raise BadRequest(f"{setting.name}={number:g} is no whole number; enter one")
    return int(number)


def of_settings(said: Mapping[str, Any], fields: Mapping[str, Field] = FIELDS) -> dict[str, Any]:
    """What the fields hold for the settings of a picture. Raises TypeError, ValueError or OverflowError for no such value."""
    out: dict[str, Any] = {}
    for name, field in fields.items():
        value = said.get(name)
        if value is None:
            value = field.empty
        out[name] = str(value) if field.drawn == "text" else field.setting.cast(value)
    return out
