"""The guided example, shortened, in the real page: from a folder of pictures to the opened model."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from lcm_studio.jobs.identity import signal_group
from lcm_studio.jobs.service import Jobs
from training.scenery.dataset import write_folder

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]
expect.set_options(timeout=240_000)
SHORT = "log_every: 1\ncheckpoint_every: 3\nvalidate_every: 3\n"


class App:
    """The studio as a user starts it; may be killed and started again on the same port."""

    def __init__(self, home: Path, pictures: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.home, self.pictures = home, pictures
        self.url = f"http://127.0.0.1:{self.port}/"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [
            sys.executable,
            "app.py",
            "--port",
            str(self.port),
            "--data-dir",
            str(self.pictures),
        ]
        env = os.environ | {"LCM_STUDIO_HOME": str(self.home)}
        with (self.home / "app.log").open("ab") as log:
            self.process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=log, stderr=log)
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(self.url, timeout=5).read()
                return
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < end, (self.home / "app.log").read_text()
                time.sleep(0.3)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    home = tmp_path / "home"
    home.mkdir()
    pictures = write_folder(tmp_path / "pictures" / "scenes", 24, seed=5)
    running = App(home, pictures.parent)
    running.start()
    yield running
    running.kill()
    for job in Jobs(home / "jobs", awake=False).list():
        if job.identity is not None:
            signal_group(job.identity, 9)


@pytest.fixture
def page(app: App, chromium: Browser) -> Iterator[Page]:
    opened = chromium.new_page(viewport={"width": 1440, "height": 1100})
    opened.set_default_timeout(60_000)
    yield opened
    opened.close()


def distil(page: Page, app: App) -> None:
    page.goto(app.url)
    page.get_by_role("tab", name="Distil").click()


def choose(page: Page, name: str, value: str) -> None:
    box = page.locator(f"#distil-{name} input").first
    box.click()
    box.fill(value)
    box.press("Enter")
    box.press("Escape")
    box.blur()
    page.wait_for_timeout(500)


def test_from_a_folder_to_the_opened_model(app: App, page: Page) -> None:
    distil(page, app)
    choose(page, "folder", str(app.pictures / "scenes"))
    page.locator("#distil-examine").click()
    report = page.locator("#distil-report")
    expect(report).to_contain_text("24 of 24 pictures can be used, 24 have a caption")
    expect(report).to_contain_text("Ready to train on.")
    expect(page.locator("#distil-sheet img")).to_be_visible()

    choose(page, "teacher", "scenery-teacher")
    page.locator("#distil-name input, #distil-name textarea").fill("Shortened example")
    page.locator("#distil-steps input, #distil-steps textarea").fill("6")
    page.locator("#distil-batch input, #distil-batch textarea").fill("4")
    page.locator("#distil-size input, #distil-size textarea").fill("128")
    page.get_by_role("button", name="All further settings").click()
    page.locator("#distil-more .cm-content").fill(SHORT)
    page.locator("#distil-plan").click()
    planned = page.locator("#distil-planned")
    expect(planned).to_contain_text("6 steps of 4 pictures at 128 px", timeout=240_000)
    expect(planned).to_contain_text("24 pictures")

    page.locator("#distil-go").click()
    head = page.locator("#distil-head .distil-head")
    expect(head).to_contain_text("Shortened example")
    expect(head).to_have_attribute("data-state", re.compile("starting|running"), timeout=240_000)

    app.kill()  # as by kill -9, in the middle of the run
    app.start()
    distil(page, app)  # the page is new as well
    expect(head).to_contain_text("Shortened example")
    expect(head).to_have_attribute("data-state", "succeeded", timeout=300_000)
    assert len(Jobs(app.home / "jobs", awake=False).list()) == 1
    expect(page.locator("#distil-head svg").first).to_be_visible()
    frames = page.locator("#distil-strip img")
    assert frames.count() >= 2
    page.wait_for_function(
        "[...document.querySelectorAll('#distil-strip img')].every(i => i.naturalWidth > 100)"
    )
    assert page.locator("#distil-outcome a").get_attribute("href").endswith("/output.zip")

    job = Jobs(app.home / "jobs", awake=False).list()[0]
    output = str(app.home / "jobs" / job.id / "output")
    page.locator("#distil-open").click()
    expect(page.locator("#distil-opened textarea, #distil-opened input")).to_have_value(output)
    expect(page.locator("#create-model input").first).to_have_value(output)
    page.locator("#create-prompt textarea").fill("sunset, lake")
    page.locator("#create-go").click()
    expect(page.locator("#create-stage .lcm-frame[data-final='1'] img").first).to_be_visible(
        timeout=120_000
    )


def test_what_cannot_start_is_one_sentence_and_queues_nothing(app: App, page: Page) -> None:
    distil(page, app)
    note = page.locator("#distil-note")
    page.locator("#distil-go").click()
    expect(note).to_contain_text("choose a folder of pictures first")
    choose(page, "folder", "/etc")
    page.locator("#distil-examine").click()
    expect(note).to_contain_text("outside the folders that jobs may read")
    choose(page, "folder", str(app.pictures / ".." / ".."))
    page.locator("#distil-go").click()
    expect(note).to_contain_text("--data-dir")
    assert Jobs(app.home / "jobs", awake=False).list() == ()
