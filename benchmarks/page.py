"""python -m benchmarks page: start to page, start to first picture, click, keystroke and stroke to pixel in Chromium.

Times are medians. "engine" is the engine's own time for the request; its share of the whole tells what the page,
Gradio, HTTP and the browser's painting add.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.page_parts import WATCH, click_parts, encoding

ROOT = Path(__file__).resolve().parents[1]
BROWSER_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync")  # fmt: skip

# Resolves once a picture with another source than `before` has been decoded and painted.
PAINTED = """
    const shown = () => stage.querySelector('.lcm-picture img')?.getAttribute('src') || '';
    const painted = async (before, phases) => {
        await new Promise((resolve) => {
            const look = () => phases.includes(stage.dataset.phase) && shown() !== before ? (observer.disconnect(), resolve()) : 0;
            const observer = new MutationObserver(look);
            observer.observe(stage, {subtree: true, childList: true, attributes: true});
        });
        await stage.querySelector('.lcm-picture img').decode();
        await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
        return [performance.now(), 1000 * Number(stage.dataset.seconds || 0)];
    };
"""

# Acts, then waits for the picture; milliseconds.
TO_PIXEL = f"""async ([act, text, phases]) => {{
    const stage = document.querySelector('#create-stage .lcm-stage');
    {PAINTED}
    const before = shown();
    const start = performance.now();
    if (act === 'click') document.querySelector('#create-go').click();
    else {{
        const field = document.querySelector('#create-prompt textarea');
        Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(field, text);
        field.dispatchEvent(new Event('input', {{bubbles: true}}));
    }}
    const [end, engine] = await painted(before, phases);
    return [end - start, engine];
}}"""

# The hand's own event starts the clock: window.stroke is what the next touch of the canvas led to.
STROKE_TO_PIXEL = f"""() => {{
    const stage = document.querySelector('#edit-stage .lcm-stage');
    {PAINTED}
    const before = shown();
    window.stroke = (async () => {{
        const start = await new Promise((resolve) => addEventListener(
            'pointerdown', (event) => resolve(event.timeStamp), {{capture: true, once: true}}));
        const [end, engine] = await painted(before, ['live']);
        return [end - start, engine];
    }})();
}}"""


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    figures: dict[str, float] = {}
    if not args.parts:
        starts = [start_once(args.model) for _ in range(args.starts)]
        figures["start_to_page_s"] = statistics.median(s[0] for s in starts)
        figures["start_to_first_picture_s"] = statistics.median(s[1] for s in starts)
    if args.browser:
        figures |= in_browser(args)
        figures |= encoding()
    if args.json:
        print(json.dumps(figures))
        return 0
    for name, value in figures.items():
        print(f"{name:38s} {value:10.3f}")
    return 0


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m benchmarks page",
        description="Time from start, click, keystroke and stroke to what shows.",
    )
    p.add_argument("--model", default="scenery-lcm")
    p.add_argument("--starts", type=int, default=3, help="fresh starts of app.py (default: 3)")
    p.add_argument(
        "--runs", type=int, default=15, help="clicks, keystrokes and strokes each (default: 15)"
    )
    p.add_argument(
        "--parts", action="store_true", help="only the parts of a click at one step, no starts"
    )
    p.add_argument("--chromium", default=os.environ.get("CHROMIUM", "/usr/bin/chromium"))
    p.add_argument("--no-browser", dest="browser", action="store_false", help="only the starts")
    p.add_argument("--json", action="store_true")
    return p


class App:
    """app.py on a free port, for the length of a `with`."""

    def __init__(self, model: str) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.model = model

    def __enter__(self) -> App:
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(self.port), "--model", self.model],
            cwd=ROOT, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)

    def until(self, test: Callable[[], bool], seconds: float = 300) -> float:
        """Seconds from the start until `test` holds."""
        while not test():
            if self.process.poll() is not None or time.perf_counter() - self.started > seconds:
                raise SystemExit("app.py did not come up; start it by hand to see why")
            time.sleep(0.01)
        return time.perf_counter() - self.started

    def get(self, path: str) -> bytes:
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return bytes(answer.read())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return b""

    def ready(self) -> bool:
        said = json.loads(self.get("studio/state") or b"{}")
        if said.get("status") == "failed":
            raise SystemExit(said["message"])
        return bool(said.get("status") == "ready")

    def picture(self) -> bool:
        form = {"prompt": "sunset, lake", "model": self.model, "steps": 4, "guidance": 8, "seed": 1, "count": 1,
                "width": 256, "height": 256}  # fmt: skip
        body = json.dumps({"form": form, "refine": True}).encode()
        request = urllib.request.Request(
            self.url + "studio/live", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            last = answer.read().splitlines()[-1]
        return bool(json.loads(last)["phase"] == "done")


def start_once(model: str) -> tuple[float, float]:
    """Seconds from a fresh process to its page, and to a four-step picture asked for as soon as that can be."""
    with App(model) as app:
        page = app.until(lambda: b"lcm-splash" in app.get(""))
        picture = app.until(app.picture)
        return page, picture


def in_browser(args: argparse.Namespace) -> dict[str, float]:
    """Click (1 and 4 steps, through Gradio), keystroke and stroke (Live, 1 step) to the painted picture."""
    from playwright.sync_api import sync_playwright

    with App(args.model) as app, sync_playwright() as playwright:
        app.until(app.ready)
        browser = playwright.chromium.launch(
            executable_path=args.chromium, args=list(BROWSER_FLAGS)
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(240_000)
        page.add_init_script(WATCH)
        opened = time.perf_counter()
        page.goto(app.url, wait_until="commit")
        page.wait_for_selector("html[data-studio=ready]")
        figures = {"open_to_drawn_page_s": time.perf_counter() - opened}
        page.fill("#create-prompt textarea", "sunset, lake")
        for steps in (1, 4):
            box = page.locator("#create-steps input[type=number]").first
            box.fill(str(steps))
            box.press("Tab")
            if steps == 1:
                figures |= click_parts(page, args.runs)
            if args.parts:
                break
            figures |= named(f"click_{steps}_step", clicks(page, args.runs))
        if args.parts:
            browser.close()
            return figures
        page.locator("#create-live input").check()
        page.wait_for_selector('#create-stage .lcm-stage[data-phase="done"]')
        figures |= named("keystroke_live", keystrokes(page, args.runs))
        figures |= named("stroke_live", strokes(page, args.runs))
        browser.close()
    return figures


def clicks(page: Any, runs: int) -> list[list[float]]:
    found = []
    for _ in range(runs + 2):
        found.append(page.evaluate(TO_PIXEL, ["click", "", ["done"]]))
        page.wait_for_timeout(250)
    return found[2:]


def keystrokes(page: Any, runs: int) -> list[list[float]]:
    found = []
    for i in range(runs + 2):
        text = "sunset, lake, snowy mountains"[: 8 + i % 20]
        found.append(page.evaluate(TO_PIXEL, ["type", text, ["live"]]))
        page.wait_for_selector('#create-stage .lcm-stage[data-phase="done"]')
        page.wait_for_timeout(150)
    return found[2:]


def strokes(page: Any, runs: int) -> list[list[float]]:
    """Dots on the white canvas of Live sketch: one step while the hand moves."""
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit-blank").click()
    page.wait_for_selector(".lcm-paper[data-tool=sketch][data-ready]")
    paper = page.locator(".lcm-paper")
    page.locator("#edit-live input").check()
    paper.scroll_into_view_if_needed()
    found = []
    for i in range(runs + 2):
        page.evaluate(STROKE_TO_PIXEL)
        box = paper.bounding_box()
        page.mouse.click(
            box["x"] + box["width"] * (0.2 + 0.6 * (i % 7) / 6),
            box["y"] + box["height"] * (0.2 + 0.6 * (i % 5) / 4),
        )
        found.append(page.evaluate("window.stroke"))
        page.wait_for_selector('#edit-stage .lcm-stage[data-phase="done"]')
        page.wait_for_timeout(150)
    return found[2:]


def named(name: str, pairs: list[list[float]]) -> dict[str, float]:
    whole = statistics.median(pair[0] for pair in pairs)
    engine = statistics.median(pair[1] for pair in pairs)
    return {
        f"{name}_to_pixel_ms": whole,
        f"{name}_engine_ms": engine,
        f"{name}_engine_share": engine / whole,
    }
