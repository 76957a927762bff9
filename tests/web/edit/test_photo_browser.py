"""A photo of more than 16 megapixels: opened, painted on, repainted; the rest of the file is the photo's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from lcm_studio.images import read_settings
from tests.web.create.test_browser import drop
from tests.web.edit.test_browser import EXAMPLES, page, picture_on_canvas, pixels, run, says, stroke

__all__ = ["page"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
SIZE = (5000, 3300)


def test_a_large_photo_is_repainted_and_stays_to_the_bit(page: Any, tmp_path: Path) -> None:
    with Image.open(EXAMPLES[0]) as picture:
        photo = picture.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC)
    photo.save(tmp_path / "photo.png", compress_level=1)
    with page.expect_file_chooser() as chooser:
        page.locator("#edit-open-picture").click()
    picture_on_canvas(page, lambda: chooser.value.set_files(tmp_path / "photo.png"))
    says(page, "5000 x 3300 smaller; edits are made on all of it")
    shown = page.evaluate("document.querySelector('.lcm-paper').offsetWidth")
    assert shown == SIZE[0], "the canvas measures by the photo's own pixels"
    stroke(page, [(0.48, 0.5), (0.52, 0.5)])
    data = run(page)[0]
    made, before = pixels(data), np.asarray(photo)
    assert made.shape == before.shape
    rows, columns = np.nonzero((made != before).any(axis=2))
    assert len(rows), "under the stroke it is another picture"
    brush = 0.03 * SIZE[0]
    assert abs(rows - 0.5 * SIZE[1]).max() < brush
    assert columns.min() > 0.48 * SIZE[0] - brush and columns.max() < 0.52 * SIZE[0] + brush
    said = read_settings(data)
    assert said is not None and (said["width"], said["height"]) == SIZE
    # a reload brings no smaller picture in the photo's place
    page.wait_for_timeout(1000)
    page.reload(wait_until="commit")
    page.wait_for_selector(".lcm-view[data-empty]")
    assert page.get_attribute(".lcm-paper", "data-ready") is None


def test_a_picture_beyond_the_limit_is_opened_smaller_by_one_button(
    page: Any, tmp_path: Path
) -> None:
    file = tmp_path / "wide.png"
    Image.new("RGB", (8200, 8000), (90, 120, 60)).save(file, compress_level=1)
    button = page.locator("#edit-fit")
    expect(button).to_be_hidden()
    before = page.get_attribute(".lcm-paper", "data-ready")
    with page.expect_file_chooser() as chooser:
        page.locator("#edit-open-picture").click()
    chooser.value.set_files(file)
    says(page, "8200 x 8000 pixels is too large")
    assert page.get_attribute(".lcm-paper", "data-ready") == before
    picture_on_canvas(page, button.click)
    says(page, "It was made smaller, to 8099 x 7901")
    expect(button).to_be_hidden()
    assert page.evaluate("document.querySelector('.lcm-paper').offsetWidth") == 8099
    # the same for one that is dropped; another picture takes the offer away
    drop(page, "wide.png", file.read_bytes())
    expect(button).to_be_visible()
    page.locator("#edit-example-1").click()
    expect(button).to_be_hidden()


def test_a_photo_that_the_model_knows_nothing_of_is_said_to_be_one(
    page: Any, tmp_path: Path
) -> None:
    from skimage import data

    Image.fromarray(data.astronaut()[:128, 100:228]).save(tmp_path / "photo.png")
    with page.expect_file_chooser() as chooser:
        page.locator("#edit-open-picture").click()
    picture_on_canvas(page, lambda: chooser.value.set_files(tmp_path / "photo.png"))
    stroke(page, [(0.45, 0.5), (0.55, 0.5)])
    run(page)
    expect(page.locator("#edit-kept")).to_contain_text(
        "unlike those that scenery-lcm was made from"
    )
    expect(page.locator("#edit-kept")).to_contain_text("Known part kept: max error 0/255")
    # what is known of this request goes with the next, which fails
    page.get_by_label("Morph", exact=True).check()
    page.locator("#edit-go").click()
    says(page, "Morph needs another picture (Second picture, above the canvas)")
    expect(page.locator("#edit-kept")).to_have_text("")
    expect(page.locator("#edit-film figure")).to_have_count(0)


def test_a_photo_that_is_too_large_for_morph_alone_is_made_smaller_by_one_button(
    page: Any, tmp_path: Path
) -> None:
    file = tmp_path / "photo.png"
    Image.new("RGB", (3000, 2000), (90, 120, 60)).save(file, compress_level=1)
    with page.expect_file_chooser() as chooser:
        page.locator("#edit-open-picture").click()
    picture_on_canvas(page, lambda: chooser.value.set_files(file))
    page.get_by_label("Morph", exact=True).check()
    page.wait_for_selector(".lcm-paper[data-tool=interpolate]", state="attached")
    button = page.locator("#edit-fit")
    expect(button).to_be_hidden()
    page.locator("#edit-go").click()
    says(page, "3000 x 2000 is too large for Morph; the limit is 4.2 megapixels")
    picture_on_canvas(page, button.click)
    says(page, "It was made smaller, to 2508 x 1672")
    expect(button).to_be_hidden()
