"""The page itself: header, tabs, and what happens when it is closed."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import gradio as gr

from lcm_studio.edits import TASKS
from lcm_studio.engine.line import KEPT_FREE, MAX_RUNNING
from lcm_studio.web import TABS, parts
from lcm_studio.web.create.api import add_endpoints
from lcm_studio.web.server.blocks import Page
from lcm_studio.web.server.gallery import allowed
from lcm_studio.web.server.handouts import KEPT_SECONDS
from lcm_studio.web.studio import Studio

TITLE = "LCM Studio"
SESSIONS = 256  # pages whose state is remembered
SPARE_THREADS = 24


def build_page(studio: Studio) -> gr.Blocks:
    """The shell and every tab whose module exists."""
    with Page(
        title=TITLE, fill_width=True, analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)
    ) as page:
        parts.mount("header", "page", value=header(studio))
        with gr.Tabs(elem_classes="lcm-tabs"):
            for name, module in TABS:
                if importlib.util.find_spec(module) is None:
                    continue
                with gr.Tab(name, elem_id=f"tab-{name.lower()}"):
                    importlib.import_module(module).build(studio)

        add_endpoints(studio)
        parts.wire_back(studio)

        def forget(request: gr.Request) -> None:
            """A closed page's requests stop, unless it comes back."""
            studio.stops.left(request.session_hash or "")

        page.unload(forget)
    # Requests wait in the lane's queue alone: Gradio starts each at once, in a thread of its own.
    page.max_threads = threads(studio)
    page.state_session_capacity = SESSIONS
    page.create_limiter()
    page.queue(default_concurrency_limit=8, max_size=page.max_threads, api_open=False)
    return page


def header(studio: Studio) -> dict[str, Any]:
    """What the header shows: a way out for who signed in, the gallery, and the tools that it sends pictures to."""
    options = studio.options
    tools = [[task.title, task.name] for task in TASKS.values()] if allowed(options) else None
    return {"auth": bool(options.users), "tools": tools}


def threads(studio: Studio) -> int:
    """One for each request that may wait or run, and some for everything else on the page."""
    return studio.options.queue_size + KEPT_FREE + 2 * MAX_RUNNING + SPARE_THREADS
