"""Paints on the real canvas in Chromium and checks the file that comes out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.browser


@pytest.fixture
def page(open_page):
    """The Edit tab with the first example on the canvas."""
    page = open_page(viewport={"width": 1400, "height": 1200})
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit-example-1").click()
    page.wait_for_selector(".lcm-paper[data-ready]")
    return page


def stroke(page, points):
    box = page.locator(".lcm-paper").bounding_box()
    (x, y), *rest = points
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.mouse.down()
    for x, y in rest:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
    page.mouse.up()


def result(page):
    """The finished PNG, read back."""
    page.locator("#edit-go").click()
    page.wait_for_selector("#edit-kept p", timeout=120000)
    link = page.locator("#edit-stage a[download]").first.get_attribute("href")
    return np.asarray(Image.open(io.BytesIO(page.request.get(link).body())))


def example():
    return np.asarray(Image.open(sorted((ROOT / "assets" / "examples").glob("*.png"))[0]))


def test_a_painted_mask_keeps_the_rest_of_the_file(page):
    stroke(page, [(0.3, 0.4), (0.6, 0.4), (0.6, 0.5)])
    out, before = result(page), example()
    assert out.shape == before.shape
    far = np.ones(before.shape[:2], bool)
    far[int(0.3 * 128) : int(0.6 * 128), int(0.2 * 128) : int(0.7 * 128)] = False
    assert np.array_equal(out[far], before[far])
    assert not np.array_equal(out, before)
    assert "max error 0/255" in page.locator("#edit-kept").inner_text()


def test_strokes_change_only_where_they_are_when_asked(page):
    page.get_by_label("Sketch").check()
    page.wait_for_selector(".lcm-paper[data-tool=sketch]", timeout=60000)
    page.get_by_label("Keep all but my strokes").check()
    stroke(page, [(0.3, 0.2), (0.7, 0.2)])
    out, before = result(page), example()
    assert np.array_equal(out[64:], before[64:])
    assert not np.array_equal(out[:64], before[:64])


def test_nothing_painted_is_said(page):
    page.locator("#edit-go").click()
    page.wait_for_function(
        "document.querySelector('#edit-note')?.innerText.includes('mask')", timeout=60000
    )
