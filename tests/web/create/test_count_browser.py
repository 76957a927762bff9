"""The page counts the tokens of the prompt, and a long or weighted one makes a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_tokens_are_counted_as_one_types(open_page: Callable[..., Any]) -> None:
    page = open_page()
    prompt = page.locator("#create-prompt textarea")
    count = page.locator("#create-prompt .lcm-count")
    prompt.fill("sunset, (lake:1.3)")
    page.wait_for_function(
        "() => document.querySelector('#create-prompt .lcm-count')?.textContent === '3 of 54 tokens'"
    )
    assert page.locator("#create-note .lcm-note").count() == 0  # nothing is read as plain words
    prompt.fill("sunset, lake, " * 20)
    page.wait_for_function(
        "() => document.querySelector('#create-prompt .lcm-count')?.textContent.endsWith('of 108 tokens')"
    )
    prompt.fill("")
    count.wait_for(state="detached")
