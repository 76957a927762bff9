"""The page is loaded again while a request runs: its progress, its result, and Stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.web.conftest import Server, opening

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
STEP = "Step 1 of 4"


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server whose requests wait for a file."""
    folder = tmp_path_factory.mktemp("held")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HELD", str(folder / "go"))
        server = Server(log=folder / "log", script="tests/web/held_app.py")
    try:
        server.wait()
        yield server, folder / "go"
    finally:
        (folder / "go").touch()  # a server ends once its lane does
        server.close()


@pytest.fixture
def visit(chromium: Any, held: tuple[Server, Path]) -> Iterator[Callable[..., Any]]:
    held[1].unlink(missing_ok=True)
    yield from opening(chromium, held[0])


def again(page: Any) -> None:
    page.reload(wait_until="commit")
    page.wait_for_selector("html[data-studio=ready]")


def phase(page: Any, tab: str, name: str) -> None:
    page.wait_for_selector(f"#{tab}-stage .lcm-stage[data-phase={name}]", state="attached")


def under_way(page: Any, tab: str) -> None:
    expect(page.locator(f"#{tab}-stage .lcm-progress")).to_contain_text(STEP)
    said = page.locator(f"#{tab}-stage").get_by_role("status").filter(has_text=STEP)
    expect(said).to_have_attribute("aria-live", "polite")  # a screen reader says it


def test_a_request_is_taken_up_after_a_reload(visit: Any, held: Any) -> None:
    page = visit()
    page.fill("#create-prompt textarea", "night")
    page.locator("#create-go").click()
    under_way(page, "create")
    again(page)
    under_way(page, "create")
    page.locator("#create-stop").click()
    phase(page, "create", "stopped")
    # what has ended is not taken up a second time
    again(page)
    expect(page.locator("#create-stage .lcm-progress")).to_be_hidden()
    page.locator("#create-go").click()
    under_way(page, "create")
    again(page)
    under_way(page, "create")
    held[1].touch()
    phase(page, "create", "done")
    assert page.locator("#create-stage a[download]").count() == 1


def test_what_ended_while_the_page_was_away_is_there(visit: Any, held: Any) -> None:
    page = visit()
    page.locator("#create-go").click()
    under_way(page, "create")
    page.goto("about:blank")
    held[1].touch()
    page.goto(held[0].url, wait_until="commit")
    phase(page, "create", "done")
    assert page.locator("#create-stage a[download]").count() == 1


def test_an_edit_is_taken_up_over_its_picture(visit: Any, held: Any) -> None:
    page = visit()
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit-example-1").click()
    page.wait_for_selector(".lcm-paper[data-ready]")
    page.get_by_label("Colour", exact=True).check()
    page.wait_for_selector(".lcm-paper[data-tool=colorize]", state="attached")
    page.wait_for_timeout(1500)  # until the canvas is kept
    page.locator("#edit-go").click()
    under_way(page, "edit")
    again(page)
    page.wait_for_selector(".lcm-paper[data-ready]", state="attached")
    under_way(page, "edit")
    held[1].touch()
    phase(page, "edit", "done")
    expect(page.locator("#edit-kept")).not_to_be_empty()
    assert page.get_attribute(".lcm-view", "data-look") == "result"
    page.locator("#edit-undo").click()  # before the result there is the picture
    page.wait_for_selector(".lcm-view[data-look=picture]")


def test_a_duplicated_tab_has_a_key_of_its_own(visit: Any, held: Any) -> None:
    """A browser duplicates a tab with what it keeps, as for a window that a page opens."""
    page = visit()
    page.fill("#create-prompt textarea", "night")
    page.locator("#create-go").click()
    under_way(page, "create")
    with page.expect_popup() as opening_:
        page.evaluate("open(location.href)")
    copy = opening_.value
    copy.wait_for_selector("html[data-studio=ready]")
    name = page.evaluate("sessionStorage.getItem('lcm-tab')")
    copy.wait_for_function("name => sessionStorage.getItem('lcm-tab') !== name", arg=name)
    assert copy.evaluate("sessionStorage.getItem('lcm-under-way')") is None
    expect(copy.locator("#create-prompt textarea")).to_have_value(
        "night"
    )  # it comes back by the server
    again(copy)  # a reload keeps the key
    mine = copy.evaluate("sessionStorage.getItem('lcm-tab')")
    again(copy)
    assert mine == copy.evaluate("sessionStorage.getItem('lcm-tab')") != name
    expect(copy.locator("#create-stage .lcm-progress")).to_be_hidden()
    again(page)
    assert name == page.evaluate("sessionStorage.getItem('lcm-tab')")
    under_way(page, "create")
    held[1].touch()
    phase(page, "create", "done")
    assert copy.locator("#create-stage a[download]").count() == 0


def test_a_request_that_is_lost_is_said_to_be(visit: Any) -> None:
    page = visit()
    page.evaluate("sessionStorage.setItem('lcm-under-way', 'create')")
    again(page)
    phase(page, "create", "failed")
    expect(page.locator("#create-note .lcm-error")).to_contain_text("send it again")


def test_at_twice_the_size_the_page_goes_to_the_picture(visit: Any) -> None:
    """As a browser of 1280 x 900 is at 200 %."""
    page = visit(viewport={"width": 640, "height": 450}, device_scale_factor=2)
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(page.locator("#create-stage .lcm-stage")).not_to_be_in_viewport(ratio=0.3)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#create-stage .lcm-stage")).to_be_in_viewport(ratio=0.3)
    under_way(page, "create")
    expect(page.locator("#create-stage .lcm-stage")).to_be_in_viewport(ratio=0.3)
