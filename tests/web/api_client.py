"""Gradio's own client on the whole app with the real engine, on a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from gradio_client import Client

from lcm_studio.web.app import build_app, engine_for
from lcm_studio.web.options import Options
from tests.web.conftest import free_port


@contextmanager
def api_client(**options: Any) -> Iterator[Client]:
    """`options`: fields of `Options`. The server ends with the context."""
    port = free_port()
    app = build_app(engine_for, Options(**options, device="cpu", port=port, preload=False))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    client = Client(f"http://127.0.0.1:{port}", verbose=False, analytics_enabled=False)
    yield client
    client.close()
    server.should_exit = True
    thread.join(30)
