"""Paints on the real canvas in Chromium and checks the files that come out; few visits, each with a story."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lcm_studio.images import read_settings, write_png
from tests.web.create.test_browser import drop

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "assets" / "examples").glob("*.png"))
pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture
def page(open_page: Callable[..., Any]) -> Any:
    """The Edit tab with the first example on the canvas."""
    page = open_page(viewport={"width": 1400, "height": 1200})
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit-example-1").click()
    page.wait_for_selector(".lcm-paper[data-ready]")
    return page


def stroke(page: Any, points: list[tuple[float, float]]) -> None:
    box = page.locator(".lcm-paper").bounding_box()
    (x, y), *rest = points
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.mouse.down()
    for x, y in rest:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
    page.mouse.up()


def links(page: Any) -> list[str]:
    return [
        link.get_attribute("href") for link in page.locator("#edit-stage a[download]:visible").all()
    ]


def run(page: Any, button: str = "#edit-go", count: int = 1) -> list[bytes]:
    """Press a button and wait for new files: their bytes."""
    before = links(page)
    page.locator(button).click()
    page.wait_for_function(
        """([before, count]) => {
            const now = [...document.querySelectorAll("#edit-stage a[download]")].map(a => a.href);
            return now.length === count && !now.some(url => before.includes(url))
                && document.querySelector("#edit-stage .lcm-stage").dataset.phase === "done";
        }""",
        arg=[before, count],
    )
    return [page.request.get(url).body() for url in links(page)]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def example(number: int = 1) -> np.ndarray:
    return np.asarray(Image.open(EXAMPLES[number - 1]).convert("RGB"))


def tool(page: Any, title: str, name: str) -> None:
    page.get_by_label(title, exact=True).check()
    page.wait_for_selector(f".lcm-paper[data-tool={name}]", state="attached")


def put(page: Any, name: str, value: float) -> None:
    box = page.locator(f"#edit-{name} input[type=number]").first
    box.fill(str(value))
    box.press("Tab")


def picture_on_canvas(page: Any, change: Callable[[], Any]) -> None:
    """Do what puts another picture on the canvas, and wait until it is there."""
    before = page.get_attribute(".lcm-paper", "data-ready")
    change()
    page.wait_for_function(
        "before => document.querySelector('.lcm-paper').dataset.ready !== before", arg=before
    )


def says(page: Any, words: str) -> None:
    page.wait_for_function(
        "words => document.querySelector('#edit-note')?.innerText.includes(words)", arg=words
    )


def test_a_painted_mask_keeps_the_rest_of_the_file(page: Any) -> None:
    page.locator("#edit-go").click()
    says(page, "mask")  # nothing is painted yet
    stroke(page, [(0.3, 0.4), (0.6, 0.4), (0.6, 0.5)])
    out, before = pixels(run(page)[0]), example()
    assert out.shape == before.shape
    height, width = before.shape[:2]
    far = np.ones(before.shape[:2], bool)
    far[int(0.3 * height) : int(0.6 * height), int(0.2 * width) : int(0.7 * width)] = False
    assert np.array_equal(out[far], before[far])
    assert not np.array_equal(out, before)
    page.wait_for_selector("#edit-kept p")
    assert "max error 0/255" in page.locator("#edit-kept").inner_text()
    # the result is in the canvas' place, and below it the estimate after each of the four steps
    assert page.get_attribute(".lcm-view", "data-look") == "result"
    assert page.locator(".lcm-film figure").count() == 4
    # the schedule editor: one's own levels, as many steps
    page.get_by_text("Schedule", exact=True).click()
    # all its fields are drawn before one is filled
    page.wait_for_selector("#edit-noise-scale input, #edit-noise-scale textarea")
    page.fill("#edit-levels textarea, #edit-levels input", "2, 0.5")
    put(page, "steps", 2)
    said = read_settings(run(page)[0])
    assert said is not None and len(said["levels"]) == 2
    assert list(said["options"]) == ["levels"], "fields that were left empty are the tool's own"
    page.fill("#edit-noise-scale textarea, #edit-noise-scale input", "0.02")
    page.locator("#edit-go").click()
    says(page, "Noise scale=0.02 is not usable; use a number from 0.1 to 1")
    page.fill("#edit-noise-scale textarea, #edit-noise-scale input", "0.5")
    said = read_settings(run(page)[0])
    assert said is not None and said["noise_scale"] == said["options"]["noise_scale"] == 0.5
    page.wait_for_function("document.querySelectorAll('.lcm-film figure').length === 2")
    assert "2" in page.locator(".lcm-film figcaption").first.inner_text()


def test_an_uploaded_mask_grown_softened_and_inverted(page: Any, tmp_path: Path) -> None:
    height, width = example().shape[:2]
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    with page.expect_file_chooser() as chooser:
        page.locator("#edit-open-mask").click()
    chooser.value.set_files(tmp_path / "mask.png")
    page.wait_for_selector(".lcm-paper[data-mask]")
    before = example()

    def changed() -> np.ndarray:
        return (pixels(run(page)[0]) != before).any(axis=2)

    first = changed()
    assert first.any() and not first[mask == 0].any()
    put(page, "grow", 8)
    put(page, "feather", 4)
    grown = changed()
    assert grown[mask == 0].any(), "a grown mask lets its surroundings change"
    far = np.ones_like(mask)
    far[height // 4 - 9 : height // 2 + 9, width // 4 - 9 : width // 2 + 9] = 0
    assert not grown[far > 0].any()
    put(page, "grow", -8)
    put(page, "feather", 0)
    core = np.zeros_like(mask)
    core[height // 4 + 8 : height // 2 - 8, width // 4 + 8 : width // 2 - 8] = 255
    shrunk = changed()
    assert shrunk.any() and not shrunk[core == 0].any()
    put(page, "grow", 0)
    page.get_by_label("Invert the mask").check()
    swapped = changed()
    assert swapped.any() and not swapped[mask > 0].any()


def test_variations_pick_one_go_on_and_take_it_back(page: Any) -> None:
    stroke(page, [(0.5, 0.4), (0.7, 0.6)])
    page.uncheck("#edit-randomize input")
    put(page, "seed", 40)
    four = run(page, "#edit-vary", count=4)
    assert len({pixels(data).tobytes() for data in four}) == 4
    seeds = [(read_settings(data) or {})["seed"] for data in four]
    assert seeds == [40, 41, 42, 43]
    page.locator("#edit-stage .lcm-picture").nth(2).click()
    picked = page.eval_on_selector_all(
        "#edit-stage .lcm-frame", "all => all.map(f => 'picked' in f.dataset)"
    )
    assert picked == [False, False, True, False]
    picture_on_canvas(page, lambda: page.locator("#edit-go-on").click())
    # the third is what the next edit starts from, in another tool
    tool(page, "Widen", "outpaint")
    put(page, "right", 0)
    put(page, "left", 32)
    put(page, "top", 16)
    wide = pixels(run(page)[0])
    third = pixels(four[2])
    assert wide.shape == (third.shape[0] + 16, third.shape[1] + 32, 3)
    assert np.array_equal(wide[16:, 32:], third)
    # and back to the first picture, past the result
    page.locator("#edit-undo").click()
    picture_on_canvas(page, lambda: page.locator("#edit-undo").click())
    # what was painted on it came back with it: that alone may change beside the new borders
    changed = (pixels(run(page)[0])[16:, 32:] != example()).any(axis=2)
    rows, columns = np.nonzero(changed)
    brush = 0.04 * len(changed)
    assert rows.min() > 0.4 * len(changed) - brush and rows.max() < 0.6 * len(changed) + brush
    assert columns.min() > 0.5 * len(changed) - brush and columns.max() < 0.7 * len(changed) + brush
    # one visible state at a time: that result, the four of before, the stroke
    for _ in range(3):
        page.locator("#edit-undo").click()
    assert page.locator("#edit-undo").is_disabled()
    assert page.get_attribute(".lcm-view", "data-look") == "picture"
    assert np.array_equal(pixels(run(page)[0])[16:, 32:], example())


def test_settings_of_a_dropped_png_fill_the_tool(page: Any, tmp_path: Path) -> None:
    said = {
        "task": "outpaint", "prompt": "dawn, sea", "steps": 3, "guidance": 2.5, "seed": 77, "count": 1,
        "model": "scenery-lcm", "levels": [3.0, 1.0, 0.3], "method": "residual",
        "options": {"borders": [8, 0, 24, 16], "feather": 5, "levels": [3.0, 1.0, 0.3]},
    }  # fmt: skip
    path = write_png(tmp_path / "a.png", np.full((8, 8, 3), 90, np.uint8), said)
    drop(page, "a.png", path.read_bytes())
    page.wait_for_selector(".lcm-paper[data-tool=outpaint]")
    page.wait_for_selector("#edit-bottom input[type=number]")
    page.wait_for_function(
        "document.querySelector('#edit-prompt textarea').value === 'dawn, sea' && "
        "document.querySelector('#edit-bottom input[type=number]').value === '16'"
    )
    names = ("steps", "guidance", "seed", "left", "top", "right", "bottom", "feather")
    shown = [
        float(page.locator(f"#edit-{name} input[type=number]").first.input_value())
        for name in names
    ]
    assert shown == [3, 2.5, 77, 8, 0, 24, 16, 5]
    made = read_settings(run(page)[0])
    assert made is not None and made["seed"] == 77 and made["options"]["borders"] == [8, 0, 24, 16]
    assert made["levels"] == pytest.approx([3.0, 1.0, 0.3], rel=0.05)


def test_from_create_to_edit_and_a_second_picture_after_the_first(
    open_page: Callable[..., Any],
) -> None:
    page = open_page(viewport={"width": 1400, "height": 1200})
    page.fill("#create-prompt textarea", "sunset, lake")
    page.locator("#create-go").click()
    page.wait_for_selector("#create-stage a[download]")
    sent = page.locator("#create-stage a[download]").first.get_attribute("href")
    made = pixels(page.request.get(sent).body())
    page.locator("#create-stage").get_by_role("button", name="Edit", exact=True).click()
    page.wait_for_selector(".lcm-paper[data-ready]")
    assert page.input_value("#edit-prompt textarea") == "sunset, lake"
    stroke(page, [(0.2, 0.8), (0.4, 0.8)])
    out = pixels(run(page)[0])
    assert np.array_equal(out[: len(out) // 2], made[: len(made) // 2])
    # another picture takes its place: what was painted on the first one is gone
    with page.expect_file_chooser() as chooser:
        page.locator("#edit-open-picture").click()
    picture_on_canvas(page, lambda: chooser.value.set_files(EXAMPLES[1]))
    page.locator("#edit-go").click()
    says(page, "mask")
    tool(page, "Colour", "colorize")
    assert pixels(run(page)[0]).shape == example(2).shape


def test_live_sketch_shows_each_step_and_strokes_change_only_where_they_are(page: Any) -> None:
    tool(page, "Sketch", "sketch")
    page.get_by_label("Only my strokes").check()
    asked: list[dict[str, Any]] = []
    page.on(
        "request",
        lambda r: (
            asked.append(json.loads(r.post_data)) if r.url.endswith("/studio/sketch") else None
        ),
    )
    page.evaluate(
        """() => {
            window.seen = [];
            const text = document.querySelector("#edit-stage .lcm-progress");
            const told = record => [...record.addedNodes].map(node => node.textContent)
                .concat(record.oldValue || []);  // of two messages in one turn, the first is here only
            new MutationObserver(records => window.seen.push(...records.flatMap(told), text.innerText)).observe(
                text, {childList: true, subtree: true, characterData: true, characterDataOldValue: true});
        }"""
    )
    page.locator("#edit-live input").check()
    stroke(page, [(0.3, 0.2), (0.7, 0.2)])
    page.wait_for_selector("#edit-stage a[download]")
    quick, refined = asked[0], asked[-1]
    assert not quick["refine"] and refined["refine"]
    seen = page.evaluate("window.seen")
    assert [step for step in "123" if any(f"Step {step} of" in text for text in seen)] == [
        "1",
        "2",
        "3",
    ]
    before = example()
    out = pixels(page.request.get(links(page)[0]).body())
    middle = before.shape[0] // 2
    assert np.array_equal(out[middle:], before[middle:])
    assert not np.array_equal(out[:middle], before[:middle])
    page.locator("#edit-live input").uncheck()
    out = pixels(run(page)[0])
    assert np.array_equal(out[middle:], before[middle:])


def test_strokes_on_a_white_sheet_become_a_picture(page: Any) -> None:
    """The sheet is the model's size, one step follows the hand, and Undo brings the picture before back."""
    picture_on_canvas(page, page.locator("#edit-blank").click)
    page.wait_for_selector(".lcm-paper[data-tool=sketch]")
    assert page.get_by_label("Sketch", exact=True).is_checked()
    assert page.locator("#edit-strength").is_visible()
    with page.expect_request("**/studio/sketch") as asked:
        page.locator("#edit-live input").check()
        stroke(page, [(0.2, 0.7), (0.8, 0.7)])
    sent = json.loads(asked.value.post_data)
    assert not sent["refine"]
    drawn = pixels(base64.b64decode(sent["image"].partition(",")[2]))
    white = (drawn == 255).all(axis=2)
    assert drawn.shape == (256, 256, 3) and 0.5 < white.mean() < 1
    page.wait_for_selector("#edit-stage a[download]")
    page.locator("#edit-live input").uncheck()
    out = pixels(run(page)[0])
    assert out.shape == drawn.shape
    before = page.get_attribute(".lcm-paper", "data-ready")
    while page.get_attribute(".lcm-paper", "data-ready") == before:  # results, strokes, the sheet
        page.locator("#edit-undo").click()


def test_tools_show_what_they_use(page: Any) -> None:
    bar, live, strength = (
        page.locator(at) for at in (".lcm-brushes", "#edit-live", "#edit-strength")
    )
    for title, name, shown in (
        ("Repaint", "inpaint", (True, False, False)),
        ("Colour", "colorize", (False, False, False)),
        ("Sketch", "sketch", (True, True, True)),
        ("Morph", "interpolate", (False, False, True)),
    ):
        tool(page, title, name)
        for found, wanted in zip((bar, live, strength), shown, strict=True):
            found.wait_for(state="visible" if wanted else "hidden")
    tool(page, "Sketch", "sketch")
    page.locator(".lcm-palette").wait_for(state="visible")
    assert (
        page.get_by_role("button", name="Invert", exact=True).count() == 0
    )  # strokes have no inverse


def test_a_tool_brings_its_guidance_but_one_set_by_hand_stays(page: Any) -> None:
    def guidance_is(scale: str) -> None:
        page.wait_for_function(
            "scale => document.querySelector('#edit-guidance input[type=number]').value === scale",
            arg=scale,
        )

    guidance_is("6")
    tool(page, "Colour", "colorize")
    guidance_is("8")
    tool(page, "Deblur", "deblur")
    guidance_is("6")
    put(page, "guidance", 5.5)
    tool(page, "Denoise", "denoise")
    tool(page, "Repaint", "inpaint")
    guidance_is("5.5")


def test_a_relaxation_per_level_is_heard_and_a_wrong_one_is_told(page: Any) -> None:
    tool(page, "Denoise", "denoise")
    page.get_by_text("Schedule", exact=True).click()
    field = "#edit-relax textarea, #edit-relax input"
    for typed, words in (
        ("much", "relax=much is not usable; use numbers from 0 to 1"),
        ("0, 0, 1.5", "relax=0, 0, 1.5 is not usable; use numbers from 0 to 1"),
        (
            "0, 0, 0, 0, 0.3",
            "Relax has 5 numbers, but there are 4 levels; give one per level at most",
        ),
    ):
        page.fill(field, typed)
        page.locator("#edit-go").click()
        says(page, words)
        assert page.input_value(field) == typed
    page.fill(field, "0, 0, 0.1, 0.3")
    said = read_settings(run(page)[0])
    assert said is not None and said["relax"] == [0, 0, 0.1, 0.3]


def test_a_morph_shows_its_frames_and_moves(page: Any) -> None:
    tool(page, "Morph", "interpolate")
    with page.expect_file_chooser() as chooser:
        page.click("#edit-open-second")
    chooser.value.set_files(EXAMPLES[1])
    says(page, "second picture")
    put(page, "frames", 3)
    put(page, "steps", 1)
    first, _, last = (pixels(data) for data in run(page, count=3))
    assert np.array_equal(first, example(1)) and np.array_equal(last, example(2))
    names = page.locator("#edit-stage figcaption strong").all_inner_texts()
    assert names == ["frame 1", "frame 2", "frame 3"]
    page.wait_for_function("document.querySelector('.lcm-moving img').naturalWidth > 0")
    files = page.eval_on_selector_all(".lcm-moving a", "all => all.map(a => a.href)")
    gif, mp4 = (page.request.get(url) for url in files)
    assert Image.open(io.BytesIO(gif.body())).n_frames == 3
    assert mp4.headers["content-type"] == "video/mp4" and mp4.body()[4:8] == b"ftyp"
    assert page.request.get(files[0].replace(".gif", ".png")).status == 404


def test_stop_ends_an_edit_and_the_next_one_runs(page: Any) -> None:
    tool(page, "Colour", "colorize")
    put(page, "steps", 16)
    page.locator("#edit-vary").click()
    page.wait_for_function(
        "/Step [1-9]/.test(document.querySelector('#edit-stage .lcm-progress').textContent)"
    )
    page.locator("#edit-stop").click()
    page.wait_for_selector('#edit-stage .lcm-stage[data-phase="stopped"]')
    put(page, "steps", 1)
    assert len(run(page)) == 1
