"""The app on the toy engine for quick tests; app.py on the real one, and Chromium, for those marked `browser`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lcm_studio.web.app import build_app
from lcm_studio.web.options import Options
from tests.toy_engine import ToyEngine

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
PATIENCE = int(os.environ.get("PATIENCE_MS", "120000"))  # only a failing test waits so long


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyEngine:
    """With one textual inversion in its folder."""
    folder = tmp_path_factory.mktemp("embeddings")
    save_file({"emb_params": np.ones((1, 2), np.float32)}, folder / "bad-hands.safetensors")
    engine = ToyEngine(embeddings=folder)
    engine.load("scenery-lcm")
    return engine


@pytest.fixture(scope="session")
def client(toy: ToyEngine) -> Iterator[Any]:
    """The whole app, guard and all, on the toy engine."""
    from starlette.testclient import TestClient

    app = build_app(lambda _: toy, Options(preload=False, queue_size=4))
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        yield client


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Server:
    """app.py, or another script with its flags, in a process of its own."""

    def __init__(self, *flags: str, log: Path, script: str = "app.py") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.log = log
        self.started = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        self.process = subprocess.Popen(
            [sys.executable, script, "--port", str(self.port), *flags],
            cwd=ROOT, env=environment, stdout=log.open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + "studio/state", timeout=20) as answer:
            return dict(json.load(answer))

    def wait(
        self, ready: Callable[[dict[str, Any]], bool] = lambda _: True, seconds: float = 240
    ) -> None:
        until = time.monotonic() + seconds
        said: Any = None
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                said = self.state()
                if ready(said):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            time.sleep(0.1)
        raise AssertionError(f"app.py is not up ({said}):\n{self.log.read_text()}")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """app.py with the bundled model, loaded."""
    server = Server(log=tmp_path_factory.mktemp("app") / "log")
    try:
        server.wait(lambda said: said["status"] in ("ready", "failed"))
        assert server.state()["status"] == "ready", server.state()["message"]
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    assert Path(CHROMIUM).exists(), (
        f"no Chromium at {CHROMIUM}: the browser tests need it. Install it (apt-get install chromium) "
        "or set CHROMIUM to its path."
    )
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Opens the studio as a new user; errors in the page's scripts fail the test."""
    yield from opening(chromium, server)


def opening(chromium: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """What `open_page` yields, for any server."""
    contexts, errors = [], []

    def opened(*, init_script: str = "", **options: Any) -> Any:
        options = {"viewport": {"width": 1280, "height": 900}, **options}
        context = chromium.new_context(**options)
        context.add_init_script(init_script)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.foreign = []
        page.on(
            "request",
            lambda r: (
                None
                if r.url.startswith((server.url, "data:", "blob:"))
                else page.foreign.append(r.url)
            ),
        )
        page.goto(server.url, wait_until="commit")
        page.wait_for_selector("html[data-studio=ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors, errors
