"""The control of a setting; and sliders and number fields whose values always reach the listener, where they are checked and answered in a sentence.

Gradio's own refuse the whole event when a value is out of range: the listener never runs, and nothing that it draws
can say so.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio import component_meta

from lcm_studio.web.fields import OWN, UNSET, Field


@contextlib.contextmanager
def _no_stub_files() -> Iterator[None]:
    """Gradio writes a .pyi file beside the source of every component class; ours would shadow this module."""
    write = component_meta.create_or_modify_pyi
    component_meta.create_or_modify_pyi = lambda *_: None
    try:
        yield
    finally:
        component_meta.create_or_modify_pyi = write


with _no_stub_files():

    class Slider(gr.Slider):
        """A slider; see the module."""

        is_template = True  # drawn as the class it is made from

        def preprocess(self, payload: Any) -> Any:
            return payload

    class Number(gr.Number):
        """A number field; see the module."""

        is_template = True

        def preprocess(self, payload: Any) -> Any:
            return payload


def control(tab: str, field: Field, *, visible: bool = True, **more: Any) -> Any:
    """The component of one setting on a tab; `more` are properties of its own."""
    setting = field.setting
    title = setting.title
    if setting.parts:
        title = field.name.capitalize()
    common: dict[str, Any] = {
        "label": title, "value": field.start, "visible": visible, "interactive": True,
        "elem_id": f"{tab}-{field.name.replace('_', '-')}",
    } | more  # fmt: skip
    if field.drawn == "switch":
        return gr.Checkbox(**common, elem_classes="lcm-mini")
    if field.drawn == "slider" and field.span:
        low, high = field.span
        step = setting.step
        if not step:  # a power of ten, so that what is typed stays; 20 to 200 steps
            step = (
                1
                if setting.kind in ("whole", "numbers")
                else 10 ** math.floor(math.log10((high - low) / 20))
            )
        return Slider(**{"minimum": low, "maximum": high, "step": step, "min_width": 120, **common})
    if field.drawn == "row":
        return gr.Radio(
            [(f"{value:g} {setting.unit}".strip(), value) for value in setting.offers], **common
        )
    common = {"info": field.about, **common}
    if field.drawn == "offers":
        return gr.Dropdown(list(setting.offers), allow_custom_value=True, **common)
    if field.drawn == "menu":
        own = [(OWN, UNSET)] if field.start == UNSET else []
        return gr.Dropdown([*own, *((name, name) for name in setting.choices)], **common)
    # texts, for an empty gr.Number turns into a 0 as soon as it is shown
    return gr.Textbox(max_lines=1, **{**common, "value": str(field.empty)})
