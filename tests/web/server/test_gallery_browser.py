"""The gallery under the hand: search, arrow keys, stars, many at once, on to a tool, and two tabs."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from lcm_studio.edits.video import write_video
from lcm_studio.images import write_png
from tests.web.conftest import Server, opening

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
PICTURES = {
    "2026-01-30/090000-1-aaaaaa.png": {"prompt": "night, lake", "seed": 1, "steps": 3},
    "2026-01-31/101500-2-bbbbbb.png": {"prompt": "dawn, sea", "seed": 2, "steps": 4},
    "2026-01-31/120000-7-cccccc.png": {"prompt": "night, sea", "seed": 7, "steps": 2},
}


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    root = tmp_path_factory.mktemp("gallery")
    folder = root / "outputs"
    server = Server("--outputs", str(folder), log=root / "log", script="tests/web/toy_app.py")
    try:
        server.wait()
        yield server, folder
    finally:
        server.close()


@pytest.fixture
def kept(gallery: tuple[Server, Path]) -> tuple[Server, Path]:
    """The server with the three pictures in its folder, and nothing else."""
    folder = gallery[1]
    for path in folder.iterdir() if folder.exists() else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for grey, (name, settings) in enumerate(PICTURES.items(), start=60):
        write_png(folder / name, np.full((48, 64, 3), grey, np.uint8), settings)
    return gallery


@pytest.fixture
def visit(chromium: Any, kept: tuple[Server, Path]) -> Iterator[Callable[..., Any]]:
    yield from opening(chromium, kept[0])


def shown(page: Any, count: int) -> None:
    expect(page.locator(".lcm-tile")).to_have_count(count)


def open_gallery(page: Any) -> None:
    page.locator("#gallery-open").click()
    page.wait_for_selector(".lcm-gallery[open]")


def button(page: Any, name: str) -> Any:
    return page.locator(".lcm-gallery").get_by_role("button", name=name, exact=True)


def choose(page: Any, *words: str) -> None:
    for one in words:
        page.get_by_label(f"Choose: {one}", exact=True).check()


def test_pictures_of_all_days_are_found_looked_at_and_worked_with(
    visit: Any, kept: Any, tmp_path: Path
) -> None:
    page = visit()
    open_gallery(page)
    shown(page, 3)
    assert page.locator(".lcm-days h3").all_inner_texts() == ["2026-01-31", "2026-01-30"]
    page.fill(".lcm-gallery input[type=search]", "night")
    shown(page, 2)
    # large, with arrow keys; Esc leads back to all, and only then out
    page.get_by_label("Look at it large: night, sea", exact=True).click()
    words = page.locator(".lcm-large p")
    expect(words).to_contain_text("seed 7")
    large, dialog = (page.locator(f".lcm-{name}") for name in ("large img", "gallery"))
    assert large.evaluate("i => i.offsetHeight") > 0.6 * dialog.evaluate("d => d.offsetHeight")
    page.keyboard.press("ArrowRight")
    expect(words).to_contain_text("seed 1")
    page.keyboard.press("ArrowRight")  # it is the last one
    expect(words).to_contain_text("seed 1")
    # the same without keys
    button(page, "Previous").click()
    expect(words).to_contain_text("seed 7")
    button(page, "Back to all").click()
    shown(page, 2)
    page.get_by_label("Look at it large: night, lake", exact=True).click()
    for name in ("Star", "Remove star", "Star"):
        button(page, name).click()
        marked = (
            expect(words).not_to_contain_text if "Remove" in name else expect(words).to_contain_text
        )
        marked("★")
    page.keyboard.press("Escape")
    shown(page, 2)
    page.get_by_label("with a star").check()
    shown(page, 1)
    page.get_by_label("with a star").uncheck()
    page.fill(".lcm-gallery input[type=search]", "")
    shown(page, 3)
    choose(page, "night, lake", "dawn, sea")
    with page.expect_download() as download:
        button(page, "Download").click()
    download.value.save_as(tmp_path / "many.zip")
    with zipfile.ZipFile(tmp_path / "many.zip") as archive:
        assert sorted(archive.namelist()) == list(PICTURES)[:2]
    button(page, "Choose none").click()
    # deleting asks once; the other tab sees it when it is looked at again
    other = visit()
    open_gallery(other)
    shown(other, 3)
    choose(page, "dawn, sea")
    button(page, "Delete").click()
    assert (kept[1] / list(PICTURES)[1]).exists()
    button(page, "Delete it for good?").click()
    shown(page, 2)
    assert not (kept[1] / list(PICTURES)[1]).exists()
    other.evaluate("dispatchEvent(new Event('focus'))")
    shown(other, 2)


def test_a_picture_of_another_day_goes_on_in_any_tool_and_lends_its_settings(visit: Any) -> None:
    page = visit()
    open_gallery(page)
    choose(page, "night, lake")
    page.get_by_label("Open in a tool").select_option(label="Colour")
    page.wait_for_selector(".lcm-paper[data-ready][data-tool=colorize]")
    assert page.input_value("#edit-prompt textarea") == "night, lake"
    assert page.evaluate("document.querySelector('.lcm-paper').offsetWidth") == 64
    open_gallery(page)
    choose(page, "night, sea")
    button(page, "Use settings").click()
    page.wait_for_function(
        "document.querySelector('#create-prompt textarea').value === 'night, sea'"
    )
    page.wait_for_function(
        "document.querySelector('#create-steps input[type=number]').value === '2'"
    )
    # what is made now is there too
    page.locator("#create-go").click()
    page.wait_for_selector("#create-stage .lcm-stage[data-phase=done]")
    open_gallery(page)
    shown(page, 4)


def test_animations_play_and_open_in_no_tool(visit: Any, kept: tuple[Server, Path]) -> None:
    frames = [np.full((48, 64, 3), grey, np.uint8) for grey in (40, 120, 200)]
    for kind in ("gif", "mp4"):
        made = kept[1] / f"2026-02-01/090000-4-{kind}aaa.{kind}"
        write_video(
            made, frames, settings={"prompt": f"a {kind}", "seed": 4, "task": "interpolate"}
        )
    page = visit()
    open_gallery(page)
    shown(page, 5)
    expect(page.locator(".lcm-tile .lcm-kind")).to_have_text(["MP4", "GIF"], ignore_case=True)
    page.locator(".lcm-tile", has_text="MP4").locator(".lcm-thumb").click()
    page.wait_for_function("document.querySelector('.lcm-gallery video').videoWidth === 64")
    expect(page.locator(".lcm-large p")).to_contain_text("a mp4 · seed 4")
    expect(page.get_by_label("Open in a tool")).to_be_hidden()
    expect(button(page, "Use settings")).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.lcm-large img').naturalWidth === 64")
    expect(page.locator(".lcm-gallery video")).to_be_hidden()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Open in a tool")).to_be_visible()
