"""The page on a plain diffusion model, whose 20 steps are more than the slider's eight; every way out of a request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from playwright.sync_api import expect

from lcm_studio.images import read_settings, write_png
from tests import tiny
from tests.web.conftest import Server
from tests.web.create.test_browser import NOTE, PROMPT, drop, number, phase, sources, value

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tiny.save("sd-plain", tmp_path_factory.mktemp("sd") / "tiny-sd")
    server = Server("--model", str(folder), log=folder.parent / "log")
    server.wait(lambda said: said["status"] == "ready")
    yield server
    server.close()


def test_a_plain_model_generates_with_its_own_steps(open_page: Open) -> None:
    page = open_page()
    assert value(page, "steps") == "20"
    assert page.is_checked("#create-more input")
    number(page, "width", 64)
    number(page, "height", 64)
    page.click("#create-go")
    phase(page, "done")
    page.uncheck("#create-more input")
    page.wait_for_function("document.querySelector('#create-steps input[type=range]').max === '8'")
    assert value(page, "steps") == "8"
    # what is typed is brought to what the slider has
    number(page, "steps", 200)
    assert value(page, "steps") == "8"
    expect(page.locator("#create-steps")).to_contain_text("200 became 8: it goes from 1 to 8.")
    number(page, "width", 61)
    assert value(page, "width") == "64"
    width = page.locator("#create-width")
    expect(width).to_contain_text(re.compile("61 became 64: it goes in steps of [0-9]+ from 16."))
    number(page, "width", 48)
    expect(width).not_to_contain_text("became")


def test_foreign_settings_are_brought_into_range_and_said_so(
    open_page: Open, tmp_path: Path
) -> None:
    page = open_page()
    said = {
        "prompt": "b lake", "negative": "blurry", "steps": 150, "guidance": 99.0, "seed": 2588447414007137651,
        "count": 1, "model": "dreamshaper_8", "width": 60, "height": 67,
    }  # fmt: skip
    path = write_png(tmp_path / "a.png", np.full((8, 8, 3), 90, np.uint8), said)
    drop(page, "a.png", path.read_bytes())
    note = page.locator(NOTE)
    expect(note).to_contain_text("Settings restored. dreamshaper_8 is not at hand")
    expect(note).to_contain_text("150 is out of range for steps; 50 is set.")
    expect(note).to_contain_text("60 x 67 is no size for")
    expect(note).to_contain_text("is larger than 9007199254740991")
    assert (value(page, "steps"), value(page, "width"), value(page, "height")) == ("50", "64", "64")
    page.wait_for_timeout(1200)  # the check of the new form comes after a third of a second
    expect(note).to_contain_text("dreamshaper_8 is not at hand")
    number(page, "steps", 2)
    page.click("#create-go")
    phase(page, "done")


def test_a_sampler_shows_its_settings_and_a_picture_brings_them_back(open_page: Open) -> None:
    page = open_page()
    page.get_by_text("More: decoder, LoRAs, sampler, timesteps").click()

    def choose(sampler: str) -> None:
        page.click("#create-sampler input")
        page.get_by_role("option", name=f"({sampler})").click()

    def shown() -> list[str]:
        return list(
            page.eval_on_selector_all(
                "[id^=create-sampler-]",
                "all => all.filter(n => n.offsetHeight).map(n => n.id.slice(15))",
            )
        )

    assert shown() == []
    choose("pc")
    page.wait_for_selector("#create-sampler-snr input")
    assert shown() == ["spacing", "snr", "corrector-steps", "predictor"]
    assert "at least 3" in page.inner_text("#create-sampler")
    number(page, "sampler-snr", 99)
    page.wait_for_selector(
        f"{NOTE} .lcm-error >> text=snr=99 is not usable; use a number from 0.0001 to 2"
    )
    for name, figure in {
        "sampler-snr": 0.3,
        "sampler-corrector-steps": 2,
        "steps": 9,
        "width": 64,
        "height": 64,
    }.items():
        number(page, name, figure)
    page.click("#create-go")
    phase(page, "done")
    page.wait_for_function(
        "document.querySelector('#create-stage .lcm-picture img').src.includes('/studio/picture/')"
    )
    with urlopen(sources(page)[0]) as answer:
        picture = answer.read()
    said = read_settings(picture)
    assert said is not None and said["sampler"] == "pc"
    assert said["sampler_settings"] == {
        "snr": 0.3, "corrector_steps": 2, "predictor": "ancestral", "spacing": "model",
    }  # fmt: skip
    choose("rk45")
    page.wait_for_selector("#create-sampler-tolerance input")
    assert shown() == ["tolerance"]
    drop(page, "pc.png", picture)
    page.wait_for_selector(f"{NOTE} >> text=Settings restored")
    page.wait_for_selector("#create-sampler-snr input")
    assert (value(page, "sampler-snr"), value(page, "sampler-corrector-steps")) == ("0.3", "2")
    assert shown() == ["spacing", "snr", "corrector-steps", "predictor"]


def test_what_is_refused_says_so_once_and_ends(open_page: Open) -> None:
    page = open_page()
    held: list[Any] = []
    page.route("**/studio/check", lambda route: held.append(route))
    page.uncheck("#create-randomize input")
    page.evaluate(  # as a script or a damaged state would: past what the field itself allows
        """() => { const box = document.querySelector('#create-seed input');
            Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(box, '-3');
            box.dispatchEvent(new Event('input', {bubbles: true})); }"""
    )
    while not any("-3" in (route.request.post_data or "") for route in held):
        page.wait_for_timeout(50)
    page.click("#create-go")
    phase(page, "failed")
    expect(page.locator(NOTE)).to_contain_text("seed=-3 is out of range")
    for route in held:  # the form's check is answered last, and finds the same
        with page.expect_response("**/studio/check"):
            route.continue_()
    page.wait_for_timeout(100)
    expect(page.locator(f"{NOTE} .lcm-error")).to_have_count(1)
    assert page.locator(".toast-body").count() == 0, "a second time, over the controls"


def test_a_seed_of_twenty_digits_is_refused_and_the_next_one_runs(open_page: Open) -> None:
    page = open_page()
    page.uncheck("#create-randomize input")
    number(page, "seed", 99999999999999999999)
    page.click("#create-go")
    phase(page, "failed")
    expect(page.locator(NOTE)).to_contain_text("is out of range")
    number(page, "seed", 7)
    page.click("#create-go")
    phase(page, "done")


def test_escape_closes_a_list_and_stops_nothing(open_page: Open) -> None:
    page = open_page()
    number(page, "steps", 50)
    number(page, "count", 16)
    page.fill(PROMPT, "night")
    page.click("#create-go")
    page.wait_for_function(
        "/Step [1-9]/.test(document.querySelector('#create-stage .lcm-progress').textContent)"
    )
    page.locator("#create-model input").click()
    page.locator("ul[role=listbox]").wait_for()
    page.keyboard.press("Escape")
    page.locator("ul[role=listbox]").wait_for(state="detached")
    page.wait_for_timeout(300)
    assert page.get_attribute("#create-stage .lcm-stage", "data-phase") == "running"
    page.locator("#create-steps").click(position={"x": 2, "y": 2})
    page.keyboard.press("Escape")
    phase(page, "stopped")
    # what there was of the pictures is kept like any picture
    assert len(sources(page)) == 16
    links = page.locator("#create-stage a[download]")
    expect(links).to_have_count(16)
    expect(page.locator("#create-history .lcm-thumb")).to_have_count(1)
    assert page.request.get(links.first.get_attribute("href")).ok


def test_a_request_ends_on_the_page_when_the_studio_goes_away(
    chromium: Any, server: Server, tmp_path: Path
) -> None:
    """And again when it comes back as another one."""
    page = chromium.new_page()
    page.goto(server.url, wait_until="commit")
    page.wait_for_selector("html[data-studio=ready]")
    page.check("#create-more input")
    number(page, "steps", 50)
    number(page, "count", 16)
    page.click("#create-go")
    page.wait_for_function(
        "/Step [1-9]/.test(document.querySelector('#create-stage .lcm-progress').textContent)"
    )
    server.process.kill()
    phase(page, "failed")
    expect(page.locator(NOTE)).to_contain_text("so this request is lost")
    expect(page.locator(f"{NOTE} .lcm-error")).to_have_count(1)
    assert page.locator("#create-stage .lcm-progress").is_hidden()
    page.close()
