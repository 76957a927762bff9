"""Whatever a function of the page returns, the event stream can carry it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from lcm_studio.web.server.blocks import Unread, sendable

NUMBERS = st.one_of(st.integers(), st.integers(-(10**400), 10**400), st.booleans(), st.none())
VALUES = st.recursive(
    st.one_of(NUMBERS, st.text(max_size=5)),
    lambda inside: st.one_of(st.lists(inside), st.dictionaries(st.text(max_size=3), inside)),
)


@given(VALUES)
def test_no_number_is_too_large_for_the_stream(value: Any) -> None:
    orjson.dumps(sendable(value))


def test_what_fits_is_as_it_was() -> None:
    value = {"a": [1, -(2**63), 2**64 - 1, "x", None, True], "b": {"c": 2.5}}
    assert sendable(value) == value
    assert sendable([10**20]) == [1e20]


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60))
def test_sessions_in_work_keep_their_messages(visits: list[tuple[int, bool]]) -> None:
    """Of ten sessions at most three are in work at a time; five are kept, the quietest of the others goes."""
    queue = SimpleNamespace(event_ids_to_events={}, pending_event_ids_session={})
    unread = Unread(queue, 5)
    for number, stays in visits:
        name = str(number)
        if name not in unread:
            unread[name] = object()
        kept = unread[name]
        queue.pending_event_ids_session.setdefault(name, set())
        events = queue.event_ids_to_events
        events.pop(name, None)
        if stays and len(events) < 3:
            events[name] = SimpleNamespace(session_hash=name)
        assert unread[name] is kept and len(unread) <= 5
        assert {event.session_hash for event in events.values()} <= set(unread)
        assert set(queue.pending_event_ids_session) == set(unread)


def test_a_message_to_a_session_that_is_gone_goes_nowhere() -> None:
    unread = Unread(SimpleNamespace(event_ids_to_events={}, pending_event_ids_session={}), 2)
    unread["gone"].put_nowait("a message")
    assert "gone" not in unread and not unread
