"""What is under way is stopped by its own session only; who an owner is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lcm_studio.spec.owners import Owner
from lcm_studio.web.server.stops import USER, Stops, owner_of, user_of


def test_stop_reaches_the_requests_of_one_session_or_tab_only() -> None:
    stops = Stops()
    with (
        stops.under_way("a", "create") as mine,
        stops.under_way("a", "edit") as edit,
        stops.under_way("b", "create") as other,
    ):
        assert stops.stop("a", "create") == 1
        assert [t.stop.is_set() for t in (mine, edit, other)] == [True, False, False]
        assert stops.stop("a") == 2
        assert edit.stop.is_set() and not other.stop.is_set()
    assert len(stops) == 0 and other.stop.is_set()
    assert stops.stop("a") == 0


def test_a_failure_leaves_nothing_behind() -> None:
    stops = Stops()
    with pytest.raises(ValueError), stops.under_way("a", "create"):
        raise ValueError
    assert len(stops) == 0


def request(client: str, user: str = "", session: str | None = "s") -> Any:
    scope = {"client": (client, 1), **({USER: user} if user else {})}
    return SimpleNamespace(request=SimpleNamespace(scope=scope), session_hash=session)


def test_an_owner_is_the_signed_in_user_else_the_address() -> None:
    assert owner_of(request("10.0.0.9")) == Owner(person="10.0.0.9", session="s")
    assert owner_of(request("10.0.0.9", "ada")) == Owner(person="ada", session="s")
    assert owner_of(request("2001:db8::1")).person == owner_of(request("2001:db8::2")).person
    assert user_of(request("10.0.0.9", "ada")) == "ada" and user_of(request("10.0.0.9")) == ""


def test_a_fresh_session_for_every_call_is_one_owner() -> None:
    calls = {owner_of(request("10.0.0.9", session=str(i)), api=True) for i in range(5)}
    assert len(calls) == 1
    assert owner_of(None) == Owner()
