"""A student without guidance on the page: guided first steps, and a textual inversion of the studio's folder."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lcm_studio.images import read_image, read_settings, write_png
from tests import tiny
from tests.models.test_control import network, picture
from tests.models.test_ip_adapter import image_encoder, weights
from tests.models.test_single import checkpoint
from tests.web.conftest import Server, opening
from tests.web.create.test_browser import NOTE, drop, generate, number, sources
from tests.web.edit.test_browser import run, stroke, tool

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """app.py with a folder of models of its own, opened on a tiny Turbo."""
    root = tmp_path_factory.mktemp("models")
    folder = tiny.save("sd-15", root / "student")
    (folder / "studio.json").write_text(json.dumps({"kind": "turbo"}))
    tiny.save("cm", root / "beside")
    write_png(root / "beside.preview.png", picture(), {})
    network("sd").save_pretrained(root / "controlnets" / "tiny-canny")
    (root / "ip_adapters").mkdir()
    save_file(weights("sd"), root / "ip_adapters" / "tiny-ip.safetensors")
    image_encoder().save_pretrained(root / "ip_adapters" / "image_encoder")
    (root / "embeddings").mkdir()
    save_file({"emb_params": torch.ones(2, 32) / 9}, root / "embeddings" / "ink.safetensors")
    server = Server(
        "--models-dir", str(root), "--model", "student", log=tmp_path_factory.mktemp("app") / "log"
    )
    try:
        server.wait(lambda said: said["status"] in ("ready", "failed"))
        assert server.state()["status"] == "ready", server.state()["message"]
        yield server
    finally:
        server.close()


@pytest.fixture
def open_student(chromium: Any, student: Server) -> Iterator[Callable[..., Any]]:
    yield from opening(chromium, student)


def another(page: Any) -> bytes:
    """The PNG of a further picture."""
    before = sources(page)
    page.click("#create-go")
    page.wait_for_function(
        """before => document.querySelector("#create-stage .lcm-stage").dataset.phase === "done" &&
            [...document.querySelectorAll("#create-stage .lcm-picture img")].every(
                i => i.src.includes("/studio/picture/") && !before.includes(i.src))""",
        arg=before,
    )
    return bytes(urllib.request.urlopen(sources(page)[0]).read())


def test_its_first_step_is_guided_where_one_says_so(open_student: Callable[..., Any]) -> None:
    page = open_student()
    guidance, negative = page.locator("#create-guidance"), page.locator("#create-negative")
    page.uncheck("#create-randomize input")
    assert not guidance.is_visible() and not negative.is_visible()
    number(page, "guided-steps", 1)
    negative.wait_for(state="visible")
    page.wait_for_function(
        "() => document.querySelector('#create-guidance input[type=number]')?.value === '2'"
    )
    negative.locator("textarea, input").first.fill("night")
    page.get_by_role("tab", name="textual inversions").click()
    page.fill("#create-prompt textarea", "sunset")
    page.get_by_role("option", name="ink").click()
    generate(page, page.input_value("#create-prompt textarea"), steps=2, seed=3)
    data = urllib.request.urlopen(sources(page)[0]).read()
    said = read_settings(data)
    assert said is not None
    wanted = {
        "prompt": "sunset, ink", "negative": "night", "guided_steps": 1, "guidance": 2.0,
        "embeddings": [{"path": "ink", "word": ""}],
    }  # fmt: skip
    assert {name: said[name] for name in wanted} == wanted
    number(page, "guided-steps", 0)
    guidance.wait_for(state="hidden")
    drop(page, "student.png", data)
    page.wait_for_selector(f"{NOTE} >> text=Settings restored")
    guidance.wait_for(state="visible")
    page.wait_for_function(
        "() => document.querySelector('#create-guided-steps input[type=number]').value === '1'"
    )
    number(page, "guided-steps", 0)
    guidance.wait_for(state="hidden")
    said = read_settings(another(page))
    assert said is not None and "guided_steps" not in said and not said["negative"]


@pytest.fixture
def steered(open_student: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Follows a ControlNet or an IP-Adapter: is refused without a picture, then held by one, which comes back.

    Gives the settings of the picture that was held.
    """

    def held_by(block: str, title: str, name: str, *, refusal: str, chosen: str = "") -> Any:
        page = open_student()
        page.uncheck("#create-randomize input")
        generate(page, "sunset", steps=2, seed=3)
        plain = urllib.request.urlopen(sources(page)[0]).read()
        page.locator(f"#create-{block}-block").get_by_text(title).first.click()
        page.locator(f"#create-{block} input").click()
        page.get_by_role("option", name=name).click()
        if chosen:
            page.wait_for_selector(chosen)
        page.click("#create-go")
        page.wait_for_selector(f"{NOTE} >> text={refusal}")
        with page.expect_file_chooser() as chooser:
            page.locator(f"#create-{block}-open").click()
        chooser.value.set_files(write_png(tmp_path / "a.png", picture(), {}))
        page.wait_for_selector(f"#create-{block}-preview img")
        held = another(page)
        assert not np.array_equal(read_image(held), read_image(plain))
        field = f"document.querySelector('#create-{block} input').value"
        drop(page, "plain.png", plain)
        page.wait_for_function(f"() => {field} === 'none'")
        page.wait_for_selector(f"#create-{block}-preview img", state="detached")
        drop(page, "held.png", held)
        page.wait_for_selector(f"#create-{block}-preview img")
        page.wait_for_function(f"() => {field} === '{name}'")
        assert np.array_equal(read_image(another(page)), read_image(held))
        return read_settings(held)

    return held_by


def test_a_controlnet_holds_the_picture_and_comes_back(steered: Callable[..., Any]) -> None:
    said = steered(
        "control", "ControlNet", "tiny-canny", refusal="no control picture yet",
        chosen="#create-control-kind label.selected >> text=Edges",
    )  # fmt: skip
    assert said is not None and said["control"]["path"] == "tiny-canny"
    assert (said["control"]["kind"], said["control"]["strength"]) == ("canny", 1.0)


def test_weights_dropped_anywhere_are_listed_with_their_words(
    open_student: Callable[..., Any], tmp_path: Path
) -> None:
    page = open_student()
    page.get_by_role("tab", name="Edit").click()
    page.wait_for_selector("#edit-prompt")
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    factors = {
        f"{layer}.lora_A.weight": torch.ones(1, 32),
        f"{layer}.lora_B.weight": torch.ones(32, 1),
    }
    save_file(
        factors, tmp_path / "cats.safetensors", metadata={"modelspec.trigger_phrase": "my cat, fur"}
    )
    drop(page, "cats.ckpt", b"\x80\x04")
    page.wait_for_selector("#edit-note >> text=pickled weights")
    drop(page, "cats.safetensors", (tmp_path / "cats.safetensors").read_bytes())
    page.wait_for_selector(f"{NOTE} >> text=cats.safetensors is LoRA 1")
    page.wait_for_selector(f"{NOTE} >> text=trained with: my cat, fur")
    page.get_by_role("tab", name="words of the LoRAs").click()
    page.get_by_role("option", name="my cat").click()
    assert page.input_value("#create-prompt textarea") == "my cat"


def test_a_model_is_chosen_from_the_list(open_student: Callable[..., Any]) -> None:
    page = open_student()
    page.get_by_text("All models: kind, size, licence, last used").click()
    rows = page.locator("#create-models .lcm-model")
    rows.filter(has_text="scenery-cm").wait_for()
    student = rows.filter(has_text="student").inner_text()
    assert "Turbo" in student and "64 x 64" in student and "no commercial use" in student
    assert page.locator("#create-models [aria-current]").inner_text().startswith("student")
    # what has a picture beside it, and has made none yet, shows that
    shown = rows.filter(has_text="beside").locator("img")
    page.wait_for_function(
        "() => [...document.querySelectorAll('#create-models img')].some(i => i.naturalWidth > 0)"
    )
    assert "/studio/model-preview?id=beside" in str(shown.get_attribute("src"))
    rows.filter(has_text="scenery-cm").click()
    page.wait_for_selector(f"{NOTE} >> text=scenery-cm is ready")
    page.wait_for_function(
        "() => document.querySelector('#create-model input').value === 'scenery-cm'"
    )
    page.wait_for_selector("#create-models [aria-current] >> text=scenery-cm")
    page.locator("#create-prompt").wait_for(state="hidden")


def test_a_picture_beside_the_words_comes_back_with_them(steered: Callable[..., Any]) -> None:
    said = steered("ip-adapter", "IP-Adapter", "tiny-ip", refusal="no IP-Adapter picture yet")
    assert said is not None and said["ip_adapter"]["path"] == "tiny-ip"


def test_an_edit_and_live_follow_what_is_on_the_canvas(open_student: Callable[..., Any]) -> None:
    page = open_student(viewport={"width": 1400, "height": 1200})
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit-blank").click()
    page.wait_for_selector(".lcm-paper[data-ready][data-tool=sketch]")
    stroke(page, [(0.2, 0.7), (0.8, 0.7)])
    page.locator("#edit-control-block").get_by_text("ControlNet").first.click()
    page.locator("#edit-control input").click()
    page.get_by_role("option", name="tiny-canny").click()
    page.wait_for_selector("#edit-control-kind label.selected >> text=Edges")
    assert not page.locator("#edit-control-picture").is_visible()
    said = read_settings(run(page)[0])
    assert said is not None and said["control"]["path"] == "tiny-canny"
    assert "picture" not in said["control"]  # it followed the canvas
    with page.expect_response("**/studio/sketch") as answered:
        page.locator("#edit-live input").check()
        stroke(page, [(0.3, 0.3), (0.6, 0.3)])
    assert answered.value.ok
    sent = json.loads(answered.value.request.post_data)
    assert (sent["steering"]["control"], sent["steering"]["control_kind"]) == ("tiny-canny", "canny")  # fmt: skip
    page.locator("#edit-live input").uncheck()
    tool(page, "Morph", "interpolate")
    page.locator("#edit-control-block").wait_for(state="detached")
    assert page.locator("#edit-ip-adapter-block").is_visible()


def test_a_whole_checkpoint_is_dropped_stopped_and_dropped_again(
    open_student: Callable[..., Any], tmp_path: Path
) -> None:
    data = checkpoint("sd", tmp_path / "dropped.safetensors").read_bytes()
    page = open_student()
    page.route("**/studio/model?*", lambda route: None)  # it stays under way
    drop(page, "dropped.safetensors", data)
    panel = page.locator(".lcm-sending")
    panel.wait_for()
    assert "dropped.safetensors" in panel.inner_text() and panel.locator("progress").is_visible()
    panel.get_by_role("button", name="Stop").click()
    page.wait_for_selector(f"{NOTE} >> text=was not added")
    panel.wait_for(state="detached")
    page.unroute("**/studio/model?*")
    drop(page, "dropped.safetensors", data)
    page.wait_for_selector(f"{NOTE} >> text=dropped.safetensors is ready")
    assert page.locator("#create-model input").input_value() == "dropped.safetensors"
    generate(page, "sunset", steps=1, seed=3)
    said = read_settings(urllib.request.urlopen(sources(page)[0]).read())
    assert said is not None and said["model"] == "dropped.safetensors"
    page.locator("#create-models-block").get_by_text("All models").click()
    chosen = page.locator(".lcm-model[aria-current=true]").filter(has_text="dropped.safetensors")
    chosen.get_by_text("Last used just now").wait_for()
    assert "/studio/gallery/thumb/" in str(chosen.locator("img").get_attribute("src"))
    first = page.locator("#create-models .lcm-model").first
    assert "dropped.safetensors" in first.inner_text()  # what was used last comes first
