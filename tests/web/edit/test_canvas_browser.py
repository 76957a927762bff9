"""The canvas under the hand: wheel, keys, history, dropped files, reload; every test fails on the canvas of before."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from lcm_studio.images import read_settings
from tests.web.create.test_browser import drop
from tests.web.edit.test_browser import (
    EXAMPLES,
    example,
    links,
    page,
    picture_on_canvas,
    pixels,
    put,
    run,
    stroke,
    tool,
)  # fmt: skip

__all__ = ["page"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

INK = """() => { const c = document.querySelector('.lcm-mask'); if (!c.width) return 0;
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }"""


def place(page: Any) -> tuple[float, float, float]:
    box = page.locator(".lcm-paper").bounding_box()
    return box["x"], box["y"], box["width"]


def test_the_wheel_zooms_at_the_pointer_and_space_moves(page: Any) -> None:
    x, y, width = place(page)
    view = page.locator(".lcm-view").bounding_box()
    assert width > 0.9 * min(view["width"], view["height"]), "as large as the window allows"
    share = (0.7, 0.3)  # of the picture, under the pointer
    at = (x + share[0] * width, y + share[1] * width)
    page.mouse.move(*at)
    page.mouse.wheel(0, -400)
    page.wait_for_function(
        f"document.querySelector('.lcm-paper').getBoundingClientRect().width > {1.5 * width}"
    )
    x, y, larger = place(page)
    assert (x + share[0] * larger, y + share[1] * larger) == pytest.approx(at, abs=1)
    page.keyboard.down("Space")
    page.mouse.down()
    page.mouse.move(at[0] + 40, at[1] + 25)
    page.mouse.up()
    page.keyboard.up("Space")
    assert place(page)[:2] == pytest.approx((x + 40, y + 25), abs=1)
    assert page.evaluate(INK) == 0, "moving paints nothing"
    # a stroke lands where the pointer is, however the view lies
    page.mouse.move(*at)
    page.mouse.down()
    page.mouse.move(at[0] + 3, at[1])
    page.mouse.up()
    assert page.evaluate(INK) > 0
    page.locator(".lcm-zoom").click()
    assert place(page)[2] == pytest.approx(width, abs=1)


def test_keys_change_the_brush_and_go_through_one_history(page: Any) -> None:
    undo, redo = page.locator("#edit-undo"), page.locator("#edit-redo")
    expect(undo).to_be_disabled()
    ring = page.locator(".lcm-ring")
    view = page.locator(".lcm-view").bounding_box()
    page.mouse.move(view["x"] + view["width"] / 2, view["y"] + view["height"] / 2)
    before = ring.bounding_box()["width"]
    page.keyboard.press("]")
    assert ring.bounding_box()["width"] == pytest.approx(1.25 * before, rel=0.1)
    page.keyboard.press("[")
    stroke(page, [(0.3, 0.4), (0.6, 0.4)])
    first = page.evaluate(INK)
    stroke(page, [(0.3, 0.7), (0.6, 0.7)])
    both = page.evaluate(INK)
    assert both > first > 0
    page.keyboard.press("Control+z")
    assert page.evaluate(INK) == first
    expect(redo).to_be_enabled()
    page.keyboard.press("Control+Shift+z")
    assert page.evaluate(INK) == both
    run(page)
    view = page.locator(".lcm-view")
    expect(view).to_have_attribute("data-look", "result")
    expect(undo).to_have_attribute("title", "Undo: the result")
    page.keyboard.press("Control+z")  # the result, which is what is seen
    expect(view).to_have_attribute("data-look", "picture")
    assert page.evaluate(INK) == both
    page.keyboard.press("Control+Shift+z")
    expect(view).to_have_attribute("data-look", "result")
    # go on with it, then all the way back: the picture that the studio edits is the one that is seen
    picture_on_canvas(page, lambda: page.locator("#edit-go-on").click())
    assert page.evaluate(INK) == 0
    picture_on_canvas(page, lambda: page.keyboard.press("Control+z"))
    assert page.evaluate(INK) == both
    tool(page, "Colour", "colorize")
    luma = lambda sheet: sheet @ np.array([0.299, 0.587, 0.114])  # noqa: E731
    assert (
        np.abs(luma(pixels(run(page)[0]).astype(float)) - luma(example().astype(float))).max() < 2
    )


def test_pens_make_masks_and_an_area_needs_no_pointer(page: Any) -> None:
    page.get_by_role("button", name=re.compile("^Rectangle")).click()
    stroke(page, [(0.25, 0.25), (0.75, 0.5)])
    size = page.evaluate("document.querySelector('.lcm-mask').width ** 2")
    assert page.evaluate(INK) / size == pytest.approx(0.125, abs=0.01)
    page.get_by_role("button", name="Take away all that was painted").click()
    page.get_by_role("button", name=re.compile("^Lasso")).click()
    stroke(page, [(0.2, 0.2), (0.8, 0.2), (0.8, 0.8)])
    assert page.evaluate(INK) / size == pytest.approx(0.18, abs=0.03)
    page.keyboard.press("Control+z")
    page.get_by_role("button", name=re.compile("^Region")).click()
    stroke(page, [(0.38, 0.64)])  # in the roof: the roof
    assert 0.003 < page.evaluate(INK) / size < 0.05
    page.keyboard.press("Control+z")
    page.get_by_label("Add an area to the mask").select_option("Left half")
    assert page.evaluate(INK) / size == pytest.approx(0.5, abs=0.01)
    out = pixels(run(page)[0])
    half = out.shape[1] // 2
    assert np.array_equal(out[:, half + 1 :], example()[:, half + 1 :])


def test_what_does_nothing_for_a_tool_is_not_there(page: Any) -> None:
    second, mask = page.locator("#edit-open-second"), page.locator("#edit-open-mask")
    for title, name, there in (
        ("Repaint", "inpaint", (False, True)),
        ("Morph", "interpolate", (True, False)),
        ("Denoise", "denoise", (False, False)),
    ):
        tool(page, title, name)
        for button, wanted in zip((second, mask), there, strict=True):
            button.wait_for(state="visible" if wanted else "hidden")
    for label in page.locator("#edit-tool label").all():
        assert label.locator("svg").count() == 1 and len(label.locator("small").inner_text()) > 8


def test_a_foreign_picture_dropped_anywhere_opens_in_edit(
    open_page: Callable[..., Any], tmp_path: Path
) -> None:
    page = open_page()
    page.get_by_role("tab", name="Edit").click()
    expect(page.locator(".lcm-view")).to_contain_text("drop one anywhere")
    page.get_by_role("tab", name="Create").click()
    photo = np.random.default_rng(3).integers(0, 255, (40, 72, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    drop(page, "photo.png", (tmp_path / "photo.png").read_bytes())
    page.wait_for_selector('button[role="tab"][aria-selected="true"] >> text=Edit')
    page.wait_for_selector(".lcm-paper[data-ready]")
    expect(page.locator("#edit-note")).to_contain_text("photo.png is open")
    tool(page, "Widen", "outpaint")
    out = pixels(run(page)[0])
    assert np.array_equal(out[:, :72], photo)


def test_a_damaged_picture_stays_where_it_was_dropped(
    open_page: Callable[..., Any], tmp_path: Path
) -> None:
    page = open_page()
    Image.effect_noise((64, 64), 90).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    drop(page, "cut.png", whole[: len(whole) // 2])
    expect(page.locator("#create-note .lcm-error")).to_have_text(
        "cut.png cannot be opened. The picture is damaged or cut short; save it again"
    )
    assert page.get_by_role("tab", name="Create").get_attribute("aria-selected") == "true"


def test_the_canvas_stays_beside_the_controls_that_are_scrolled_to(page: Any) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.locator("#edit-seed").scroll_into_view_if_needed()
    page.evaluate("scrollBy(0, 300)")
    assert page.evaluate("scrollY") > 300
    expect(page.locator(".lcm-view")).to_be_in_viewport(ratio=0.95)
    # lower than the column: what is below the canvas comes into sight first, and stays
    page.set_viewport_size({"width": 1280, "height": 500})
    page.evaluate("scrollTo(0, 600)")
    page.wait_for_function(
        """() => { const r = document.querySelector('.lcm-edit > .lcm-left').getBoundingClientRect();
            return Math.abs(r.bottom - (innerHeight - 16)) < 2; }"""
    )


def test_on_a_phone_tool_and_words_are_above_the_canvas(page: Any) -> None:
    stroke(page, [(0.4, 0.5), (0.6, 0.5)])
    page.set_viewport_size({"width": 390, "height": 844})
    run(page)
    page.evaluate("scrollTo(0, 0)")
    names = ("#edit-tool", "#edit-prompt textarea", ".lcm-view", "#edit-go")
    places = [page.locator(name).bounding_box() for name in names]
    tools, words, canvas, main = [(box["y"], box["y"] + box["height"]) for box in places if box]
    assert tools[1] <= words[0] and words[1] <= canvas[0] and main[1] <= 844
    assert main[0] - canvas[0] > 340, "most of the canvas is seen at once"
    assert page.get_attribute(".lcm-view", "data-look") == "result"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    small = page.evaluate(
        """() => [...document.querySelectorAll('#tab-edit button, #tab-edit select, #tab-edit a[href]')]
            .filter(e => e.offsetParent && Math.min(e.offsetWidth, e.offsetHeight) < 24).map(e => e.outerHTML.slice(0, 120))"""
    )
    assert small == []


def test_a_reload_and_back_lose_nothing(page: Any) -> None:
    stroke(page, [(0.3, 0.4), (0.6, 0.4)])
    page.fill("#edit-prompt textarea", "night, stars")
    put(page, "steps", 2)
    run(page)
    made = links(page)
    tool(page, "Widen", "outpaint")
    put(page, "left", 24)
    ink = page.evaluate(INK)
    page.get_by_role("tab", name="Create").click()
    page.fill("#create-prompt textarea", "dawn, sea")
    page.wait_for_timeout(1500)
    page.reload(wait_until="commit")
    page.wait_for_selector("html[data-studio=ready]")
    page.wait_for_function(
        "document.querySelector('#create-prompt textarea').value === 'dawn, sea'"
    )
    page.go_back()  # to Edit, where the page was before
    page.wait_for_selector(".lcm-paper[data-ready][data-tool=outpaint]", state="attached")
    page.wait_for_function(
        "document.querySelector('#edit-left input[type=number]')?.value === '24'"
    )
    assert page.input_value("#edit-prompt textarea") == "night, stars"
    assert page.evaluate(INK) == pytest.approx(ink, rel=0.01)
    page.wait_for_function("document.querySelectorAll('#edit-stage a[download]').length === 1")
    assert links(page) == made
    page.reload(wait_until="commit")  # in Edit as well
    page.wait_for_selector(".lcm-paper[data-ready][data-tool=outpaint]", state="attached")
    page.wait_for_function(
        "document.querySelector('#edit-left input[type=number]')?.value === '24'"
    )
    # picture and mask are what they were: under the stroke alone may the picture change
    out = pixels(run(page)[0])
    changed = (out[:, 24 : 24 + example().shape[1]] != example()).any(axis=2)
    rows, columns = np.nonzero(changed)
    brush = 0.04 * len(changed)
    assert abs(rows - 0.4 * len(changed)).max() < brush
    assert columns.min() > 0.3 * len(changed) - brush and columns.max() < 0.6 * len(changed) + brush


def test_what_was_painted_stays_kept_while_a_slow_picture_comes_back(page: Any) -> None:
    stroke(page, [(0.3, 0.4), (0.6, 0.4)])
    tool(page, "Widen", "outpaint")
    page.wait_for_timeout(1500)  # until it is kept
    page.add_init_script(
        "const decode = HTMLImageElement.prototype.decode;"
        "HTMLImageElement.prototype.decode = async function () {"
        " await new Promise((then) => setTimeout(then, 1500)); return decode.call(this); };"
    )
    page.reload(wait_until="commit")
    page.wait_for_selector(".lcm-paper[data-ready]", state="attached")
    masks = page.evaluate(
        """new Promise((then) => {
          indexedDB.open("lcm-studio", 1).onsuccess = (event) => {
            const asked = event.target.result.transaction("canvas").objectStore("canvas").getAll();
            asked.onsuccess = () => then(asked.result.map((state) => state.mask));
          };
        })"""
    )
    assert masks and all(masks)


def test_a_picture_opened_before_the_kept_one_has_no_foreign_mask(page: Any) -> None:
    stroke(page, [(0.3, 0.4), (0.6, 0.4)])
    ink = page.evaluate(INK)
    page.wait_for_timeout(1500)  # until it is kept
    held: list[Any] = []
    asked = lambda request: '\\"again\\":true' in (request.post_data or "")  # noqa: E731
    page.route(
        "**/queue/join**",
        lambda route: held.append(route) if asked(route.request) else route.continue_(),
    )
    with page.expect_request(asked):
        page.reload(wait_until="commit")
    page.locator("#edit-example-2").click()
    page.wait_for_selector(".lcm-paper[data-ready]")
    shown = page.get_attribute(".lcm-paper", "data-ready")
    assert page.evaluate(INK) == 0
    held[0].continue_()
    page.wait_for_selector("#edit-undo:not([disabled])")  # the old one has come, below the new one
    assert page.get_attribute(".lcm-paper", "data-ready") == shown
    assert page.evaluate(INK) == 0
    stroke(page, [(0.4, 0.8), (0.5, 0.8)])
    out, before = pixels(run(page)[0]), example(2)
    half = len(before) // 2
    assert np.array_equal(out[:half], before[:half]) and not np.array_equal(out, before)
    while page.locator("#edit-undo").is_enabled():
        page.locator("#edit-undo").click()
    assert page.evaluate(INK) == pytest.approx(ink, rel=0.01)
    out, before = pixels(run(page)[0]), example()
    assert np.array_equal(out[-half:], before[-half:]) and not np.array_equal(out, before)


def test_model_compare_and_last_seed_as_in_create(page: Any) -> None:
    stroke(page, [(0.4, 0.5), (0.6, 0.5)])
    box = page.locator("#edit-model input")
    box.fill("/no/such/model")
    box.press("Enter")
    expect(page.locator("#edit-note .lcm-error")).to_contain_text("stays in use")
    run(page, "#edit-compare", count=4)
    said = [read_settings(page.request.get(link).body()) or {} for link in links(page)]
    assert [one["steps"] for one in said] == [1, 2, 4, 8]
    assert len({one["seed"] for one in said}) == 1
    page.locator("#edit-reuse").click()
    page.wait_for_function("!document.querySelector('#edit-randomize input').checked")
    assert page.locator("#edit-seed input").input_value() == str(said[0]["seed"])


def test_a_second_picture_replaces_the_first(page: Any, tmp_path: Path) -> None:
    words = tmp_path / "notes.txt"
    words.write_text("no picture")
    with page.expect_file_chooser() as chooser:
        page.locator("#edit-open-picture").click()
    assert ".webp" in (chooser.value.element.get_attribute("accept") or "")
    chooser.value.set_files(words)
    expect(page.locator("#edit-note .lcm-error")).to_have_count(1)
    expect(page.locator("#edit-note .lcm-error")).to_contain_text("no PNG, JPEG or WEBP picture")
    assert page.locator(".toast-body").count() == 0, "said once, and not over the controls"
    with page.expect_file_chooser() as chooser:
        page.locator("#edit-open-picture").click()
    picture_on_canvas(page, lambda: chooser.value.set_files(EXAMPLES[1]))
    expect(page.locator("#edit-undo")).to_have_attribute("title", "Undo: another picture")
