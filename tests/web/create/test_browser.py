"""A real Chromium drives the real app with the bundled model."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from lcm_studio.images import read_image, read_settings, write_png

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PROMPT = "#create-prompt textarea"
STAGE = "#tab-create .lcm-stage"
LARGE = "#create-stage .lcm-picture img"
NOTE = "#create-note"
WEIGHTS = (
    Path(__file__).resolve().parents[3]
    / "assets/models/scenery-lcm/unet/diffusion_pytorch_model.safetensors"
)
Open = Callable[..., Any]


def phase(page: Any, *names: str) -> None:
    selector = ", ".join(f'#create-stage .lcm-stage[data-phase="{name}"]' for name in names)
    page.wait_for_selector(selector, state="attached")


def number(page: Any, name: str, value: float) -> None:
    box = page.locator(f"#create-{name} input[type=number]").first
    box.fill(str(value))
    box.press("Tab")


def value(page: Any, name: str) -> str:
    return str(page.locator(f"#create-{name} input[type=number]").first.input_value())


def generate(page: Any, prompt: str, **numbers: float) -> None:
    page.fill(PROMPT, prompt)
    for name, figure in numbers.items():
        number(page, name, figure)
    page.click("#create-go")
    phase(page, "queued", "loading", "running", "done")
    phase(page, "done")
    page.wait_for_function(  # the last preview stays until the finished file has arrived
        "[...document.querySelectorAll('#create-stage .lcm-picture img')]"
        ".every(i => i.src.includes('/studio/picture/'))"
    )


def sources(page: Any) -> list[str]:
    return list(
        page.eval_on_selector_all("#create-stage .lcm-picture img", "all => all.map(i => i.src)")
    )


def drop(page: Any, name: str, data: bytes) -> None:
    """Let go of a file over the middle of the page, as a hand does."""
    page.evaluate(
        """([name, data]) => {
            const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
            const carried = new DataTransfer();
            carried.items.add(new File([bytes], name, {type: "image/png"}));
            const target = document.elementFromPoint(innerWidth / 3, innerHeight / 2);
            for (const kind of ["dragenter", "dragover", "drop"])
                target.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: carried}));
        }""",
        [name, base64.b64encode(data).decode()],
    )


def test_typed_prompt_becomes_a_picture_and_nothing_foreign_is_asked_for(open_page: Open) -> None:
    page = open_page()
    page.fill(PROMPT, "sunset, lake, unicorn")
    page.wait_for_selector(f"{NOTE} .lcm-warning >> text=unicorn")
    number(page, "seed", 5)
    page.uncheck("#create-randomize input")
    page.press(PROMPT, "Control+Enter")
    phase(page, "done")
    link = page.locator("#create-stage a[download]").first
    with urllib.request.urlopen(link.get_attribute("href")) as answer:
        data = answer.read()
    said = read_settings(data)
    assert said is not None and said["prompt"] == "sunset, lake, unicorn" and said["seed"] == 5
    pixels = read_image(data)
    box = page.locator("#create-stage .lcm-picture").bounding_box()
    assert box and box["width"] == pytest.approx(box["height"], abs=1), "no bars beside the picture"
    width = page.eval_on_selector("#create-stage .lcm-picture img", "i => i.naturalWidth")
    assert pixels.shape[:2] == (said["height"], said["width"]) and width == said["width"]
    assert pixels.std() > 5, "the picture is flat"
    assert page.locator("#create-history .lcm-thumb").count() == 1
    assert "seed 5" in page.inner_text("#create-stage figcaption")
    assert page.locator("#create-stage .lcm-facts").inner_text().count("s") > 2
    # a phrase of the vocabulary goes in and out with a click
    page.locator(".lcm-group", has_text="mountains").click()
    page.locator(".lcm-chip", has_text="snowy mountains").click()
    assert page.input_value(PROMPT).endswith("unicorn, snowy mountains")
    page.locator(".lcm-chip", has_text="snowy mountains").click()
    assert page.input_value(PROMPT) == "sunset, lake, unicorn"
    assert page.foreign == []


def test_stop_ends_a_long_request_and_the_next_one_runs(open_page: Open) -> None:
    page = open_page()
    page.check("#create-more input")
    page.wait_for_function("document.querySelector('#create-steps input[type=range]').max === '50'")
    page.fill(PROMPT, "night, stars")
    number(page, "steps", 50)
    number(page, "count", 16)
    page.click("#create-go")
    page.wait_for_function(
        "/Step [1-9]/.test(document.querySelector('#create-stage .lcm-progress').textContent)"
    )
    assert sources(page), "no clean estimate while it runs"
    page.keyboard.press("Escape")
    phase(page, "stopped")
    assert "Stopped" in page.inner_text(NOTE)
    assert sources(page), "Stop keeps the last clean estimates on the stage"
    kept = page.inner_text("#create-stage .lcm-frame figcaption")
    assert "PNG" in kept and "Use" in kept and "seed" in kept, "an estimate can be kept"
    generate(page, "night, stars", steps=1, count=1)
    assert len(sources(page)) == 1


def test_dropped_png_restores_every_setting(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    said = {
        "prompt": "dawn, hills, sea", "negative": "", "steps": 12, "guidance": 6.5, "seed": 4711, "count": 3,
        "model": "scenery-lcm", "width": 96, "height": 160, "loras": [], "decoder": "default", "timesteps": None,
        "class_label": None, "sampler": "auto", "format": 1,
    }  # fmt: skip
    path = write_png(tmp_path / "a.png", np.full((8, 8, 3), 90, np.uint8), said)
    drop(page, "a.png", path.read_bytes())
    page.wait_for_function(f"document.querySelector('{PROMPT}').value === 'dawn, hills, sea'")
    page.wait_for_function(
        "document.querySelector('#create-steps input[type=number]').value === '12'"
    )
    shown = {
        name: float(value(page, name))
        for name in ("steps", "guidance", "seed", "count", "width", "height")
    }
    assert shown == {name: said[name] for name in shown}
    assert not page.is_checked("#create-randomize input")
    # settings of an edit open the tab they belong to, which Gradio had not drawn yet
    edit = {**said, "task": "colorize", "prompt": "an edit", "options": {}}
    drop(
        page,
        "c.png",
        write_png(tmp_path / "c.png", np.zeros((8, 8, 3), np.uint8), edit).read_bytes(),
    )
    page.wait_for_selector('button[role="tab"][aria-selected="true"] >> text=Edit')
    page.get_by_role("tab", name="Create").click()
    # the visible target takes a chosen file; one without settings says so and changes nothing
    plain = write_png(tmp_path / "b.png", np.zeros((8, 8, 3), np.uint8))
    page.set_input_files("#create-restore-file", plain)
    page.wait_for_selector(f"{NOTE} .lcm-error >> text=no settings")
    assert page.input_value(PROMPT) == "dawn, hills, sea"


def test_history_restores_and_survives_a_refresh(open_page: Open) -> None:
    page = open_page()
    generate(page, "sunset, sea", steps=2)
    first = sources(page)
    generate(page, "night, hills", steps=1)
    assert page.locator("#create-history .lcm-thumb").count() == 2
    page.reload(wait_until="commit")
    page.wait_for_selector("html[data-studio=ready]")
    page.locator("#create-history .lcm-thumb").nth(1).click()
    page.wait_for_function(f"document.querySelector('{PROMPT}').value === 'sunset, sea'")
    page.wait_for_function(
        "document.querySelector('#create-steps input[type=number]').value === '2'"
    )
    assert sources(page) == first


def test_wrong_model_says_why_and_the_old_one_stays(open_page: Open) -> None:
    page = open_page()
    box = page.locator("#create-model input")
    box.fill("/no/such/model")
    box.press("Enter")
    page.wait_for_selector(f"{NOTE} .lcm-error >> text=stays in use")
    assert "/no/such/model" in page.inner_text(NOTE)
    page.wait_for_function("document.querySelector('#create-model input').value === 'scenery-lcm'")
    generate(page, "sunset, lake", steps=1)


def test_two_users_at_once_get_their_own_pictures(open_page: Open) -> None:
    pages = [open_page(), open_page()]
    for i, page in enumerate(pages):
        page.fill(PROMPT, ("sunset, sea", "night, stars")[i])
        page.uncheck("#create-randomize input")
        number(page, "seed", 100 + i)
    for page in pages:
        page.click("#create-go")
    said = []
    for page in pages:
        phase(page, "done")
        href = page.locator("#create-stage a[download]").first.get_attribute("href")
        with urllib.request.urlopen(href) as answer:
            said.append(read_settings(answer.read()))
        assert page.locator("#create-history .lcm-thumb").count() == 1
    assert [s and (s["prompt"], s["seed"]) for s in said] == [
        ("sunset, sea", 100),
        ("night, stars", 101),
    ]


def test_live_follows_the_typing_and_queues_nothing(open_page: Open) -> None:
    page = open_page()
    asked: list[dict[str, Any]] = []
    page.on(
        "request",
        lambda r: asked.append(json.loads(r.post_data)) if r.url.endswith("/studio/live") else None,
    )
    page.locator("#create-live input").check()
    text = "sunset, snowy mountains, lake"
    page.locator(PROMPT).press_sequentially(text, delay=25)
    page.wait_for_function("document.querySelector('#create-stage .lcm-picture img')")
    phase(page, "done")
    page.wait_for_timeout(600)
    phase(page, "done")
    quick = [said for said in asked if not said["refine"]]
    refined = [said for said in asked if said["refine"]]
    assert refined[-1]["form"]["prompt"] == text, "the last full picture is of the last words"
    assert quick[-1]["form"]["prompt"] == text
    assert len(quick) <= len(text)
    assert page.locator("#create-history .lcm-thumb").count() == 1, "one entry, not one per word"
    before = len(asked)
    number(page, "steps", 2)
    page.wait_for_function("/Step|seed/.test(document.querySelector('#create-stage').textContent)")
    page.wait_for_timeout(300)
    assert len(asked) > before and asked[-1]["form"]["steps"] == 2


def test_compare_shows_the_same_seed_at_four_step_counts(open_page: Open) -> None:
    page = open_page()
    page.fill(PROMPT, "dawn, lake")
    page.click("#create-compare")
    phase(page, "running")
    phase(page, "done")
    captions = page.locator("#create-stage .lcm-words").all_inner_texts()
    assert [text.split()[0] for text in captions] == ["1", "2", "4", "8"]
    assert all(text.rstrip().endswith("s") for text in captions), captions
    seeds = set()
    for link in page.locator("#create-stage a[download]").all():
        with urllib.request.urlopen(link.get_attribute("href")) as answer:
            said = read_settings(answer.read())
        assert said is not None
        seeds.add(said["seed"])
    assert len(seeds) == 1


def test_phone_needs_no_sideways_scroll_and_reaches_every_control(open_page: Open) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.body.classList.contains('dark')")
    generate(page, "sunset, lake", steps=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("scrollTo(0, 0)")
    places = [page.locator(name).bounding_box() for name in (PROMPT, LARGE, "#create-go")]
    words, picture, main = [(box["y"], box["y"] + box["height"]) for box in places if box]
    assert words[1] < picture[0] and picture[1] < main[0] and main[1] <= 844, "all within reach"
    # a word on a press is seen although the button is pinned, wherever the page is
    page.uncheck("#create-randomize input")
    page.locator("#create-seed input").fill("-5")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.click("#create-go")
    error = page.locator(f"{NOTE} .lcm-error")
    expect(error).to_be_in_viewport()
    page.locator("#create-seed input").fill("5")
    for name in (
        "prompt",
        "live",
        "steps",
        "guidance",
        "seed",
        "count",
        "width",
        "height",
        "model",
    ):
        control = page.locator(f"#create-{name}")
        control.scroll_into_view_if_needed()
        place = control.bounding_box()
        assert place and place["x"] >= 0 and place["x"] + place["width"] <= 391, name
    page.click(".lcm-theme")
    assert not page.evaluate("document.body.classList.contains('dark')")


def test_every_control_has_a_name(open_page: Open) -> None:
    page = open_page()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("#tab-create input, #tab-create textarea, #tab-create button")]
            .filter(e => e.offsetParent !== null)
            .filter(e => !(e.getAttribute("aria-label") || e.title || e.textContent.trim() || (e.labels && e.labels.length)
                || e.getAttribute("aria-labelledby") || e.ariaLabel))
            .map(e => e.outerHTML.slice(0, 160))"""
    )
    assert nameless == []


def tiny_lora(path: Path) -> Path:
    """Rank 1 on one attention layer of the bundled network, strong enough to be seen."""
    import torch
    from safetensors.torch import safe_open, save_file

    with safe_open(WEIGHTS, "pt") as file:
        name = next(n for n in file.keys() if n.endswith("attn2.to_q.weight"))  # noqa: SIM118
        wide, deep = file.get_slice(name).get_shape()
    layer = "unet." + name.removesuffix(".weight")
    torch.manual_seed(0)
    save_file(
        {
            f"{layer}.lora_A.weight": torch.randn(1, deep),
            f"{layer}.lora_B.weight": torch.randn(wide, 1),
        },
        path,
    )
    return path


def test_an_uploaded_lora_is_listed_with_its_weight_and_used(
    open_page: Open, tmp_path: Path
) -> None:
    page = open_page()
    page.uncheck("#create-randomize input")
    generate(page, "sunset, lake", steps=1, seed=3)
    plain = sources(page)
    page.get_by_text("More: decoder, LoRAs, sampler, timesteps").click()
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04 not weights")
    page.set_input_files("#create-lora-file", tmp_path / "bad.safetensors")
    page.wait_for_selector(f"{NOTE} .lcm-error >> text=bad.safetensors")
    page.set_input_files("#create-lora-file", tiny_lora(tmp_path / "tiny.safetensors"))
    page.wait_for_selector(f"{NOTE} >> text=tiny.safetensors is LoRA 1")
    name = page.input_value("#create-lora-0 input, #create-lora-0 textarea")
    assert name.startswith("uploaded/") and name.endswith("/tiny.safetensors")
    number(page, "weight-0", 1.5)
    page.click("#create-go")
    page.wait_for_function(
        """before => document.querySelector("#create-stage .lcm-stage").dataset.phase === "done" &&
            [...document.querySelectorAll("#create-stage .lcm-picture img")].every(
                i => i.src.includes("/studio/picture/") && !before.includes(i.src))""",
        arg=plain,
    )
    found = [urllib.request.urlopen(url).read() for url in (plain[0], sources(page)[0])]
    assert not np.array_equal(read_image(found[0]), read_image(found[1]))
    said = read_settings(found[1])
    assert said is not None and [lora["weight"] for lora in said["loras"]] == [1.5]
    drop(page, "with-lora.png", found[1])  # the form names the file as before, not its place
    page.wait_for_selector(f"{NOTE} >> text=Settings restored")
    page.wait_for_function(
        "name => document.querySelector('#create-lora-0 input, #create-lora-0 textarea').value === name",
        arg=name,
    )


def test_an_uploaded_textual_inversion_is_listed_and_used(open_page: Open, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"emb_params": torch.ones(2, 128) / 9}, tmp_path / "inky.safetensors")
    page = open_page()
    page.uncheck("#create-randomize input")
    page.get_by_text("More: decoder, LoRAs, sampler, timesteps").click()
    page.set_input_files("#create-lora-file", tmp_path / "inky.safetensors")
    page.wait_for_selector(f"{NOTE} >> text=write inky in the prompt")
    page.wait_for_function(
        "() => document.querySelector('#create-embeddings textarea').value.endsWith('/inky.safetensors')"
    )
    generate(page, "sunset, inky", steps=1, seed=3)
    said = read_settings(urllib.request.urlopen(sources(page)[0]).read())
    assert said is not None
    (one,) = said["embeddings"]
    assert one["path"].startswith("uploaded/") and one["path"].endswith("/inky.safetensors")
