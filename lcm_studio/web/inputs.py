"""Sliders and number fields whose values always reach the listener, where they are checked and answered in a sentence.

Gradio's own refuse the whole event when a value is out of range: the listener never runs, and nothing that it draws
can say so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio import component_meta


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
