"""A task is one file, and a setting of a picture one field: those that the page has never heard of are used on it, by the
API, and restored from their pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lcm_studio.images import read_settings
from tests.web.conftest import Server, opening
from tests.web.create.test_browser import drop, generate, number
from tests.web.edit.test_browser import EXAMPLES, put, run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("made-up") / "log"
    server = Server("--model", "scenery-cm", log=log, script="tests/web/made_up_app.py")
    try:
        server.wait(lambda said: said["status"] in ("ready", "failed"))
        yield server
    finally:
        server.close()


@pytest.fixture
def page(chromium: Any, server: Server) -> Iterator[Any]:
    pages = opening(chromium, server)
    open_page: Callable[..., Any] = next(pages)
    page = open_page(viewport={"width": 1400, "height": 1200})
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit-example-1").click()
    page.wait_for_selector(".lcm-paper[data-ready]")
    yield page
    next(pages, None)


def test_a_made_up_task_is_on_the_page_and_in_its_picture(page: Any, tmp_path: Path) -> None:
    page.get_by_label("Ripples", exact=True).check()
    page.wait_for_selector(".lcm-paper[data-tool=ripples]", state="attached")
    assert "Waves on water." in page.locator("#edit-tool").inner_text()
    for name in ("height", "rings", "colour", "label", "mirrored", "at"):
        page.locator(f"#edit-{name}").wait_for(state="visible")
    page.locator("#edit-grow").wait_for(state="hidden")  # it has no mask
    put(page, "height", 1.5)
    put(page, "rings", 4)
    page.check("#edit-mirrored input")
    page.fill("#edit-label textarea, #edit-label input", "blue lake")
    page.fill("#edit-at textarea, #edit-at input", "0.2, 7")
    page.locator("#edit-go").click()
    page.wait_for_function(
        "() => document.querySelector('#edit-note')?.innerText.includes('at=0.2, 7 is not usable')"
    )
    page.fill("#edit-at textarea, #edit-at input", "0.2, 0.8")
    picture = run(page)[0]
    options = (read_settings(picture) or {})["options"]
    wanted = {"height": 1.5, "rings": 4, "label": "blue lake", "mirrored": True, "at": ["0.2", "0.8"]}  # fmt: skip
    assert {name: options[name] for name in wanted} == wanted

    page.get_by_label("Repaint", exact=True).check()
    page.locator("#edit-rings").wait_for(state="hidden")
    drop(page, "ripples.png", picture)
    page.locator("#edit-rings").wait_for(state="visible")
    page.wait_for_function(
        "() => document.querySelector('#edit-rings input[type=number]').value === '4'"
        " && document.querySelector('#edit-label textarea, #edit-label input').value === 'blue lake'"
    )
    assert page.is_checked("#edit-mirrored input")
    assert page.input_value("#edit-at textarea, #edit-at input") == "0.2, 0.8"


def test_it_is_an_endpoint_of_its_own(server: Server) -> None:
    from gradio_client import Client, handle_file

    client = Client(server.url, verbose=False)
    endpoint = client.view_api(return_format="dict")["named_endpoints"]["/edit_ripples"]
    assert {"height", "rings", "colour", "label", "mirrored", "at"} <= {
        p["parameter_name"] for p in endpoint["parameters"]
    }
    files, _, settings = client.predict(
        handle_file(EXAMPLES[0]), rings=5, steps=1, seed=3, api_name="/edit_ripples"
    )
    assert len(files) == 1 and settings["options"] == {"rings": 5}


def test_a_made_up_setting_is_on_the_page_and_in_its_picture(page: Any) -> None:
    page.get_by_role("tab", name="Create").click()
    page.get_by_text("More: decoder").click()
    assert "Stars on the water." in page.locator("#create-sparkle").inner_text()
    number(page, "sparkle", 7)
    generate(page, "", steps=1, count=1)
    picture = page.request.get(
        page.locator("#create-stage a[download]").first.get_attribute("href")
    ).body()
    assert (read_settings(picture) or {})["sparkle"] == 7
    number(page, "sparkle", 1)
    drop(page, "sparkle.png", picture)
    page.wait_for_function(
        "() => document.querySelector('#create-sparkle input[type=number]').value === '7'"
    )


def test_a_made_up_setting_is_a_parameter(server: Server) -> None:
    from gradio_client import Client

    client = Client(server.url, verbose=False)
    endpoint = client.view_api(return_format="dict")["named_endpoints"]["/generate"]
    assert {"sparkle", "eta", "clip_skip"} <= {p["parameter_name"] for p in endpoint["parameters"]}
    _, settings = client.predict("", steps=1, seed=3, sparkle=5, api_name="/generate")
    assert settings["sparkle"] == 5
    with pytest.raises(Exception, match="sparkle=12 is not usable; use a whole number from 0 to 9"):
        client.predict("", steps=1, seed=3, sparkle=12, api_name="/generate")
