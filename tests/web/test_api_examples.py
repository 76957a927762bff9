"""The examples of docs/guide/api.md, as they stand there, against the real server on the toy engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from PIL import Image

from lcm_studio.web.app import build_app
from lcm_studio.web.options import Options
from tests.toy_engine import ToyEngine
from tests.web.conftest import free_port

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    port = free_port()
    engine = ToyEngine()
    app = build_app(lambda _: engine, Options(port=port, preload=False))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(30)


def examples(language: str) -> list[str]:
    """The blocks of the page in that language."""
    text = (ROOT / "docs" / "guide" / "api.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def node() -> str:
    """Node on this machine, else the one that comes with playwright."""
    from playwright._impl._driver import compute_driver_executable

    return shutil.which("node") or str(compute_driver_executable()[0])


@pytest.mark.parametrize("language", ["bash", "python", "javascript"])
def test_an_example_of_generate(language: str, address: str, tmp_path: Path) -> None:
    if language == "bash" and not (shutil.which("bash") and shutil.which("curl")):
        pytest.skip("there is no curl here")
    name, command = {
        "bash": ("example.sh", ["bash", "-eu"]),
        "python": ("example.py", [sys.executable]),
        "javascript": ("example.mjs", [node()]),
    }[language]
    code = examples(language)[0]
    assert "http://127.0.0.1:7860" in code
    (tmp_path / name).write_text(code.replace("http://127.0.0.1:7860", address))
    done = subprocess.run(
        [*command, name], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "sunset.png").size == (256, 256)


def test_the_example_of_edits_names_a_real_endpoint(address: str) -> None:
    from gradio_client import Client

    client = Client(address, verbose=False, analytics_enabled=False)
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    code = examples("python")[1]
    assert "/edit_colorize" in endpoints and "/edit_colorize" in code
    told = (ROOT / "docs" / "guide" / "api.md").read_text()
    for name in endpoints:
        assert f"`{name}`" in told, name
    arguments = {p["parameter_name"] for p in endpoints["/generate"]["parameters"]}
    for argument in arguments:
        assert f"`{argument}`" in told, argument
    client.close()
