"""What a click to pixel consists of, part by part: the browser's, the server's, the engine's and the painting."""

from __future__ import annotations

import statistics
import time
from typing import Any

# Runs before the page's own scripts: notes when requests leave and when the picture's bytes arrive.
WATCH = """
(() => {
    const plain = window.fetch;
    const mark = (name) => { (window.marks ||= {})[name] ??= performance.now(); };
    const hear = async (reader, decoder) => {
        for (;;) {
            const {value, done} = await reader.read();
            if (done) return;
            if (decoder.decode(value, {stream: true}).includes('data:image')) mark('arrived');
        }
    };
    window.fetch = async (input, init) => {
        const path = new URL(input.url || input, document.baseURI).pathname;
        if (path.endsWith('/queue/join')) {
            mark('left');
            const answer = await plain.call(window, input, init);
            mark('joined');
            return answer;
        }
        const answer = await plain.call(window, input, init);
        if (!path.endsWith('/queue/data') || !answer.body) return answer;
        const [ours, theirs] = answer.body.tee();
        hear(ours.getReader(), new TextDecoder());
        return new Response(theirs, {status: answer.status, headers: answer.headers});
    };
})();
"""

# Clicks, and waits for the painted picture; milliseconds since the click.
CLICK = """async () => {
    const stage = document.querySelector('#create-stage .lcm-stage');
    const shown = () => stage.querySelector('.lcm-picture img')?.getAttribute('src') || '';
    const before = shown();
    window.marks = {};
    const start = performance.now();
    document.querySelector('#create-go').click();
    await new Promise((resolve) => {
        const look = () => stage.dataset.phase === 'done' && shown() !== before ? (observer.disconnect(), resolve()) : 0;
        const observer = new MutationObserver(look);
        observer.observe(stage, {subtree: true, childList: true, attributes: true});
    });
    const marks = {...window.marks, drawn: performance.now()};
    await stage.querySelector('.lcm-picture img').decode();
    marks.decoded = performance.now();
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    marks.painted = performance.now();
    for (const name in marks) marks[name] -= start;
    return {...marks, engine: 1000 * Number(stage.dataset.seconds)};
}"""


def click_parts(page: Any, runs: int) -> dict[str, float]:
    """Medians of the parts of a click to pixel at one step; `page` was opened with `WATCH`."""
    rows = []
    for _ in range(runs + 2):
        rows.append(parts_of(page.evaluate(CLICK)))
        page.wait_for_timeout(400)
    return {name: statistics.median(row[name] for row in rows[2:]) for name in rows[0]}


def parts_of(marks: dict[str, float]) -> dict[str, float]:
    """Milliseconds of each part, in their order; they add up to the whole."""
    return {
        "part_browser_before_request_ms": marks["left"],
        "part_request_ms": marks["joined"] - marks["left"],
        "part_engine_ms": marks["engine"],
        "part_queue_and_stream_ms": marks["arrived"] - marks["joined"] - marks["engine"],
        "part_drawing_ms": marks["drawn"] - marks["arrived"],
        "part_decoding_ms": marks["decoded"] - marks["drawn"],
        "part_two_frames_ms": marks["painted"] - marks["decoded"],
    }


def encoding(runs: int = 15) -> dict[str, float]:
    """Medians of making the JPEGs of one picture (large and thumbnail) as the page gets them, and their kilobytes."""
    import numpy as np

    from lcm_studio.web.server.picture_store import FINAL_QUALITY, THUMB, jpeg

    found: dict[str, float] = {}
    for side in (128, 512, 1024):
        ramp = np.add.outer(np.arange(side), np.arange(side)) * 255 // (2 * side)
        noise = np.random.default_rng(0).integers(-12, 12, (side, side, 3))
        pixels = np.clip(ramp[..., None] + noise, 0, 255).astype(np.uint8)
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            large = jpeg(pixels, quality=FINAL_QUALITY)
            jpeg(pixels, largest=THUMB)
            times.append(1e3 * (time.perf_counter() - start))
        found[f"encode_{side}_ms"] = statistics.median(times)
        found[f"encode_{side}_kb"] = len(large) / 1000
    return found
