"""The settings of the samplers in the Create form: one control for each name in spec/samplers.py, shown where it counts.

Samplers share controls of one name (`spacing`), whose value is then the chosen sampler's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lcm_studio.spec.errors import BadRequest
from lcm_studio.spec.samplers import SAMPLERS, Value, sampler_info
from lcm_studio.spec.schema import Setting

PREFIX = "sampler_"
FIELDS: dict[str, Setting] = {
    PREFIX + setting.name: setting for row in SAMPLERS.values() for setting in row.settings
}
CHOICES = [
    ("auto", "auto"),
    *((f"{row.title} ({row.name})", row.name) for row in SAMPLERS.values()),
]
AUTO = "auto goes by the model; all but consistency and DDIM are for plain diffusion models."


def settings_of_form(form: Mapping[str, Any]) -> dict[str, Any]:
    """`sampler_settings` of the form's sampler, whole numbers as such. Raises BadRequest for an empty field."""
    sampler = form.get("sampler")
    if sampler not in SAMPLERS:
        return {}
    given = {}
    for setting in SAMPLERS[sampler].settings:
        name = PREFIX + setting.name
        if name not in form:
            continue
        value = form[name]
        if value is None or value == "":
            raise BadRequest(f"{setting.title} is empty; enter {_allowed(setting)}")
        given[setting.name] = (
            int(value) if isinstance(value, float) and value.is_integer() else value
        )
    return given


def form_of_settings(sampler: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of all fields for a sampler: those of `given`, else its defaults."""
    defaults = defaults_of(sampler)
    return {
        name: given.get(setting.name, defaults[name])
        if sampler in SAMPLERS and setting.name in SAMPLERS[sampler].defaults
        else defaults[name]
        for name, setting in FIELDS.items()
    }


def defaults_of(sampler: Any) -> dict[str, Value]:
    """The default of every field; of those that the sampler has, its own."""
    own = SAMPLERS[sampler].defaults if sampler in SAMPLERS else {}
    return {name: own.get(setting.name, setting.default) for name, setting in FIELDS.items()}


def unknown(sampler: str, given: Mapping[str, Any]) -> list[str]:
    """Sentences about settings that the sampler does not have."""
    has = SAMPLERS[sampler].defaults if sampler in SAMPLERS else {}
    return [
        f"The sampler {sampler} has no setting {str(name)[:40]!r}; it is left out."
        for name in given
        if name not in has
    ]


def fitted(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """({field: value} of the fields in `values` that had to change, a sentence for each)."""
    sampler = values.get("sampler")
    defaults = defaults_of(sampler)
    changed: dict[str, Any] = {}
    notes = []
    rows = SAMPLERS[sampler].settings if sampler in SAMPLERS else ()
    own = {PREFIX + setting.name: setting for setting in rows}
    for name, field in FIELDS.items():
        if name not in values:
            continue
        try:
            own.get(name, field).read(values[name])
        except BadRequest as error:
            changed[name] = defaults[name]
            if name in own:
                notes.append(f"{error}; {defaults[name]} is set.")
    return changed, notes


def build(tab: str) -> dict[str, Any]:
    """The sampler's list and its settings, which are hidden until a sampler that has them is chosen."""
    import gradio as gr

    c: dict[str, Any] = {}
    c["sampler"] = gr.Dropdown(
        choices=CHOICES, value="auto", label="Sampler", info=AUTO, elem_id=f"{tab}-sampler",
    )  # fmt: skip
    for name, setting in FIELDS.items():
        c[name] = _control(tab, name, setting)
    return c


def updates(sampler: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Updates of the list and of every field: what the sampler is, what it has, and `values` where given."""
    import gradio as gr

    own = SAMPLERS[sampler].defaults if sampler in SAMPLERS else {}
    out: dict[str, Any] = {"sampler": gr.update(value=sampler, info=words(sampler))}
    for name, value in defaults_of(sampler).items():
        shown = FIELDS[name].name in own
        out[name] = gr.update(visible=shown, value=values.get(name, value))
    return out


def words(sampler: Any) -> str:
    """What the list says of the chosen one."""
    if sampler not in SAMPLERS:
        return AUTO
    row = sampler_info(sampler)
    if not row.score:
        return row.words
    return f"{row.words} Steps are network evaluations, at least {row.least}."


def _control(tab: str, name: str, setting: Setting) -> Any:
    import gradio as gr

    from lcm_studio.web import inputs

    common: dict[str, Any] = {
        "label": setting.title, "value": setting.default, "visible": False,
        "elem_id": f"{tab}-{name.replace('_', '-')}",
    }  # fmt: skip
    if setting.kind == "switch":
        return gr.Checkbox(**common, info=setting.help)
    if setting.choices:
        return gr.Dropdown(**common, info=setting.help, choices=list(setting.choices))
    step = 1 if setting.kind == "whole" else None
    info = f"{setting.help} {_allowed(setting).capitalize()}."
    return inputs.Number(**common, info=info, **({"step": step} if step else {}))


def _allowed(setting: Setting) -> str:
    if setting.choices:
        return f"one of {', '.join(setting.choices)}"
    kind = "a whole number" if setting.kind == "whole" else "a number"
    return f"{kind} from {setting.low:g} to {setting.high:g}"
