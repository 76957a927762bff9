"""Pictures of the real page for the README, of every tab and tool, light, dark and on a phone.

python -m tests.web.screenshots [URL of a running studio] [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lcm_studio.images import read_image, write_png
from tests.web.conftest import CHROMIUM, FLAGS

ASSETS = Path(__file__).resolve().parents[2] / "assets"
OUT = ASSETS / "screenshots"
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


def stroke(page: Any, *points: tuple[float, float]) -> None:
    """Draw through points given as shares of the canvas."""
    page.locator(".lcm-paper").scroll_into_view_if_needed()
    box = page.locator(".lcm-paper").bounding_box()
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*at[0])
    page.mouse.down()
    for point in at[1:]:
        page.mouse.move(*point, steps=8)
    page.mouse.up()


def opened_picture(page: Any, path: Path, kind: str = "picture") -> None:
    before = page.get_attribute(".lcm-paper", "data-ready") or ""
    with page.expect_file_chooser() as chooser:
        page.click(f"#edit-open-{kind}")
    chooser.value.set_files(path)
    if kind == "picture":
        page.wait_for_function(
            "before => (document.querySelector('.lcm-paper').dataset.ready || '') !== before",
            arg=before,
        )
    else:
        page.wait_for_selector("#edit-note .lcm-info")


def applied(page: Any, title: str, prompt: str = "", button: str = "#edit-go") -> None:
    """Run the tool `title` and wait until its finished files and its read-out show."""
    page.get_by_label(title, exact=True).check()
    page.fill("#edit-prompt textarea", prompt)
    before = page.eval_on_selector_all("#edit-stage a[download]", "all => all.map(a => a.href)")
    page.click(button)
    page.wait_for_function(
        """before => {
            const now = [...document.querySelectorAll("#edit-stage a[download]")].map(a => a.href);
            return now.length && !now.some(url => before.includes(url));
        }""",
        arg=before,
    )
    page.wait_for_timeout(2500)


def inputs(folder: Path) -> dict[str, Path]:
    """What each tool is for: a grey, a small, a noisy and a blurred picture."""
    whole = [read_image(path) for path in sorted((ASSETS / "examples").glob("*.png"))]
    height, width = whole[0].shape[:2]
    grey = np.repeat(cv2.cvtColor(whole[1], cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    noise = np.random.default_rng(0).normal(0, 0.15 * 255, whole[2].shape)
    made = {
        "grey": grey,
        "small": cv2.resize(whole[0], (width // 4, height // 4), interpolation=cv2.INTER_AREA),
        "noisy": np.clip(np.rint(whole[2] + noise), 0, 255).astype(np.uint8),
        "blurred": cv2.GaussianBlur(whole[3], (0, 0), 2.0),
        "first": whole[0],
        "second": whole[3],
    }
    return {name: write_png(folder / f"{name}.png", pixels) for name, pixels in made.items()}


def tools(page: Any, files: dict[str, Path]) -> dict[str, Callable[[], None]]:
    """Name of the picture -> what to do on the Edit tab."""

    def sketch() -> None:
        opened_picture(page, files["first"])
        page.get_by_label("Sketch", exact=True).check()
        page.wait_for_selector(".lcm-paper[data-tool=sketch]")
        page.click(".lcm-palette button[title='#2f7d32']")
        stroke(page, (0.15, 0.85), (0.2, 0.6), (0.25, 0.85))
        page.click(".lcm-palette button[title='#e4572e']")
        stroke(page, (0.75, 0.25), (0.76, 0.26))
        applied(page, "Sketch", "sunset, sea, sand, a few pine trees")

    def of(name: str, title: str, prompt: str = "") -> Callable[[], None]:
        def act() -> None:
            opened_picture(page, files[name])
            applied(page, title, prompt)

        return act

    def inpaint() -> None:
        opened_picture(page, files["first"])
        page.locator(".lcm-brushes input[type=range]").fill("90")
        left, right, levels = 0.4, 0.74, (0.47, 0.56, 0.65, 0.74)
        ends = [(x, y) for i, y in enumerate(levels) for x in (left, right)[:: (-1) ** i]]
        stroke(page, *ends)
        applied(page, "Repaint", "day, many clouds, sand, one palm tree", "#edit-vary")

    def morph() -> None:
        opened_picture(page, files["first"])
        page.get_by_label("Morph", exact=True).check()  # it alone has a second picture
        opened_picture(page, files["second"], "second")
        applied(page, "Morph")

    return {
        "inpaint": inpaint,
        "outpaint": of("first", "Widen", "day, a few clouds, sand, sea"),
        "colorize": of("grey", "Colour", "day, autumn field, lake, snowy mountains"),
        "superres": of("small", "Enlarge", "day, sand, red house, one palm tree"),
        "denoise": of("noisy", "Denoise"),
        "deblur": of("blurred", "Deblur"),
        "sketch": sketch,
        "interpolate": morph,
    }


def edits(browser: Any, url: str, out: Path) -> None:
    page = opened(browser, url, viewport={"width": 1360, "height": 1180}, color_scheme="light")
    page.get_by_role("tab", name="Edit").click()
    page.wait_for_selector("#edit-open-picture")
    page.uncheck("#edit-randomize input")
    with tempfile.TemporaryDirectory() as folder:
        for name, act in tools(page, inputs(Path(folder))).items():
            act()
            page.mouse.move(5, 5)
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=out / f"edit-{name}.png")
    page.click(".lcm-theme")
    page.wait_for_timeout(900)
    page.screenshot(path=out / "edit-dark.png")


def distil(browser: Any, url: str, out: Path) -> None:
    page = opened(browser, url, viewport={"width": 1360, "height": 920}, color_scheme="light")
    page.get_by_role("tab", name="Distil").click()
    page.wait_for_timeout(4000)
    if page.locator(".distil-empty").count():
        page.screenshot(path=out / "distil-light.png")
        return
    page.set_viewport_size({"width": 1360, "height": 1340})  # a studio that has a run to show
    film = page.locator(".distil-film")
    if film.count():
        film.evaluate("film => film.scrollTo(film.scrollWidth, 0)")
    page.wait_for_timeout(2500)
    page.screenshot(path=out / "distil-run.png")


def create(browser: Any, url: str, out: Path) -> None:
    page = opened(browser, url, viewport={"width": 1360, "height": 920}, color_scheme="light")
    page.screenshot(path=out / "empty-light.png")
    for prompt in (
        "dawn, many clouds, sea, sailboat, sand",
        "night, stars, moon on the right, hills, lake",
    ):
        run(page, prompt)
    run(page, "sunset, sun on the left, snowy mountains, lake, a few pine trees")
    page.screenshot(path=out / "create-light.png")
    images(page, 4)
    run(page, "dawn, a few clouds, snowy mountains, sea, sand, a few palm trees")
    page.click(".lcm-theme")
    page.wait_for_timeout(900)
    page.screenshot(path=out / "create-dark.png")
    page.mouse.move(5, 5)
    images(page, 1)
    run(page, "sunset, sun in the middle, hills, sea, sailboat", "#create-compare")
    page.screenshot(path=out / "compare-dark.png")


def phone(browser: Any, url: str, out: Path) -> None:
    page = opened(
        browser,
        url,
        viewport={"width": 390, "height": 844},
        color_scheme="light",
        device_scale_factor=2,
    )
    run(page, "sunset, snowy mountains, lake, a few pine trees")
    page.screenshot(path=out / "phone-light.png")
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit-example-2").click()
    page.wait_for_selector(".lcm-paper[data-ready]")
    page.wait_for_timeout(700)
    page.screenshot(path=out / "phone-edit.png")


def main(url: str, out: Path) -> None:
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=240_000)
        for part in (create, edits, distil, phone):
            part(browser, url, out)
        browser.close()


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860/",
        Path(sys.argv[2]) if len(sys.argv) > 2 else OUT,
    )
