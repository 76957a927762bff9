"""The plane's routes behind the guard: messages, errors in one sentence, and that nothing is paid before they are used."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lcm_studio.web.lab.stream import pack, unpack

ROWS = [{"sampler": "ode-heun", "evaluations": 5}, {"sampler": "consistency", "evaluations": 1}]


def post(client: Any, name: str, **value: Any) -> Any:
    return client.post(f"/studio/lab/plane/{name}", json={"data": {"name": "pair"}, **value})


def test_messages_come_apart_as_they_were_put_together() -> None:
    sent = [({"kind": "a", "n": 1}, b""), ({"kind": "ü"}, bytes(range(9)))]
    assert unpack(b"".join(pack(head, body) for head, body in sent)) == sent


def test_the_atlas_has_densities_arrows_and_a_cloud(client: Any) -> None:
    ((head, body),) = unpack(post(client, "atlas").content)
    levels, pixels, arrows, cloud = (
        len(head["levels"]),
        head["pixels"],
        head["arrows"],
        head["cloud"],
    )
    assert len(body) == levels * pixels**2 + 4 * levels * arrows**2 + 8 * cloud
    density = np.frombuffer(body[: levels * pixels**2], np.uint8).reshape(levels, pixels, pixels)
    assert (density.max(axis=(1, 2)) == 255).all()
    # noise is round, data is two heaps, the left one with four times the points
    assert np.abs(density[0].astype(int) - density[0].T).max() < 8
    left, right = (half.astype(float).sum() for half in np.split(density[-1] / 255, 2, axis=1))
    assert left > 1.5 * right
    x_0 = np.frombuffer(body[-8 * cloud : -4 * cloud], "<i2").reshape(-1, 2) / head["fine"]
    assert x_0.std() == pytest.approx(0.5, abs=0.02)


def test_samplers_send_frames_and_say_how_near_they_came(client: Any) -> None:
    messages = unpack(post(client, "sample", systems=ROWS, particles=200, seed=4).content)
    frames = [(h, b) for h, b in messages if h["kind"] == "frame"]
    assert [h["system"] for h, _ in frames] == [0, 0, 0, 0, 1, 1]
    assert all(len(b) == 4 * 200 for _, b in frames)
    assert frames[0][1] == frames[4][1], "both start from the same noise"
    arrived = [h for h, _ in messages if h["kind"] == "arrived"]
    assert [h["evaluations"] for h in arrived] == [5, 1]
    assert arrived[1]["error"] == 0 and arrived[0]["error"] > 0 and arrived[1]["distance"] < 0.3


def test_a_network_is_trained_kept_and_used(client: Any) -> None:
    answer = post(client, "train", stage="score", steps=60)
    first, *reports = unpack(answer.content)
    assert first[0]["kind"] == "lines" and len(first[1]) == 4 * first[0]["lines"] * len(
        first[0]["levels"]
    )
    head, body = reports[-1]
    assert head["step"] == head["steps"] == 60 and len(head["curve"]) == len(head["teacher"])
    assert len(body) == head["arrows"] + 4 * first[0]["lines"]
    networks = {"score": head["network"]}
    rows = [{"sampler": "dpmpp", "evaluations": 4, "network": "score"}]
    used = unpack(post(client, "sample", systems=rows, particles=50, networks=networks).content)
    assert used[-1][0]["kind"] == "arrived"
    *_, (last, _) = unpack(post(client, "train", stage="cd", steps=20, networks=networks).content)
    assert last["levels"] == 64 and last["curve"][0][1] == 0
    lost = post(client, "sample", systems=rows, networks={"score": "gone"})
    assert lost.status_code == 422 and "train it again" in lost.json()["detail"]


def test_a_picture_s_dark_pixels_and_drawn_points_are_data(client: Any) -> None:
    page = Image.new("L", (40, 40), 255)
    page.paste(0, (18, 4, 22, 36))
    out = io.BytesIO()
    page.save(out, "PNG")
    answer = client.post("/studio/lab/plane/picture", content=out.getvalue())
    points = np.array(answer.json()["points"])
    assert len(points) > 100 and points[:, 1].std() > 3 * points[:, 0].std()
    data = {"kind": "picture", "points": points.tolist()}
    assert client.post("/studio/lab/plane/atlas", json={"data": data}).status_code == 200
    assert client.post("/studio/lab/plane/picture", content=b"no picture").status_code == 422


def picture(shade: int, side: int = 12) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), (shade, 90, 30)).save(out, "PNG")
    return out.getvalue()


def test_pictures_of_one_size_become_an_animation(client: Any) -> None:
    def gif(*pictures: bytes) -> Any:
        return client.post("/studio/lab/gif", content=b"".join(pack({}, p) for p in pictures))

    answer = gif(picture(10), picture(200), picture(90))
    film = Image.open(io.BytesIO(answer.content))
    assert answer.headers["content-type"] == "image/gif" and film.n_frames == 3  # type: ignore[attr-defined]
    for wrong, words in (
        (gif(picture(1)), "no animation"),
        (gif(picture(1), picture(2, side=9)), "one size"),
        (gif(picture(1), b"no picture"), ""),
        (client.post("/studio/lab/gif", content=b"\xff" * 30), "damaged"),
    ):
        assert wrong.status_code == 422 and words in wrong.json()["detail"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("atlas", {"data": {"name": "pears"}}, "no distribution of the plane"),
        ("atlas", {"data": {"points": [[1, 1]]}}, "two or more points"),
        ("atlas", {"data": {"points": [["a", 1]]}}, "list of"),
        ("atlas", {"seed": -1}, "seed=-1"),
        ("sample", {"systems": []}, "choose 1 to 4"),
        ("sample", {"systems": ROWS * 3}, "choose 1 to 4"),
        ("sample", {"systems": "all"}, "must be a list"),
        ("sample", {"systems": ROWS, "particles": 10**9}, "particles=1000000000"),
        ("sample", {"systems": ROWS, "networks": 3}, "Networks must be"),
        ("sample", {"systems": [{"sampler": "sde", "evaluations": None}]}, "evaluations=None"),
        ("train", {"stage": "magic"}, "no stage"),
        ("train", {"stage": "score", "steps": 10**9}, "Training steps"),
    ],
)
def test_a_wrong_request_is_one_sentence(
    client: Any, name: str, value: dict[str, Any], words: str
) -> None:
    answer = post(client, name, **value)
    assert answer.status_code == 422 and words in answer.json()["detail"]


def test_a_body_that_is_no_json_and_a_foreign_page_are_refused(client: Any) -> None:
    assert client.post("/studio/lab/plane/sample", content=b"{").status_code == 422
    assert client.post("/studio/lab/plane/sample", content=b"[" * 10**6).status_code == 422
    headers = {"Origin": "https://elsewhere.example"}
    assert client.post("/studio/lab/plane/schema", json={}, headers=headers).status_code == 403


def test_the_lab_costs_nothing_before_it_is_opened() -> None:
    code = (
        "import sys; import lcm_studio.web.lab.routes as r; from lcm_studio.web.server.index import Index; "
        "from lcm_studio.web.server.routes import STATIC; r.lab_routes(None); "
        "assert not {m for m in sys.modules if m == 'torch' or m.startswith('lcm_studio.lab.')}; "
        "assert b'lab/' not in Index(None, STATIC).head"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
