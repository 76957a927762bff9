"""Pictures of the real page for the README: python -m tests.ui.screenshots [URL of a running studio]."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.ui.conftest import CHROMIUM, FLAGS

OUT = Path(__file__).resolve().parents[2] / "assets" / "screenshots"
PROMPT = "#create-prompt textarea"
READY = '#create-stage .lcm-stage[data-phase="done"]'


def opened(browser: Any, url: str, **options: Any) -> Any:
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(240_000)
    page.goto(url, wait_until="commit")
    page.wait_for_selector("html[data-studio=ready]")
    page.wait_for_selector("html[data-model=ready]")
    return page


def run(page: Any, prompt: str, button: str = "#create-go") -> None:
    page.fill(PROMPT, prompt)
    page.click(button)
    page.wait_for_selector(
        '#create-stage .lcm-stage:not([data-phase="done"]):not([data-phase="idle"])',
        state="attached",
    )
    page.wait_for_selector(READY)
    page.wait_for_timeout(700)


def images(page: Any, count: int) -> None:
    box = page.locator("#create-count input[type=number]").first
    box.fill(str(count))
    box.press("Tab")


def main(url: str) -> None:
    from playwright.sync_api import sync_playwright

    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = opened(browser, url, viewport={"width": 1360, "height": 920}, color_scheme="light")
        page.screenshot(path=OUT / "empty-light.png")
        for prompt in (
            "dawn, many clouds, sea, sailboat, sand",
            "night, stars, moon on the right, hills, lake",
        ):
            run(page, prompt)
        run(page, "sunset, sun on the left, snowy mountains, lake, a few pine trees")
        page.screenshot(path=OUT / "create-light.png")
        images(page, 4)
        run(page, "day, a few clouds, autumn field, path, one oak tree, red house")
        page.click(".lcm-theme")
        page.wait_for_timeout(900)
        page.screenshot(path=OUT / "create-dark.png")
        page.mouse.move(5, 5)
        images(page, 1)
        run(page, "sunset, sun in the middle, hills, sea, sailboat", "#create-compare")
        page.screenshot(path=OUT / "compare-dark.png")
        phone = opened(
            browser,
            url,
            viewport={"width": 390, "height": 844},
            color_scheme="light",
            device_scale_factor=2,
        )
        run(phone, "sunset, snowy mountains, lake, a few pine trees")
        phone.screenshot(path=OUT / "phone-light.png")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860/")
