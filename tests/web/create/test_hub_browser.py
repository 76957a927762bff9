"""A model of the hub, chosen on the page: its progress, Stop, and the next try that goes on. In a real browser."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.hub import Hub
from tests.web.conftest import Server, opening
from tests.web.create.test_browser import NOTE, generate

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("lcm", tmp_path_factory.mktemp("published") / "lcm")


@pytest.fixture(scope="module")
def hub(published: Path) -> Iterator[Hub]:
    with Hub() as hub:
        hub.publish("ann/lcm", published)
        yield hub


@pytest.fixture(scope="module")
def online(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    own = tiny.save("cm", root / "own")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in hub.environment(
            root / "home", LCM_STUDIO_HOME=str(root / "kept")
        ).items():
            patch.setenv(name, value)
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            patch.delenv(name, raising=False)
        server = Server("--device", "cpu", "--model", str(own), "--online", log=root / "log")
    try:
        server.wait(lambda said: said["status"] in ("ready", "failed"))
        yield server
    finally:
        server.close()


@pytest.fixture
def open_online(chromium: Any, online: Server) -> Iterator[Callable[..., Any]]:
    yield from opening(chromium, online)


def choose(page: Any, name: str) -> None:
    box = page.locator("#create-model input")
    box.fill(name)
    box.press("Enter")


def test_a_download_shows_its_progress_is_stopped_and_goes_on(
    open_online: Callable[..., Any], hub: Hub, published: Path
) -> None:
    unet = (published / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    blob = f"/blobs/{hashlib.sha256(unet).hexdigest()}"
    others = sum(path.stat().st_size for path in published.glob("*/*.safetensors")) - len(unet)
    released = hub.held[blob] = threading.Event()
    page = open_online()
    choose(page, "ann/lcm")
    panel = page.locator(".lcm-download")
    panel.get_by_text("Downloading ann/lcm").wait_for()
    share = others / (others + len(unet))
    page.wait_for_function(
        "share => Math.abs(document.querySelector('.lcm-download progress').value - share) < 1e-6", arg=share
    )  # fmt: skip
    with page.expect_response("**/studio/stop-download") as answered:
        panel.get_by_role("button", name="Stop").click()
    assert answered.value.ok
    released.set()
    page.wait_for_selector(f"{NOTE} >> text=goes on where it stopped")
    panel.wait_for(state="detached")
    del hub.held[blob]
    before = len(hub.log)
    choose(page, "ann/lcm")
    page.wait_for_selector(f"{NOTE} >> text=ann/lcm is ready")
    fetched = {path for _, path in hub.log[before:] if path.startswith("/blobs/")}
    assert fetched <= {blob}  # the others were there
    generate(page, "sunset", steps=1, seed=3)
