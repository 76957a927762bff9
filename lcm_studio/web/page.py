"""The page itself: header, tabs, and what happens when it is closed."""

from __future__ import annotations

import importlib
import importlib.util

import gradio as gr

from lcm_studio.web import TABS, parts
from lcm_studio.web.create.api import add_endpoints
from lcm_studio.web.studio import Studio

TITLE = "LCM Studio"


def build_page(studio: Studio) -> gr.Blocks:
    """The shell and every tab whose module exists."""
    with gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False) as page:
        parts.mount("header", "page", value={"auth": studio.options.auth is not None})
        with gr.Tabs(elem_classes="lcm-tabs"):
            for name, module in TABS:
                if importlib.util.find_spec(module) is None:
                    continue
                with gr.Tab(name, elem_id=f"tab-{name.lower()}"):
                    importlib.import_module(module).build(studio)

        add_endpoints(studio)

        def forget(request: gr.Request) -> None:
            """A closed page's requests stop."""
            studio.turnstile.stop(request.session_hash or "")

        page.unload(forget)
    page.queue(default_concurrency_limit=8, max_size=None)
    return page
