"""Single scripts of the page in a real browser, without a studio: what goes on to it, and what is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

STATIC = Path(__file__).resolve().parents[2] / "lcm_studio/web/static"
pytestmark = pytest.mark.browser
Open = Callable[..., Any]


@pytest.fixture
def scripts(chromium: Any) -> Iterator[Open]:
    """Opens `body` with a module that has the registry `r` and then runs `code`; `answers`: path -> (status, JSON)."""
    context = chromium.new_context()

    def opened(body: str, code: str, answers: dict[str, tuple[int, str]] | None = None) -> Any:
        page = context.new_page()

        def serve(route: Any) -> None:
            name = route.request.url.removeprefix("http://studio.test/")
            if not name:
                module = f'import * as r from "./registry.js";\n{code}\nwindow.ready = true;'
                html = f'{body}<script type="module">{module}</script>'
                route.fulfill(body=html, content_type="text/html")
            elif name in (answers or {}):
                status, text = (answers or {})[name]
                route.fulfill(status=status, body=text, content_type="application/json")
            else:
                route.fulfill(path=STATIC / name, content_type="text/javascript")

        page.route("http://studio.test/**", serve)
        page.goto("http://studio.test/")
        page.wait_for_function("window.ready")
        return page

    yield opened
    context.close()


def test_two_presses_at_once_are_one_run_and_a_later_one_is_another(scripts: Open) -> None:
    page = scripts(
        '<div id="note"></div><button id="distil-go">Start</button>',
        """import "./pending.js";
        r.registry.set("note", "distil", document.getElementById("note"));
        window.runs = 0;
        document.getElementById("distil-go").addEventListener("click", () => { window.runs += 1; });""",
    )
    press = """() => {
        const go = document.getElementById("distil-go");
        go.click();
        go.click();
        return [window.runs, document.getElementById("note").innerText];
    }"""
    runs, words = page.evaluate(press)
    assert runs == 1 and "The run before is still being checked" in words
    page.evaluate("window.lcm.settled('distil-go')")
    assert page.inner_text("#note") == ""
    assert page.evaluate(press)[0] == 2


@pytest.mark.parametrize("damaged", [False, True])
def test_a_pasted_picture_opens_in_edit_unless_it_cannot_be_decoded(
    scripts: Open, damaged: bool
) -> None:
    answer = (
        (422, '{"detail": "The picture is damaged; save it again"}') if damaged else (200, "{}")
    )
    page = scripts(
        """<div id="note"></div><div id="drop"></div><textarea></textarea>
        <div class="lcm-tabs"><button role="tab" aria-selected="true">Create</button><button role="tab">Edit</button></div>""",
        """import { mountDrop } from "./drop.js";
        r.registry.set("note", "create", document.getElementById("note"));
        r.registry.set("channel", "reopen-edit", (data) => { window.opened = data.name; });
        mountDrop("create", document.getElementById("drop"));
        window.paste = (target, ...texts) => {
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File(["x"], "image.png", {type: "image/png"}));
            for (const text of texts) clipboardData.setData("text/plain", text);
            return target.dispatchEvent(new ClipboardEvent("paste", {bubbles: true, cancelable: true, clipboardData}));
        };""",
        {"studio/opens": answer},
    )
    # where text comes with it into a field, the text is meant
    assert page.evaluate("paste(document.querySelector('textarea'), 'words')")
    assert not page.evaluate("paste(document.body)")
    if damaged:
        page.wait_for_selector("#note .lcm-error")
        words = "The pasted picture cannot be opened. The picture is damaged; save it again"
        assert page.inner_text("#note") == words and not page.evaluate("window.opened")
    else:
        page.wait_for_function("window.opened === 'The pasted picture'")


def test_work_of_the_lab_can_be_stopped_and_says_what_went_wrong(scripts: Open) -> None:
    page = scripts(
        '<div id="place"></div>',
        """import { Work } from "./lab/work.js";
        import { post } from "./lab/wire.js";
        const work = new Work("lab-", "Run", async () => {
            const signal = work.begin();
            const answer = window.waits ? new Promise((_, no) => signal.addEventListener("abort", () => no(signal.reason))) : post("x", {}, signal);
            window.ended = await work.follow(answer, signal, () => {});
        });
        document.getElementById("place").append(...work.nodes);
        window.shown = () => [work.go.disabled, work.stop.disabled, work.progress.hidden, work.note.innerText];
        window.waits = true;""",
        {"studio/lab/x": (422, '{"detail": "nine samplers are too many"}')},
    )
    page.click("#lab-go")
    assert page.evaluate("shown()") == [True, False, False, ""]
    page.click("[data-busy] #lab-stop")
    page.wait_for_function("window.ended === false")
    assert page.evaluate("shown()") == [False, True, True, ""]
    page.evaluate("window.waits = false")
    page.click("#lab-go")
    page.wait_for_selector("#place [role=alert]")
    assert page.evaluate("shown()") == [False, True, True, "nine samplers are too many"]
