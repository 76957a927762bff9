"""Gradio builds the page's server once, and the page's queue works with that one."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.routing import Mount


def mounted(app: Any) -> Any:
    """The page's server, behind the guard and the index."""
    while not hasattr(app, "routes"):
        app = app.app
    return next(route.app for route in app.routes if isinstance(route, Mount) and route.path == "")


def test_the_queue_works_with_the_server_that_is_mounted(client: Any) -> None:
    page = mounted(client.app)
    assert page.get_blocks().app is page


def test_no_statistics_are_made_of_events(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio made a table of the last events after every event, which took longer than most events do."""
    queue, tables = mounted(client.app).get_blocks()._queue, []
    monkeypatch.setattr(queue, "_get_df", tables.append)
    monkeypatch.setattr(queue, "events_recorded", queue.events_recorded + 1)
    queue.compute_analytics_summary([{"function": "generate", "status": "success"}])
    assert not tables


def test_pages_without_a_server_leave_gradio_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import gradio as gr
    from gradio.routes import App

    from lcm_studio.web.server.mounting import no_server_yet

    build = App.__dict__["create_app"]
    with no_server_yet(), gr.Blocks(analytics_enabled=False) as page:
        gr.HTML("x")
    assert page.app is None
    assert App.__dict__["create_app"] is build
    with pytest.raises(ZeroDivisionError), no_server_yet():
        1 / 0  # noqa: B018
    assert App.__dict__["create_app"] is build
