"""The Lab in Chromium with the bundled models: few visits, each with a story."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lcm_studio.images import read_image

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = sorted((ROOT / "assets" / "examples").glob("*.png"))[0]
Open = Callable[..., Any]


def lab(page: Any) -> None:
    page.get_by_role("tab", name="Lab").click()
    page.wait_for_selector(".lab-split[data-ready=moons]")


def pixels(page: Any, selector: str) -> str:
    """A mark of what a canvas shows."""
    return str(page.eval_on_selector(selector, "c => c.toDataURL()"))


def runs(page: Any, count: int) -> None:
    page.wait_for_selector(f".lab-split[data-runs='{count}']")


def test_the_plane_is_drawn_on_learned_and_sampled(open_page: Open) -> None:
    asked: list[str] = []
    page = open_page(viewport={"width": 1400, "height": 900})
    page.on("request", lambda r: asked.append(r.url))
    assert (
        page.evaluate(
            "performance.getEntriesByType('resource').filter(e => e.name.includes('/lab/')).length"
        )
        == 0
    )
    lab(page)
    assert any("/lab/plane/atlas" in url for url in asked)
    sheet, player = (
        page.locator(name).bounding_box() for name in (".lab-panels canvas", ".lab-player")
    )
    assert sheet["y"] + sheet["height"] <= player["y"], "the player covers nothing of the plane"
    # the slider moves noise and arrows
    page.wait_for_function("document.querySelector('.lab-theatre').dataset.frames > 0")
    before = pixels(page, ".lab-panel canvas")
    page.locator(".lab-time").focus()
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelector('.lab-readout').textContent.includes('5.0')")
    assert pixels(page, ".lab-panel canvas") != before
    # draw two strokes: they are the data now
    page.click("#lab-draw")
    box = page.locator(".lab-pad").bounding_box()
    for x in (0.25, 0.75):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + 0.2 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + x * box["width"], box["y"] + 0.8 * box["height"], steps=6)
        page.mouse.up()
    page.wait_for_selector(".lab-split[data-ready=drawn]")
    # a few samplers side by side, played
    page.fill("input[aria-label=Particles]", "300")
    page.get_by_role("button", name="Orders of solvers").click()
    runs(page, 1)
    assert page.locator(".lab-panel[data-sampler]").count() == 4
    results = page.locator(".lab-panels .lab-result").all_inner_texts()
    assert all("from the exact ends" in text for text in results), results
    page.wait_for_function("Number(document.querySelector('.lab-time').value) > 300")
    page.click("#lab-play")  # pause
    page.get_by_role("button", name="One step on").click()
    at = page.input_value(".lab-time")
    page.get_by_role("button", name="One step back").click()
    assert page.input_value(".lab-time") != at
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV", exact=True).click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert sum(row.startswith("ode-heun,9,") for row in rows) == 300
    # particles that can be told apart lie on the two strokes
    xs = [float(row.split(",")[3]) for row in rows if row.startswith("rk45,")]
    assert {x > 0 for x in xs} == {True, False} and sum(
        abs(abs(x) - 0.4) < 0.25 for x in xs
    ) > 0.9 * len(xs)
    # the settings are in the address
    page.get_by_role("button", name="Link").click()
    page.wait_for_function("location.hash.includes('ode-heun')")
    assert "data=drawn" in page.evaluate("location.hash") and "n=300" in page.evaluate(
        "location.hash"
    )
    # wrong input is refused beside the button
    page.fill("input[aria-label=Particles]", "1")
    page.fill("input[aria-label=Evaluations] >> nth=0", "0")
    page.press("input[aria-label=Evaluations] >> nth=0", "Tab")
    page.click("#lab-go")
    page.wait_for_selector(".lab-card .lcm-error >> text=evaluations=0")


def test_networks_learn_on_the_plane_and_are_used(open_page: Open) -> None:
    page = open_page(viewport={"width": 1400, "height": 1000})
    lab(page)
    page.click("#lab-train-score")
    page.wait_for_function(
        "Number(document.querySelector('[data-stage=score]').dataset.error) < 0.35"
    )
    assert page.locator("#lab-train-score").inner_text() == "Stop"
    page.click("#lab-train-score")  # what was learned stays
    page.wait_for_function("!document.querySelector('#lab-train-cd').disabled")
    page.fill("input[aria-label='Training steps']", "300")
    page.click("#lab-train-cd")
    page.wait_for_function("Number(document.querySelector('[data-stage=cd]').dataset.error) > 0")
    first = float(page.get_attribute("[data-stage=cd]", "data-error"))
    page.wait_for_function("document.querySelector('#lab-train-cd').textContent === 'Train again'")
    assert float(page.get_attribute("[data-stage=cd]", "data-error")) < max(first, 0.2)
    page.wait_for_function("document.querySelectorAll('.lcm-plot canvas').length === 3")
    assert page.get_attribute(".lab-map", "data-map") == "cd"
    page.get_by_role("button", name="One step, two, four").click()
    runs(page, 1)
    assert "CD network" in page.locator(".lab-panels .lab-count").first.inner_text()
    assert float(page.locator(".lab-panels .lab-result b").first.inner_text()) < 0.2


def test_a_link_opens_pictures_side_by_side_and_along_one_path(
    open_page: Open, server: Any
) -> None:
    page = open_page(viewport={"width": 1400, "height": 1000})
    systems = "&".join(
        f"s={row}"
        for row in ("scenery-teacher|ode-euler|3", "scenery-lcm|consistency|2", "scenery-lcm|sde|4")
    )
    page.goto(
        f"{server.url}#lab/bench=pictures&view=compare&prompt=dawn%2C+sea&seed=5&sweep=2,3&{systems}"
    )
    page.reload()
    page.wait_for_selector(".lab-split[data-view=compare][data-ready]")
    assert page.input_value("#lab-prompt") == "dawn, sea"
    assert page.input_value("input[aria-label='Evaluations of the sweep']") == "2,3"
    stored = json.loads((ROOT / "docs" / "results" / "samplers.json").read_text())
    page.wait_for_selector(f".lab-quality[data-points='{len(stored['rows'])}']")
    assert f"over {stored['captions']} captions" in page.inner_text(".lab-quality")
    page.click("#lab-pictures-go")
    page.wait_for_function("document.querySelectorAll('.lab-final img').length === 2")
    page.wait_for_function("!document.querySelector('#lab-pictures-go').disabled")
    words = page.locator(".lab-final figcaption").all_inner_texts()
    assert (
        "3 evaluations" in words[0]
        and "from the ODE's end" in words[0]
        and "2 evaluations" in words[1]
    )
    assert "consistency model" in words[2], "a sampler that does not fit says why, the others go on"
    assert page.locator(".lab-strip").first.locator("img").count() == 6
    assert int(page.get_attribute(".lab-quality", "data-points") or 0) == 2
    with page.expect_download() as download:
        page.get_by_role("button", name="GIF", exact=True).click()
    assert Path(download.value.path()).read_bytes()[:4] == b"GIF8"
    page.fill(".lab-card input[type=text]", "4, none")
    page.click("#lab-sweep")
    page.wait_for_selector(".lab-note .lcm-error >> text=whole numbers")
    page.get_by_role("button", name="Self-consistency").click()
    page.fill("input[aria-label='Evaluations of the path']", "5")
    page.fill("input[aria-label='Levels shown']", "3")
    page.click("#lab-trace-go")
    page.wait_for_selector(".lab-view[data-points]")
    assert page.locator(".lab-film .lab-strip img").count() == 3 * int(
        page.get_attribute(".lab-view[data-points]", "data-points")
    )
    with page.expect_download() as download:
        page.get_by_role("button", name="PNG", exact=True).click()
    assert read_image(Path(download.value.path()).read_bytes()).shape[1] > 3 * 256
    page.get_by_role("button", name="Link").click()
    page.wait_for_function("location.hash.includes('view=trace')")
    assert "points=3" in page.evaluate("location.hash")
    page.get_by_role("button", name="There and back", exact=True).first.click()
    page.click("#lab-invert-go")
    page.wait_for_selector(".lab-note .lcm-error >> text=Choose a picture first")
    page.set_input_files("#lab-invert-file", EXAMPLE)
    page.fill("input[aria-label='Evaluations each way']", "5")
    page.click("#lab-invert-go")
    page.wait_for_selector(".lab-view[data-psnr]")
    assert page.locator(".lab-final img").count() == 3
    psnr = json.loads(page.get_attribute(".lab-view[data-psnr]", "data-psnr"))
    assert psnr > 10
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV", exact=True).click()
    names, numbers = (
        row.split(",") for row in Path(download.value.path()).read_text().splitlines()
    )
    row = dict(zip(names[-9:], numbers[-9:], strict=True))  # the prompt has commas of its own
    assert float(row["psnr"]) == psnr and row["solver"] == "ode-heun"
