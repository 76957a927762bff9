"""The guided example, shortened, in the real page: from a folder of pictures to the opened model."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from lcm_studio.jobs.identity import signal_group
from lcm_studio.jobs.records import State
from lcm_studio.jobs.service import Jobs
from lcm_studio.web.distil import values as form
from tests import tiny
from training.scenery.dataset import write_folder

ROOT = Path(__file__).resolve().parents[3]
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

    def kill_all(self) -> None:
        """The studio, and the jobs that outlive it."""
        self.kill()
        for job in Jobs(self.home / "jobs", awake=False).list():
            if job.identity is not None:
                signal_group(job.identity, 9)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    home = tmp_path / "home"
    home.mkdir()
    pictures = write_folder(tmp_path / "pictures" / "scenes", 24, seed=5)
    running = App(home, pictures.parent)
    running.start()
    yield running
    running.kill_all()


@pytest.fixture
def page(app: App, chromium: Browser) -> Iterator[Page]:
    opened = chromium.new_page(viewport={"width": 1440, "height": 1100})
    opened.set_default_timeout(60_000)
    yield opened
    opened.close()


def distil(page: Page, app: App) -> None:
    # as every other page of the tests: a studio that has just come up beside a training answers slowly
    page.goto(app.url, wait_until="commit")
    page.wait_for_selector("html[data-studio=ready]", timeout=240_000)
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
    field(page, "prompts").fill("night, lake")  # one column: the teacher's sheet takes 25 steps
    page.get_by_role("button", name="All further settings").click()
    page.locator("#distil-more .cm-content").fill(SHORT)
    page.locator("#distil-plan").click()
    planned = page.locator("#distil-planned")
    expect(planned).to_contain_text("6 steps of 4 pictures at 128 px", timeout=240_000)
    expect(planned).to_contain_text("24 pictures")

    page.locator("#distil-go").click()
    head = page.locator("#distil-head .distil-head")
    expect(head).to_contain_text("Shortened example")
    expect(report).to_be_hidden()  # the run takes its place
    expect(planned).not_to_contain_text("6 steps")  # of a plan, too
    expect(head).to_have_attribute("data-state", re.compile("starting|running"), timeout=240_000)

    app.kill()  # as by kill -9, in the middle of the run
    page.goto("about:blank")  # or it comes back by itself, in the middle of the next line
    app.start()
    distil(page, app)  # the page is new as well
    expect(head).to_contain_text("Shortened example")
    expect(head).to_have_attribute("data-state", "succeeded", timeout=300_000)
    assert len(Jobs(app.home / "jobs", awake=False).list()) == 1
    expect(page.locator("#distil-curves canvas").first).to_be_visible()
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
    expect(page.locator(".lcm-pill")).to_contain_text("Shortened example")
    # the teacher's words and examples
    expect(page.locator("#create-chips")).to_contain_text("night, stars, moon on the right, hills")
    page.locator("#create-prompt textarea").fill("sunset, lake")
    page.locator("#create-go").click()
    expect(page.locator("#create-stage .lcm-frame[data-final='1'] img").first).to_be_visible(
        timeout=120_000
    )


def test_what_cannot_start_is_one_sentence_and_queues_nothing(shop: App, shown: Page) -> None:
    app, page = shop, shown
    jobs = Jobs(app.home / "jobs", awake=False)
    before = jobs.list()
    note = page.locator("#distil-note")
    page.locator("#distil-go").click()
    expect(note).to_contain_text("Choose a folder of pictures first")
    choose(page, "folder", "/etc")
    expect(note.locator(".lcm-note")).to_have_count(0)  # a folder has been chosen
    page.locator("#distil-examine").click()
    expect(page.locator("#distil-data-note")).to_contain_text(
        "outside the folders that jobs may read"
    )
    expect(page.locator("#distil-data-note")).to_contain_text("it belongs to the system")
    choose(page, "folder", str(app.pictures / ".." / ".."))
    page.locator("#distil-go").click()
    expect(note).to_contain_text("answer the question under Pictures")
    expect(note.locator(".lcm-error")).to_have_count(0)
    expect(page.locator("#distil-data-note .lcm-note")).to_have_count(0)
    expect(page.locator("#distil-allow")).to_be_visible()
    choose(page, "folder", str(app.pictures))
    expect(page.locator("#distil-allow")).to_be_hidden()
    expect(note.locator(".lcm-note")).to_have_count(0)
    page.get_by_role("button", name="All further settings").click()
    page.locator("#distil-more .cm-content").fill("data: {path: /etc}")
    page.locator("#distil-go").click()
    expect(note).to_contain_text("/etc is outside the folders that jobs may read")
    assert jobs.list() == before


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The studio with one finished run of tiny networks, for what needs no training."""
    root = tmp_path_factory.mktemp("shop")
    home = root / "home"
    home.mkdir()
    pictures = root / "pictures" / "plain"
    pictures.mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (64, 64), (60 * i, 90, 120)).save(pictures / f"{i}.png")
        (pictures / f"{i}.txt").write_text("sunset lake")
    finished_job(home, teacher=tiny.save("sd-plain", root / "teacher"), data=pictures)
    running = App(home, pictures.parent)
    running.start()
    yield running
    running.kill_all()


def finished_job(home: Path, *, teacher: Path, data: Path) -> None:
    """A run that has succeeded, with a model as its output, as the trainer leaves it."""
    jobs = Jobs(home / "jobs", awake=False)
    config = {
        "teacher": str(teacher), "steps": 5, "batch_size": 2, "resolution": 64, "learning_rate": 0.0001,
        "target_ema": 0.9, "validation_prompts": ["sunset lake", "a <b>red</b> house"], "data": {"kind": "folder", "path": str(data), "cache": str(home / "cache")},
    }  # fmt: skip
    job = jobs.submit("lcd", config, name="Tiny and finished")
    tiny.save("lcm", jobs.folder(job.id).output)
    rows = [
        {"event": "step", "step": 10 * i, "loss": 2 + (-1) ** i, "lr": 1e-4 * i}
        for i in range(1, 41)
    ]
    jobs.folder(job.id).events.write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples = jobs.folder(job.id).samples
    samples.mkdir(parents=True, exist_ok=True)
    for step in (10, 20, 30):
        Image.new("RGB", (200 + step, 100), (step, 90, 120)).save(samples / f"step-{step:08d}.png")
    for state in (State.STARTING, State.SUCCEEDED):
        assert jobs.store.move(jobs.get(job.id), state)


@pytest.fixture
def shown(shop: App, chromium: Browser) -> Iterator[Page]:
    opened = chromium.new_page(viewport={"width": 1440, "height": 1100})
    opened.set_default_timeout(60_000)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    distil(opened, shop)
    # the run that is shown first is the latest, which another test may have started
    opened.locator("#distil-picker input").click()
    opened.get_by_role("option", name="Tiny and finished").click()
    expect(opened.locator("#distil-head .distil-head")).to_contain_text("Tiny and finished")
    yield opened
    opened.close()
    assert not errors, errors


def field(page: Page, name: str) -> Locator:
    return page.locator(f"#distil-{name} input, #distil-{name} textarea").first


def test_one_click_lets_runs_read_a_folder(shop: App, shown: Page, tmp_path: Path) -> None:
    Image.new("RGB", (80, 64), (0, 80, 40)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a green wall")
    choose(shown, "folder", str(tmp_path))
    shown.locator("#distil-examine").click()
    words, button = shown.locator("#distil-allow-words"), shown.locator("#distil-allow")
    expect(words).to_contain_text(f"Runs may not read {tmp_path} yet")
    expect(words).to_contain_text("until the studio ends")
    expect(shown.locator("#distil-data-note .lcm-note")).to_have_count(
        0
    )  # it is a question, and no error
    button.click()
    report = shown.locator("#distil-report")
    expect(report).to_contain_text("1 of 1 pictures can be used, 1 have a caption")
    expect(button).to_be_hidden()


def test_the_model_of_a_run_is_called_by_its_name(shop: App, shown: Page) -> None:
    job = Jobs(shop.home / "jobs", awake=False).list()[0]
    shown.locator("#distil-open").click()
    output = str(shop.home / "jobs" / job.id / "output")
    expect(shown.locator("#create-model input").first).to_have_value(output)
    expect(shown.locator(".lcm-pill")).to_contain_text("Tiny and finished")
    expect(shown.locator("#create-about")).to_contain_text("Tiny and finished")
    shown.get_by_text("All models").click()
    chosen = shown.locator("#create-models [aria-current]")
    expect(chosen.locator("strong")).to_have_text("Tiny and finished")


def test_compare_with_the_teacher(shown: Page) -> None:
    shown.locator("#distil-compare").click()
    table = shown.locator("#distil-compared .distil-compare")
    expect(table).to_contain_text('The same words and seed: "sunset lake", seed 1')
    expect(table.locator("figcaption")).to_have_count(8)  # two models, four numbers of steps
    expect(table.locator("p")).not_to_contain_text("Making pictures")
    shown.wait_for_function(
        "[...document.querySelectorAll('#distil-compared img')].every(i => i.naturalWidth === 64)"
    )
    assert shown.locator("#distil-compared .lcm-error").count() == 0


def test_a_second_start_and_escape_are_answered(shop: App, shown: Page) -> None:
    """A press while the first is being checked gets a word; Esc on a list closes it, and stops no run."""
    jobs = Jobs(shop.home / "jobs", awake=False)
    before = len(jobs.list())
    shown.locator("#distil-duplicate").click()
    expect(shown.locator("#distil-board-note")).to_contain_text(
        "The form holds this run's settings"
    )
    field(shown, "steps").fill("100000")
    field(shown, "name").fill("Long")
    field(shown, "name").blur()
    note = shown.locator("#distil-note")
    word = note.get_by_text("The run before is still being checked")
    # the word is looked for at once: it goes with the answer to the first press
    told = shown.evaluate("""async () => {
      const go = document.getElementById("distil-go");
      go.click();
      await new Promise((next) => setTimeout(next, 50));
      go.click();
      return document.getElementById("distil-note").innerText;
    }""")
    assert "The run before is still being checked" in told
    expect(note).to_contain_text("The run is in the list")
    expect(word).to_have_count(0)
    head = shown.locator("#distil-head .distil-head")
    expect(head).to_contain_text("Long")
    assert len(jobs.list()) == before + 1
    expect(shown.locator("#distil-stop")).to_be_visible()
    box = shown.locator("#distil-preset input").first
    box.click()
    shown.locator("ul[role=listbox]").first.wait_for()
    shown.keyboard.press("Escape")
    shown.locator("body").press("Escape")
    asked: list[str] = []
    shown.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    shown.locator("#distil-stop").click()
    shown.wait_for_timeout(2500)
    assert asked and "Stop this run?" in asked[0]
    job = next(job for job in jobs.list() if job.name == "Long")
    assert job.state in (State.QUEUED, State.STARTING, State.RUNNING)
    shown.once("dialog", lambda dialog: dialog.accept())
    shown.locator("#distil-stop").click()
    expect(head).not_to_have_attribute("data-state", re.compile("queued|starting|running"))


def test_messages_are_under_the_pressed_button_and_numbers_are_the_presets(shown: Page) -> None:
    data, plan = shown.locator("#distil-data-note"), shown.locator("#distil-note")
    shown.locator("#distil-examine").click()
    expect(data).to_contain_text("Choose a folder of pictures first")
    expect(plan).not_to_contain_text("Choose a folder")
    expect(field(shown, "steps")).to_have_attribute("placeholder", "300")
    box = shown.locator("#distil-preset input").first
    box.click()
    shown.get_by_role("option", name="lcd-paper").click()
    expect(field(shown, "steps")).not_to_have_attribute("placeholder", "300")
    # and a reload loses nothing of it
    field(shown, "name").fill("Kept")
    field(shown, "steps").fill("77")
    shown.wait_for_function("(sessionStorage.getItem('lcm-form-distil') || '').includes('77')")
    shown.reload(wait_until="commit")
    expect(field(shown, "steps")).to_have_value("77")
    expect(field(shown, "name")).to_have_value("Kept")
    expect(box).to_have_value("lcd-paper")
    expect(field(shown, "size")).not_to_have_attribute("placeholder", "256")


def test_validation_pictures_are_large_and_a_slider_goes_through_the_steps(shown: Page) -> None:
    large = shown.locator("#distil-strip .distil-large")

    def shows(step: int) -> None:
        expect(large).to_contain_text(f"Step {step}")
        shown.wait_for_function(
            "width => document.querySelector('.distil-large img').naturalWidth === width",
            arg=200 + step,
        )

    shows(30)
    film = shown.locator("#distil-strip .distil-film").bounding_box()
    assert film and large.bounding_box()["width"] > 0.95 * film["width"]  # type: ignore[index]
    slider = shown.get_by_label("Step of the large pictures")
    slider.press("ArrowLeft")
    shows(20)
    shown.locator("#distil-strip .distil-film img").first.click()
    shows(10)
    expect(slider).to_have_value("0")
    assert len(shown.context.pages) == 1


def test_curves_are_read_at_the_pointer_and_smoothed_by_a_slider(shown: Page) -> None:
    curves = shown.locator("#distil-curves")
    expect(curves.locator(".lcm-chart")).to_have_count(2)
    expect(curves.locator("figcaption").first).to_have_text("Loss")
    expect(curves.locator(".lcm-plot").first).to_have_attribute(
        "aria-label", "Loss. Tiny and finished: 1 at step 10, 3 at step 400"
    )
    slider, over = shown.get_by_label("Smoothing of the curves"), curves.locator(".u-over").first
    tip = over.locator(".lcm-tip")

    def at_the_end(smoothing: str) -> str:
        slider.fill(smoothing)
        box = over.bounding_box()
        assert box
        over.hover(position={"x": box["width"] / 2, "y": box["height"] / 2})
        over.hover(position={"x": box["width"] - 2, "y": box["height"] / 2})
        expect(tip).to_contain_text("step 400")
        expect(tip).to_contain_text("Tiny and finished")
        return str(tip.locator("b").inner_text())

    assert at_the_end("0") == "3"
    assert abs(float(at_the_end("0.98")) - 2) < 0.1  # of values that are 1 and 3 in turn
    shown.mouse.move(0, 0)
    expect(tip).to_be_hidden()


def test_the_columns_of_the_sheets_have_their_prompts(shown: Page) -> None:
    rows = shown.locator("#distil-strip .distil-prompts li")
    expect(rows).to_have_text(["sunset lake", "a <b>red</b> house"])


def test_duplicate_with_changes(shop: App, shown: Page) -> None:
    shown.locator("#distil-duplicate").click()
    expect(shown.locator("#distil-board-note")).to_contain_text(
        "The form holds this run's settings"
    )
    expect(field(shown, "steps")).to_have_value("5")
    expect(field(shown, "rate")).to_have_value("0.0001")
    expect(field(shown, "prompts")).to_have_value("sunset lake\na <b>red</b> house")
    field(shown, "steps").fill("7")
    field(shown, "name").fill("Seven steps")
    field(shown, "name").blur()
    shown.locator("#distil-go").click()
    expect(shown.locator("#distil-head .distil-head")).to_contain_text("Seven steps")
    shown.locator("#distil-beside input").click()
    shown.get_by_role("option", name="Tiny and finished").last.click()
    key = shown.locator("#distil-curves .lcm-key").first
    expect(key).to_contain_text("Tiny and finished")
    jobs = Jobs(shop.home / "jobs", awake=False)
    second = jobs.list()[-1]
    first = next(job for job in jobs.list() if job.name == "Tiny and finished")
    assert second.name == "Seven steps" and second.recipe == first.recipe
    old, new = jobs.config(first.id), jobs.config(second.id)
    assert new.pop("steps") == 7 and old.pop("steps") == 5
    assert new == old
    if not jobs.get(second.id).final:
        jobs.stop(second.id)


def test_uploaded_pictures_are_examined(shop: App, shown: Page, tmp_path: Path) -> None:
    for i in range(2):
        Image.new("RGB", (80, 64), (0, 80 * i, 40)).save(tmp_path / f"{i}.png")
    (tmp_path / "0.txt").write_text("a red house")
    shown.get_by_role("button", name="Upload pictures").click()
    files = [str(tmp_path / name) for name in ("0.png", "1.png", "0.txt")]
    shown.locator("#distil-files input[type=file]").set_input_files(files)
    report = shown.locator("#distil-report")
    expect(report).to_contain_text("2 of 2 pictures can be used, 1 have a caption")
    expect(shown.locator("#distil-sheet img")).to_be_visible()
    kept = Path(field(shown, "folder").input_value())
    assert kept.is_relative_to(shop.home / "data" / "uploads")
    assert {path.name for path in kept.iterdir()} == {"0.png", "1.png", "0.txt"}


def test_an_uploaded_zip_is_examined(shown: Page, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "navy").save(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "set/a.png")
        archive.write(tmp_path / "a.png", "set/b.png")
        archive.writestr("set/a.txt", "the night sea")
    shown.get_by_role("button", name="Upload pictures").click()
    shown.locator("#distil-files input[type=file]").set_input_files(str(tmp_path / "set.zip"))
    report = shown.locator("#distil-report")
    expect(report).to_contain_text("2 of 2 pictures can be used, 1 have a caption")


def test_example_scenes_are_found_and_examined(shop: App, shown: Page) -> None:
    example = shop.home / "data" / f"example-scenes-256px-{form.EXAMPLE_SCENES}"
    write_folder(example, 6, seed=1)  # rendered before, and kept
    shown.locator("#distil-example").click()
    report = shown.locator("#distil-report")
    expect(report).to_contain_text("6 of 6 pictures can be used, 6 have a caption")
    expect(report).to_contain_text("Ready to train on.")
    expect(field(shown, "folder")).to_have_value(str(example))
