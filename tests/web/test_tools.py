"""MCP: a handful of tools behind one token, and nothing for anybody else."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lcm_studio.spec.passwords import single
from lcm_studio.web import flags
from lcm_studio.web.app import build_app
from lcm_studio.web.options import Options
from tests.toy_engine import ToyEngine

pytest.importorskip("mcp")

TOKEN = "a-token-for-these-tests"
BASE = "http://127.0.0.1:7860"
PATH = "/mcp/gradio_api/mcp/"
OWN = {
    "authorization": f"Bearer {TOKEN}",
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
}


@pytest.fixture(scope="module")
def served() -> Iterator[Any]:
    from starlette.testclient import TestClient

    options = Options(preload=False, mcp_token=TOKEN, users=single("ann", "secret"))
    engine = ToyEngine()
    with TestClient(build_app(lambda _: engine, options), base_url=BASE) as client:
        yield client


def asked(client: Any, method: str, headers: dict[str, str] = OWN, **params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return client.post(PATH, json=body, headers=headers)


def result(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    lines = [line for line in answer.text.splitlines() if line.startswith("data:")]
    return dict(json.loads(lines[-1].removeprefix("data:"))["result"])


def call(client: Any, name: str, **arguments: Any) -> dict[str, Any]:
    return result(asked(client, "tools/call", name=name, arguments=arguments))


def made(answer: dict[str, Any]) -> tuple[bytes, str]:
    """The PNG, and everything that was said."""
    assert not answer.get("isError"), answer
    image = next(part for part in answer["content"] if part["type"] == "image")
    text = "\n".join(part["text"] for part in answer["content"] if part["type"] == "text")
    return base64.b64decode(image["data"]), text


def test_the_tools(served: Any) -> None:
    tools = {tool["name"]: tool for tool in result(asked(served, "tools/list"))["tools"]}
    assert set(tools) == {"generate", "edit", "edit_tasks", "models", "job_status"}
    for tool in tools.values():
        assert tool["description"]
        assert "url" not in json.dumps(tool["inputSchema"]).lower()
    assert "seed" in tools["generate"]["inputSchema"]["properties"]


def test_a_picture_and_what_made_it(served: Any) -> None:
    from PIL import Image

    raw, text = made(call(served, "generate", prompt="sunset", steps=2, seed=5))
    assert Image.open(io.BytesIO(raw)).size == (256, 256)
    assert "'seed': 5" in text and "'picture': '" in text
    address = text.split("Image URL: ")[1].split()[0]  # Gradio adds it
    assert served.get(address).status_code == 401


def test_models_tasks_and_jobs(served: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LCM_STUDIO_HOME", str(tmp_path))
    assert "snowy mountains" in call(served, "models")["content"][0]["text"]
    assert "every pixel outside the mask" in call(served, "edit_tasks")["content"][0]["text"]
    assert call(served, "job_status")["content"][0]["text"] == "[]"
    gone = call(served, "job_status", job="../../etc")
    assert gone["isError"] and "Traceback" not in json.dumps(gone)


@pytest.mark.parametrize(
    "source",
    [
        "/etc/passwd",
        "http://127.0.0.1:1/a.png",
        "https://studio.example/a.png",
        "file:///etc/passwd",
        "studio/picture/x.png",
        "data:image/png;base64,AAAA",
        base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\xff" * 50).decode(),
        "",
    ],
)
def test_what_is_no_picture_is_one_sentence(served: Any, source: str) -> None:
    answer = call(served, "edit", task="colorize", picture=source)
    assert answer["isError"]
    text = json.dumps(answer)
    assert "Traceback" not in text and "root:" not in text


@pytest.mark.parametrize("model", ["/etc", "../scenery-lcm", "some-owner/some-model"])
def test_models_are_named_not_found_by_path(served: Any, model: str) -> None:
    answer = call(served, "generate", prompt="x", model=model)
    assert answer["isError"] and "is not offered" in json.dumps(answer)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": "Basic " + base64.b64encode(b"ann:secret").decode()}, 401),
        ({"authorization": f"Bearer {TOKEN}", "origin": "https://evil.example"}, 403),
        ({"authorization": f"Bearer {TOKEN}", "origin": "null"}, 403),
        ({"authorization": f"Bearer {TOKEN}", "host": "evil.example"}, 403),
    ],
)
def test_strangers_are_refused(served: Any, headers: dict[str, str], status: int) -> None:
    rest = {name: OWN[name] for name in ("accept", "content-type")}
    assert asked(served, "tools/list", headers={**rest, **headers}).status_code == status
    for path in ("/mcp", "/mcp/", "/mcp/config", "/mcp/gradio_api/mcp/sse", "/mcp/gradio_api/mcp/schema",
                 "/mcp/gradio_api/run/generate"):  # fmt: skip
        assert served.get(path, headers=headers).status_code == status, path


def test_the_token_opens_the_tools_alone(served: Any) -> None:
    assert served.get("/config", headers=OWN).status_code == 401
    assert served.get("/studio/state", headers=OWN).status_code == 401


def test_without_the_flag_there_is_nothing(client: Any) -> None:
    for headers in ({}, OWN):
        assert asked(client, "tools/list", headers={**headers}).status_code == 404
    assert "mcp_server=True" not in client.get("/").text


def test_the_flag(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("LCM_STUDIO_MCP_TOKEN", raising=False)
    assert flags.read_options([]).mcp_token is None
    fresh = {flags.read_options(["--mcp"]).mcp_token for _ in range(2)}
    assert len(fresh) == 2 and all(token and len(token) >= 40 for token in fresh)
    monkeypatch.setenv("LCM_STUDIO_MCP_TOKEN", TOKEN)
    assert flags.read_options(["--mcp"]).mcp_token == TOKEN
    monkeypatch.setenv("LCM_STUDIO_MCP_TOKEN", "short")
    for given, words in (
        (["--mcp"], "16 plain characters"),
        (["--mcp", "--host", "0.0.0.0", "--auth", "a:b"], "LCM_STUDIO_MCP_TOKEN"),
    ):
        with pytest.raises(SystemExit):
            flags.read_options(given)
        assert words in capsys.readouterr().err
    monkeypatch.delenv("LCM_STUDIO_MCP_TOKEN")
    with pytest.raises(SystemExit):
        flags.read_options(["--mcp", "--host", "0.0.0.0", "--auth", "a:b"])
    assert "this machine only" in capsys.readouterr().err


def test_a_picture_made_here_is_edited_by_its_id(served: Any) -> None:
    from lcm_studio.web import tools

    raw, text = made(call(served, "generate", prompt="sunset", steps=1, seed=5))
    name = text.split("'picture': '")[1].split("'")[0]
    studio = tools_studio(served)
    by_id = tools.opened(studio, name, "picture")
    for code in (
        base64.b64encode(raw).decode(),
        "data:image/png;base64," + base64.b64encode(raw).decode(),
    ):
        assert np.array_equal(tools.opened(studio, code, "picture"), by_id)


def tools_studio(served: Any) -> Any:
    """The studio behind the app: found through the closure of the mounted tool."""
    from starlette.routing import Mount

    inner = served.app
    while not hasattr(inner, "routes"):
        inner = inner.app
    mounted = next(r for r in inner.routes if isinstance(r, Mount) and r.path == "/mcp")
    tool = next(iter(mounted.app.get_blocks().fns.values())).fn.__wrapped__
    cells = dict(zip(tool.__code__.co_freevars, tool.__closure__, strict=True))
    return cells["studio"].cell_contents
