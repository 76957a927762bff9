"""The Lab tab: one element, which static/lab/lab.js draws when the tab is opened first."""

from __future__ import annotations

import gradio as gr

from lcm_studio.web.studio import Studio


def build(studio: Studio) -> None:
    """Everything inside the tab."""
    gr.HTML(
        html_template='<div class="lcm-mount"></div>',
        js_on_load=(
            "import(new URL('studio/static/lab/lab.js', document.baseURI)).then("
            "m => m.mountLab(element.querySelector('.lcm-mount')))"
        ),
        apply_default_css=False,
        elem_id="lab",
        elem_classes=["lcm"],
    )
