"""One server for one page.

Gradio builds all of a page's routes when the page is closed, again when its queue is set, and again when it is mounted.
Each time takes 0.4 s, a fifth of what the start needs beside importing Gradio; and the queue goes on working with the one
before the last, whose sessions are not the ones that the page's own routes know.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import fastapi
    import gradio as gr


@contextlib.contextmanager
def no_server_yet() -> Iterator[None]:
    """Pages that are made here have no server; `mount` gives them one."""
    from gradio.routes import App

    build = App.__dict__["create_app"]
    App.create_app = staticmethod(lambda *_, **__: None)
    try:
        yield
    finally:
        App.create_app = build


def mount(api: fastapi.FastAPI, blocks: gr.Blocks, path: str, **settings: Any) -> None:
    """Serves `blocks` under `path`, and makes its queue work with that very server."""
    import gradio as gr

    gr.mount_gradio_app(
        api, blocks, path=path, ssr_mode=False, enable_monitoring=False, pwa=False, footer_links=[],
        run_history=False, show_error=True, **settings,
    )  # fmt: skip
    blocks.app = api.router.routes[-1].app  # type: ignore[attr-defined]
