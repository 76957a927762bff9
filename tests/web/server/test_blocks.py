"""Whatever a function of the page returns, the event stream can carry it."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from lcm_studio.web.server.blocks import sendable

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
