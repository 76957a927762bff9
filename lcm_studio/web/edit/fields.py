"""The form's fields for the settings of all tasks, made from their schema. No Gradio here.

A setting has one field, which all tasks share that have a setting of its name. One whose numbers have names (`parts`) has a
field for each. What a field sends is read by the schema; here it is only brought into the shape that the schema takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lcm_studio.edits import TASKS, task_of
from lcm_studio.spec.schema import Setting, settings_of
from lcm_studio.web.create import values as form
from lcm_studio.web.fields import OWN, UNSET, Field


def fields() -> tuple[Field, ...]:
    """Every field, in the order of the tasks and their settings."""
    tools: dict[str, list[str]] = {}
    settings: dict[str, Setting] = {}
    for task in TASKS.values():
        for setting in settings_of(task.settings):
            settings.setdefault(setting.name, setting)
            tools.setdefault(setting.name, []).append(task.name)
    made = []
    for name, setting in settings.items():
        start = setting.default if setting.start is None else setting.start
        if setting.kind == "choice" and start is None:
            start = UNSET
        parts = setting.parts or (name,)
        starts = start if setting.parts else (start,)
        made += [
            Field(name=part, setting=setting, tools=tuple(tools[name]), start=value)
            for part, value in zip(parts, starts, strict=True)
        ]
    return tuple(made)


def names() -> tuple[str, ...]:
    return tuple(field.name for field in fields())


def options(tool: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one task from a form that holds those of all; what is left as it is is not sent."""
    out: dict[str, Any] = {}
    for setting in settings_of(task_of(tool).settings):
        if setting.parts:
            if any(part in given for part in setting.parts):
                out[setting.name] = [form.whole(given, part) for part in setting.parts]
            continue
        value = _value(setting, given.get(setting.name))
        if value is None or value == setting.default:
            continue
        out[setting.name] = value
    return out


def _value(setting: Setting, given: Any) -> Any:
    """What a field holds as the schema takes it; None where it is empty."""
    words = form.filled(given)
    if not words or (setting.kind == "choice" and words in (UNSET, OWN)):
        return None
    if setting.kind == "numbers":
        parts = words.replace(";", ",").split(",") if isinstance(given, str) else [words]
        return [part.strip() for part in parts if part.strip()] or None
    if setting.kind in ("number", "whole") and isinstance(given, str):
        return form.typed(given)
    return given


def from_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Values of all fields from the options of an edit; a field that is not among them is as at the start."""
    out: dict[str, Any] = {field.name: field.empty for field in fields()}
    for field in fields():
        setting, value = field.setting, options.get(field.setting.name)
        if value is None:
            if field.setting.parts:
                out[field.name] = 0
            elif setting.default is not None:
                out[field.name] = setting.default
        elif setting.parts:
            if isinstance(value, list | tuple) and len(value) == len(setting.parts):
                out[field.name] = value[setting.parts.index(field.name)]
        elif setting.kind == "choice" and value not in setting.choices:
            out[field.name] = field.empty  # one that there was once
        elif isinstance(value, list | tuple):
            out[field.name] = ", ".join(str(one) for one in value)
        else:
            out[field.name] = value
    return out
