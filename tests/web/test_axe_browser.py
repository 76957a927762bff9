"""axe-core finds nothing on any tab, in both themes, empty and with pictures."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from typing import Any

import pytest

from tests.web.create.test_browser import generate

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
AXE = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js")
RUN = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations.flatMap(
    v => v.nodes.map(n => `${v.id} ${n.target}: ${(n.any[0] || n.all[0] || n.none[0] || {message: ''}).message}`))"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(open_page: Callable[..., Any], theme: str) -> None:
    page = open_page(color_scheme=theme, reduced_motion="reduce")
    page.evaluate(AXE.read_text(encoding="utf-8"))

    def found() -> list[str]:
        page.wait_for_timeout(400)
        return list(page.evaluate(RUN))

    assert found() == []
    generate(page, "sunset, lake, unicorn", steps=1)
    assert found() == [], "with a picture, a warning and a history"
    page.get_by_role("tab", name="Edit", exact=True).click()
    page.wait_for_selector(".lcm-view")
    assert found() == []
    page.locator("#edit-example-1").click()
    page.wait_for_selector(".lcm-paper[data-ready]")
    page.get_by_label("Sketch", exact=True).check()
    page.wait_for_selector(".lcm-paper[data-tool=sketch]")
    page.locator("#edit-go").click()
    page.wait_for_selector('#edit-stage .lcm-stage[data-phase="done"]', state="attached")
    assert found() == []
    page.get_by_role("tab", name="Distil", exact=True).click()
    page.wait_for_selector("#distil-go")
    page.locator("#distil-go").click()
    page.wait_for_selector("#distil-note .lcm-error")
    assert found() == []


def test_the_words_are_a_listbox_with_arrow_keys(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.locator(".lcm-group", has_text="mountains").click()
    page.get_by_role("listbox", name="mountains").get_by_role("option").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    second = page.get_by_role("listbox", name="mountains").get_by_role("option").nth(1)
    assert page.input_value("#create-prompt textarea") == second.inner_text()
    assert second.get_attribute("aria-selected") == "true"
