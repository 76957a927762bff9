"""No event is lost while Gradio's event stream closes; shown in the page, with the closing word held back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

# As on a slow line: the server's last word on a stream reaches the page late.
SLOW_CLOSE = """(() => {
  const plain = window.fetch;
  window.closings = 0;
  window.fetch = async (input, init) => {
    const response = await plain.call(window, input, init);
    if (!String(input.url || input).includes("/queue/data")) return response;
    const [decoder, encoder] = [new TextDecoder(), new TextEncoder()];
    const late = new TransformStream({
      async transform(chunk, out) {
        const text = decoder.decode(chunk, { stream: true });
        const word = text.search(/data: [{]"msg":"close_stream"/);
        if (word < 0) return out.enqueue(chunk);
        out.enqueue(encoder.encode(text.slice(0, word)));
        window.closings += 1;
        await new Promise((resolve) => setTimeout(resolve, 1500));
        out.enqueue(encoder.encode(text.slice(word)));
      },
    });
    return new Response(response.body.pipeThrough(late), { status: response.status, headers: response.headers });
  };
})()"""


def test_a_click_while_the_stream_closes_is_answered(open_page: Callable[..., Any]) -> None:
    page = open_page(init_script=SLOW_CLOSE)
    page.get_by_role("tab", name="Edit").click()
    page.wait_for_selector(".lcm-blank-canvas")
    ready = None
    for number in (1, 2, 1, 2):
        closings = page.evaluate("window.closings")
        page.locator(f"#edit-example-{number}").click()
        page.wait_for_function(
            "before => (document.querySelector('.lcm-paper').dataset.ready ?? null) !== before",
            arg=ready,
            timeout=20_000,
        )
        ready = page.get_attribute(".lcm-paper", "data-ready")
        # the next click comes when the server has closed the stream and the page does not know it yet
        page.wait_for_function("n => window.closings > n", arg=closings, timeout=20_000)
