"""The page's own routes: live, check, settings of a PNG, pictures; on the toy engine."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np

from lcm_studio.images import png_bytes, read_settings
from tests.toy_engine import FATAL
from tests.web.create.test_values import GOOD

FORM = {**GOOD, "randomize": True, "live": True, "more": False, "seed": 11}


def lines(answer: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


def test_live_is_one_step_and_one_picture(client: Any, toy: Any) -> None:
    views = lines(client.post("/studio/live", json={"form": FORM, "refine": False}))
    assert [view["phase"] for view in views] == ["live"]
    assert views[0]["frames"][0]["src"].startswith("data:image/jpeg;base64,")
    request = toy.requests[-1]
    assert (request.steps, request.count, request.priority, request.seed) == (1, 1, "live", 11)


def test_resting_runs_every_step_and_keeps_the_pictures(client: Any, toy: Any) -> None:
    views = lines(client.post("/studio/live", json={"form": FORM, "refine": True}))
    assert [view["phase"] for view in views] == ["running"] * 3 + ["done"]
    frames = views[-1]["frames"]
    assert views[-1]["live"] and [frame["seed"] for frame in frames] == [11, 12]
    answer = client.get("/" + frames[1]["url"])
    assert answer.headers["content-type"] == "image/png"
    said = read_settings(answer.content)
    assert said is not None and (said["seed"], said["count"], said["prompt"], said["steps"]) == (
        12,
        1,
        "sunset, lake",
        4,
    )


def test_live_names_unknown_words_and_bad_values(client: Any) -> None:
    views = lines(
        client.post(
            "/studio/live", json={"form": {**FORM, "prompt": "unicorn, lake"}, "refine": False}
        )
    )
    assert "unicorn" in views[0]["message"]["text"]
    answer = client.post(
        "/studio/live", content=json.dumps({"form": {**FORM, "steps": float("nan")}})
    )
    assert answer.status_code == 422 and "steps" in answer.json()["detail"]
    assert client.post("/studio/live", content=b"[" * 5000).status_code == 422
    assert (
        client.post("/studio/live", json={"form": {**FORM, "prompt": "x" * 100_000}}).status_code
        == 422
    )


def test_what_fails_on_the_device_is_said_on_the_stage(client: Any) -> None:
    form = {**FORM, "prompt": FATAL}
    views = lines(client.post("/studio/live", json={"form": form, "refine": False}))
    assert views[-1]["phase"] == "failed" and "out of memory" in views[-1]["message"]["text"]


def test_check_tells_what_the_model_does_not_know(client: Any) -> None:
    said = client.post("/studio/check", json={"form": {**FORM, "prompt": "unicorn"}}).json()
    assert said["message"]["kind"] == "warning" and "unicorn" in said["message"]["text"]
    assert client.post("/studio/check", json={"form": FORM}).json()["message"] is None
    assert client.post("/studio/check", json={"form": {**FORM, "prompt": "a b c"}}).json()[
        "tokens"
    ] == [3, 75]


def test_a_seed_that_is_replaced_is_not_asked_for(client: Any, toy: Any) -> None:
    for seed in (-5, 1.5, None, 2**60):
        form = {**FORM, "seed": seed}
        said = client.post("/studio/check", json={"form": {**form, "randomize": True}}).json()
        assert said["message"] is None
        said = client.post("/studio/check", json={"form": {**form, "randomize": False}}).json()
        assert "seed" in said["message"]["text"].lower()
    form = {**FORM, "seed": -5, "randomize": True}
    lines(client.post("/studio/live", json={"form": form, "refine": False}))
    assert toy.requests[-1].seed == 0
    lines(client.post("/studio/live", json={"form": {**form, "seed": 11}, "refine": False}))
    assert toy.requests[-1].seed == 11


def test_what_is_no_picture_is_known_before_edit_opens(client: Any) -> None:
    whole = png_bytes(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    assert client.post("/studio/opens", content=whole).status_code == 200
    head = whole[:16] + (20_000).to_bytes(4, "big") + (5_000).to_bytes(4, "big")
    large = (
        head + whole[24:29] + zlib.crc32(head[12:] + whole[24:29]).to_bytes(4, "big") + whole[33:]
    )
    assert client.post("/studio/opens", content=large).status_code == 200, "Edit makes it smaller"
    for broken in (whole[: len(whole) // 2], whole[:8] + b"garbage" * 99, b"words", b""):
        answer = client.post("/studio/opens", content=broken)
        assert answer.status_code == 422 and len(answer.json()["detail"]) > 20


def test_settings_are_read_from_png_bytes_only(client: Any) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    said = {"prompt": "lake", "seed": 3, "steps": 2}
    assert (
        client.post("/studio/settings", content=png_bytes(picture, said)).json()["settings"]["seed"]
        == 3
    )
    for body in (png_bytes(picture), b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\xff" * 100):
        answer = client.post("/studio/settings", content=body)
        assert answer.status_code == 422 and "PNG" in answer.json()["detail"]


def test_unknown_pictures_are_not_found(client: Any) -> None:
    assert client.get("/studio/picture/nothing.png").status_code == 404


def test_index_loads_our_scripts_beside_gradios(client: Any) -> None:
    text = client.get("/").text
    assert "lcm-splash" in text and 'src="studio/static/main.js"' in text
    for name in ("main.js", "stage.js", "studio.css", "icon.svg"):
        assert client.get(f"/studio/static/{name}").status_code == 200
