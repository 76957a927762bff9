"""1,500 hostile requests: whatever comes in, one sentence goes out; no raw text, no broken stream, no dead server."""

from __future__ import annotations

import json
import logging
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lcm_studio.web.app import build_app
from lcm_studio.web.options import Options
from lcm_studio.web.server.guard import Buckets
from tests.images.test_gate import chunk, png
from tests.toy_engine import ToyEngine
from tests.web.create.test_values import GOOD

RAW = re.compile(
    r"Traceback|\w+Error\b|\w+Exception\b|site-packages|object at 0x|NoneType|pydantic|not subscriptable|"
    r"has no attribute|positional argument|unhashable|\bFile \"|\.py\b|Internal Server Error|errno",
)
ODD: list[Any] = [
    None, True, False, 0, -1, 1.5, 1e308, -1e308, float("nan"), float("inf"), 2**70, "", " ", "x" * 3000, "\ud800",
    "a\x00b", "../../etc/passwd", "/etc/passwd", "http://127.0.0.1:1/x", [], {}, [[]], [None] * 40, {"a": {"b": [1]}},
    {"path": "/etc/passwd"}, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, {"path": 5, "meta": {"_type": "gradio.FileData"}},
    {"path": "x", "url": "http://127.0.0.1:1/", "meta": {"_type": "gradio.FileData"}}, "data:image/png;base64,AAAA",
    [{"path": None}], {"id": "x", "settings": None}, "4", "4,5", "<script>", "sunset", "\u202e", json.loads("[" * 40 + "]" * 40),
]  # fmt: skip
ROUTES = (
    "cancel", "reset", "queue/join", "call/generate", "call/nothing", "call/edit_inpaint", "run/generate", "run/predict",
    "api/x", "upload", "component_server", "stream/x", "stream/x/close", "call/v2/generate", "call/v2/nothing",
    "process_recording", "vibe-edit", "undo-vibe-edit", "vibe-code", "run-history/connect",
)  # fmt: skip
SLOW = {"example"}  # renders two thousand scenes, as it should
WAITS = "upload_progress?upload_id=x"  # three seconds, for the upload to begin
READS = (
    "queue/data", "queue/data?session_hash=nobody", "call/generate/nobody", "call/v2/generate/nobody", "info", "openapi.json",
    "file=/etc/passwd", "file=../../x", "file/x", "stream/x/y/z/playlist.m3u8", "stream/x/y/z/a.ts",
    "custom_component/x/y/z", "deep_link?session_hash=x", "runs", "run-history/records", "vibe-code", "dev/reload", "nothing",
    "theme.css", "monitoring", "monitoring/x", "token", "user",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from starlette.testclient import TestClient

    patch = pytest.MonkeyPatch()
    patch.setenv("LCM_STUDIO_HOME", str(tmp_path_factory.mktemp("home")))
    app: Any = build_app(lambda _: ToyEngine(), Options(preload=False))
    app.buckets = Buckets(rate=1e9, burst=1e9)
    patch.setattr(logging.getLogger("lcm_studio.web"), "disabled", True)  # hundreds of tracebacks
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        yield client
    patch.undo()


def check(answer: Any, case: Any) -> None:
    text = answer.text
    kind = answer.headers.get("content-type", "")
    if answer.status_code >= 400:
        value = answer.json()
        words = value.get("detail") or value.get("error")
        assert isinstance(words, str) and len(words) > 8, (case, answer.status_code, value)
        assert not RAW.search(words), (case, words)
        assert answer.status_code < 500 or answer.status_code in (500, 503, 507), case
    elif "event-stream" in kind:
        stream(text, case)
    elif kind == "application/json":
        answer.json()
    assert "Traceback" not in text, case


def stream(text: str, case: Any) -> None:
    """Every message is whole, the last one is an end, and what failed says why in words."""
    messages = [part for part in text.split("\n\n") if part]
    assert text.endswith("\n\n") and messages, (case, text[-200:])
    for part in messages:
        lines = dict(line.split(": ", 1) for line in part.splitlines())
        value = json.loads(lines["data"])
        words = None
        if lines.get("event") == "error":
            words = value if isinstance(value, str) else value.get("error")
        elif isinstance(value, dict) and value.get("msg") == "unexpected_error":
            words = value["message"]
        elif isinstance(value, dict) and value.get("success") is False:
            words = value["output"].get("error")
        elif isinstance(value, dict) and value.get("msg") == "log":
            words = value["log"]
        else:
            continue
        assert isinstance(words, str) and len(words) > 8, (case, part[:300])
        assert not RAW.search(words), (case, words)


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def odd(dice: random.Random) -> Any:
    return dice.choice(ODD)


def mutated(dice: random.Random, good: dict[str, Any]) -> dict[str, Any]:
    """`good` with one to three values replaced, dropped or added."""
    said = dict(good)
    for name in dice.sample(sorted(good), dice.randint(1, 3)):
        said[name] = odd(dice)
    if dice.random() < 0.2:
        said.pop(dice.choice(sorted(said)), None)
    if dice.random() < 0.1:
        said["more of it"] = odd(dice)
    return said


def test_pngs_with_hostile_settings(page: Any) -> None:
    dice = random.Random(1)
    for i in range(200):
        said = odd(dice) if i % 10 == 0 else mutated(dice, GOOD)
        text = body(said) if i % 7 else body(said)[: dice.randint(0, 40)]
        raw = png(4, 4, chunk(b"tEXt", dice.choice([b"lcm_studio", b"parameters"]) + b"\0" + text))
        answer = page.post("/studio/settings", content=raw)
        check(answer, said)
        if answer.status_code == 200:
            restored(page, answer.json()["settings"], i)


def restored(page: Any, settings: Any, i: int) -> str:
    """What the page does with settings that it got."""
    target = next(fn for fn, name in channels(page).items() if name == "restore-create")
    event = json.dumps(settings)
    return call(page, target, [None] * inputs(page)[target], event=event, session=f"restore-{i}")


def config(page: Any) -> dict[str, Any]:
    if not hasattr(page, "page_config"):
        page.page_config = page.get("/config").json()
    return dict(page.page_config)


def inputs(page: Any) -> dict[int, int]:
    return {d["id"]: len(d["inputs"]) for d in config(page)["dependencies"]}


def channels(page: Any) -> dict[int, str]:
    names = {c["id"]: c["props"].get("elem_id") for c in config(page)["components"]}
    return {
        d["id"]: str(names.get(d["targets"][0][0])).removesuffix("-wire")
        for d in config(page)["dependencies"]
        if d["targets"]
    }


def call(page: Any, fn: Any, data: Any, *, event: Any = None, session: Any = "s") -> str:
    """The event stream of a function, checked; empty where it was refused."""
    case = (fn, data, event)
    message = {"fn_index": fn, "data": data, "event_data": event, "session_hash": session}
    answer = page.post("/gradio_api/queue/join", content=body(message), headers=JSON)
    check(answer, case)
    if answer.status_code != 200:
        return ""
    answer = page.get(f"/gradio_api/queue/data?session_hash={session}")
    check(answer, case)
    return str(answer.text)


JSON = {"content-type": "application/json"}


def test_a_pictures_lora_is_restored(page: Any) -> None:
    """Gradio took {"path": ...} in the settings for a file of its own, and refused them."""
    said = {
        "prompt": "x",
        "seed": 7,
        "loras": [{"path": "/models/my lora.safetensors", "weight": 0.5}],
    }
    stream = restored(page, said, 9999)
    assert '"success":true' in stream and "/models/my lora.safetensors" in stream


def test_live_forms(page: Any) -> None:
    dice = random.Random(2)
    sketch = {
        "image": "data:image/png;base64,AAAA",
        "prompt": "x",
        "steps": 2,
        "seed": 1,
        "strength": 0.5,
        "guidance": 3,
    }
    for i in range(300):
        path = ("check", "live", "sketch")[i % 3]
        said = (
            mutated(dice, sketch)
            if path == "sketch"
            else {"form": mutated(dice, GOOD), "refine": odd(dice)}
        )
        if i % 11 == 0:
            said = odd(dice)
        check(page.post(f"/studio/{path}", content=body(said), headers=JSON), said)


def test_functions_of_the_page(page: Any) -> None:
    dice = random.Random(3)
    slow = {d["id"] for d in config(page)["dependencies"] if d["api_name"] in SLOW}
    known = {fn: count for fn, count in inputs(page).items() if fn not in slow}
    for i in range(450):
        fn: Any = (
            dice.choice(sorted(known))
            if i % 6
            else dice.choice([-1, 10**9, None, "x", 1.5, True, []])
        )
        count = known.get(fn, 3) if isinstance(fn, int) and i % 9 else dice.randint(0, 30)
        data: Any = [odd(dice) for _ in range(count)] if i % 13 else odd(dice)
        session: Any = f"page-{i}" if i % 17 else odd(dice)
        if not isinstance(session, str) or not session.isalnum():
            session = session if not isinstance(session, str) else f"odd-{i}"
        call(page, fn, data, event=odd(dice), session=session)


def test_named_endpoints(page: Any) -> None:
    dice = random.Random(4)
    good = {
        "prompt": "x", "negative": "", "steps": 2, "guidance": 3.0, "seed": 5, "count": 1, "width": 64, "height": 64,
        "model": "scenery-lcm", "loras": [], "decoder": "default", "class_label": None,
    }  # fmt: skip
    for _ in range(250):
        data = [*mutated(dice, good).values()]
        answer = page.post("/gradio_api/call/generate", content=body({"data": data}), headers=JSON)
        check(answer, data)
        if answer.status_code == 200:
            check(page.get(f"/gradio_api/call/generate/{answer.json()['event_id']}"), data)


def test_bodies_and_addresses(page: Any) -> None:
    dice = random.Random(5)
    for i in range(250):
        path = "/gradio_api/" + ROUTES[i % len(ROUTES)]
        raw = (
            body(odd(dice))
            if i % 3
            else bytes(dice.randrange(256) for _ in range(dice.randint(0, 60)))
        )
        kind = dice.choice(
            ["application/json", "multipart/form-data; boundary=x", "text/plain", ""]
        )
        headers = {"content-type": kind} if kind else {}
        check(page.post(path, content=raw, headers=headers), (path, raw))
    for path in (*READS * 2, WAITS):
        check(page.get("/gradio_api/" + path), path)
    for path in (
        "/nothing", "/studio/nothing", "/studio/picture/x.png", "/studio/jobs/x/output.zip", "/studio/jobs/../samples/a.png",
        "/static/x", "/assets/x", "/svelte/x", "/studio/lora?name=%00", "/config",
    ):  # fmt: skip
        check(page.get(path), path)
        check(page.put(path, content=b"x"), path)


def test_the_studio_still_works(page: Any, tmp_path: Path) -> None:
    answer = page.post("/studio/live", json={"form": GOOD, "refine": False})
    assert answer.status_code == 200 and "frames" in answer.text
