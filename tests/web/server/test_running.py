"""A request goes on without its page, and is taken up by the page that comes in its place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from lcm_studio.web.server import running
from lcm_studio.web.server.running import Running, page_of
from lcm_studio.web.server.stops import Stops

KEY = "0b5c2f0e-aaaa-bbbb-cccc-000000000001"


class Asked:
    """Outputs that wait for `go`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began = threading.Event()

    def outputs(self) -> Iterator[dict[str, Any]]:
        self.began.set()
        yield {"stage": "step 1", "seed": 7}
        assert self.go.wait(30)
        yield {"stage": "done"}


def test_a_page_in_its_place_has_all_that_was_and_all_that_comes() -> None:
    running, asked = Running(), Asked()
    first = running.start(asked.outputs(), page=KEY, tab="create", user="")
    assert next(first) == {"stage": "step 1", "seed": 7}
    first.close()  # as Gradio does when the page has gone
    run = running.find(KEY, "create", "")
    assert run is not None
    again = run.follow()
    assert next(again) == {"stage": "step 1", "seed": 7}
    asked.go.set()
    assert list(again) == [{"stage": "done"}]
    late = running.find(KEY, "create", "")
    assert late is run and list(late.follow()) == [{"stage": "done", "seed": 7}]
    for other in [
        ("x" * 36, "create", ""),
        (KEY, "edit", ""),
        (KEY, "create", "ada"),
        ("", "create", ""),
    ]:
        assert running.find(*other) is None


def test_a_client_without_a_key_is_followed_as_it_is() -> None:
    running, ended = Running(), []

    def outputs() -> Iterator[dict[str, Any]]:
        try:
            yield {"stage": 1}
            yield {"stage": 2}
        finally:
            ended.append(True)

    follower = running.start(outputs(), page="", tab="create", user="")
    assert next(follower) == {"stage": 1}
    follower.close()
    assert ended and running.find("", "create", "") is None


def test_requests_of_one_tab_come_one_after_the_other_and_a_fault_is_passed_on() -> None:
    running, asked = Running(), Asked()
    first = running.start(asked.outputs(), page=KEY, tab="edit", user="")
    next(first)

    def broken() -> Iterator[dict[str, Any]]:
        yield {"stage": "begun"}
        raise ValueError("as it is")

    told: list[Any] = []

    def follow() -> None:
        with pytest.raises(ValueError, match="as it is"):
            told.extend(running.start(broken(), page=KEY, tab="edit", user=""))

    second = threading.Thread(target=follow)
    second.start()
    assert not told
    asked.go.set()
    assert list(first) == [{"stage": "done"}]
    second.join(30)
    assert not second.is_alive()


def test_little_is_kept_of_what_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "MOST_KEPT", 2)
    known = Running()
    pages = [f"{i:08d}" for i in range(4)]
    for page in pages:
        assert list(known.start(iter([{"stage": page}]), page=page, tab="create", user=""))
    assert [known.find(page, "create", "") is not None for page in pages] == [
        False,
        False,
        True,
        True,
    ]
    monkeypatch.setattr(running, "KEPT_SECONDS", -1)
    assert known.find(pages[-1], "create", "") is None


def test_a_closed_page_ends_its_requests_unless_it_comes_back() -> None:
    stops = Stops()
    with (
        stops.under_way("old", "create", KEY) as back,
        stops.under_way("other", "edit", "other-key-of-a-tab") as gone,
        stops.under_way("bare", "create") as bare,
    ):
        stops.join(KEY, "new")
        for session in ("old", "other", "bare"):
            stops.left(session, patience=0.01)
        assert bare.stop.is_set(), "a client without a key cannot come back"
        assert gone.stop.wait(30)
        assert not back.stop.is_set()
        assert stops.stop("new", "create") == 1 and back.stop.is_set()


def test_only_keys_that_browsers_make_are_keys() -> None:
    request = lambda key: SimpleNamespace(headers={running.PAGE: key})  # noqa: E731
    assert page_of(request(KEY)) == KEY
    for wrong in ("", "short", "x" * 65, "with space in it", None):
        assert page_of(request(wrong)) == ""
    assert page_of(SimpleNamespace()) == ""
