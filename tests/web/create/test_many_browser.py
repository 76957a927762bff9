"""Sixteen pictures at once do not move when they are done, and their tools come under the hand; the history forgets one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.web.create.test_browser import generate

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

WATCH = """() => {
  window.heights = [];
  const place = document.querySelector("#create-stage .lcm-frames");
  new ResizeObserver(() => {
    if (place.children.length === 16) window.heights.push(Math.round(place.getBoundingClientRect().height));
  }).observe(place);
}"""


def test_a_grid_does_not_move_and_its_tools_come_under_the_hand(
    open_page: Callable[..., Any],
) -> None:
    page = open_page()
    page.evaluate(WATCH)
    generate(page, "sunset, lake", count=16, steps=2)
    frames = page.locator("#create-stage .lcm-frame")
    expect(frames).to_have_count(16)
    heights = page.evaluate("heights")
    assert len(set(heights)) == 1, heights
    tools = frames.nth(5).locator(".lcm-tools")
    expect(tools).to_have_css("opacity", "0")
    frames.nth(5).hover()
    expect(tools).to_have_css("opacity", "1")
    with page.expect_download():
        tools.get_by_role("link", name="PNG").click()
    frames.nth(6).locator(".lcm-picture").focus()
    page.mouse.move(0, 0)
    expect(frames.nth(6).locator(".lcm-tools")).to_have_css("opacity", "1")
    box, inner = frames.nth(6).bounding_box(), frames.nth(6).locator(".lcm-tools").bounding_box()
    assert box and inner and box["x"] <= inner["x"] and box["y"] <= inner["y"]
    assert inner["x"] + inner["width"] <= box["x"] + box["width"] + 1
    assert page.evaluate("heights") == heights


def test_an_entry_of_the_history_can_be_taken_out(open_page: Callable[..., Any]) -> None:
    page = open_page()
    for words in ("night", "dawn", "day"):
        generate(page, words, count=1, steps=1)
    thumbs = page.locator("#create-history .lcm-thumb")
    expect(thumbs).to_have_count(3)
    page.locator("#create-history .lcm-entry").nth(1).hover()
    cross = page.get_by_role("button", name="Take out of the history: dawn")
    ground = cross.evaluate("b => getComputedStyle(b).backgroundColor")
    assert not ground.endswith(", 0)"), "it is seen on every picture"
    cross.click()
    expect(thumbs).to_have_count(2)
    expect(thumbs.nth(1)).to_be_focused()
    page.keyboard.press("Delete")
    expect(thumbs).to_have_count(1)
    expect(thumbs.first).to_have_attribute("aria-label", "Restore: day")
    page.reload(wait_until="commit")
    page.wait_for_selector("html[data-studio=ready]")
    expect(thumbs).to_have_count(1)
