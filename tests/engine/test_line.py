"""Whose turn it is: by person, then by session; nobody is starved by many requests or by fresh sessions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcm_studio.engine.batch import shares
from lcm_studio.engine.line import KEPT_FREE, Line, Places
from lcm_studio.spec.errors import Busy
from lcm_studio.spec.owners import Owner, network_of


@dataclass(eq=False)
class Asked:
    person: str = ""
    session: str = ""
    rows: int = 1
    priority: Any = "normal"
    owner: Owner = field(init=False)

    def __post_init__(self) -> None:
        self.owner = Owner(person=self.person, session=self.session)


def line(limit: int = 64) -> Line[Asked]:
    return Line(Places(limit))


def test_turns_go_by_person_however_many_requests_one_has() -> None:
    queue = line()
    many = [Asked("a", "1") for _ in range(5)]
    for asked in many:
        queue.join(asked, ())
    other = Asked("b", "1")
    queue.join(other, ())
    assert queue.order(()) == [many[0], other, *many[1:]]


def test_a_fresh_session_per_request_starves_nobody() -> None:
    """A client that opens a session for every request, beside a user with one: they are served in turn."""
    queue = line()
    user = Asked("127.0.0.1", "page")
    served: list[int] = []
    stranger = iter(range(10_000))
    queue.join(user, ())
    for turn in range(300):
        while len(queue) < 30:
            queue.join(Asked("127.0.0.1", f"fresh-{next(stranger)}"), ())
        first = queue.order(())[0]
        queue.admit(first)
        if first.session == "page":
            served.append(turn)
            queue.join(Asked("127.0.0.1", "page"), ())
    assert len(served) >= 300 // 31
    waits = [b - a for a, b in itertools.pairwise(served)]
    assert max(waits) <= 31  # never more than those who were there before


def test_whoever_has_fewest_pictures_in_work_is_next() -> None:
    queue = line()
    heavy, light = Asked("a"), Asked("b")
    queue.join(heavy, ())
    queue.join(light, ())
    running = [Asked("a", rows=16), Asked("b", rows=1)]
    assert queue.order(running) == [light, heavy]


def test_live_goes_first() -> None:
    queue = line()
    normal, live = Asked("a"), Asked("b", priority="live")
    queue.join(normal, ())
    queue.join(live, ())
    assert queue.order(()) == [live, normal]


def test_the_limit_holds_and_places_are_kept_for_others() -> None:
    queue = line(limit=2)
    for _ in range(2):
        queue.join(Asked("a", "1"), ())
    with pytest.raises(Busy, match="holds 2"):
        queue.join(Asked("a", "1"), ())
    with pytest.raises(Busy):  # a session that nobody knows buys no place
        queue.join(Asked("a", "fresh"), ())
    for number in range(KEPT_FREE):
        queue.join(Asked(f"other {number}"), ())
    with pytest.raises(Busy):
        queue.join(Asked("one too many"), ())


def test_a_session_that_was_served_before_keeps_its_place() -> None:
    queue = line(limit=1)
    mine = Asked("a", "mine")
    queue.join(mine, ())
    queue.admit(mine)
    queue.join(Asked("a", "other"), ())
    queue.join(Asked("a", "mine"), ())
    with pytest.raises(Busy):
        queue.join(Asked("a", "mine"), ())


def test_one_limit_for_all_models() -> None:
    places = Places(3)
    first: Line[Asked] = Line(places)
    second: Line[Asked] = Line(places)
    for queue in (first, second, first):
        queue.join(Asked("a"), (Asked("a"),))
    with pytest.raises(Busy):
        second.join(Asked("a"), (Asked("a"),))
    first.drop(lambda _: True)
    second.join(Asked("a"), (Asked("a"),))
    assert places.taken == 2


def test_a_call_is_dealt_to_persons_first() -> None:
    owners = [Owner(person="a", session="1")] * 7 + [Owner(person="b", session="1")]
    assert shares([16] * 8, 8, owners) == [1, 1, 1, 1, 0, 0, 0, 4]
    sessions = [Owner(person="a", session="1")] * 3 + [Owner(person="a", session="2")]
    assert shares([4] * 4, 4, sessions) == [1, 1, 0, 2]


@given(
    st.lists(
        st.tuples(st.integers(1, 20), st.sampled_from("abc"), st.sampled_from("12")), max_size=12
    ),
    st.integers(0, 32),
)
def test_shares_fill_the_call_and_give_nobody_more_than_asked(
    asked: list[tuple[int, str, str]], limit: int
) -> None:
    wanted = [rows for rows, _, _ in asked]
    owners = [Owner(person=p, session=s) for _, p, s in asked]
    given_ = shares(wanted, limit, owners)
    assert sum(given_) == min(limit, sum(wanted))
    assert all(0 <= g <= w for g, w in zip(given_, wanted, strict=True))
    totals: dict[str, int] = {}
    for g, owner in zip(given_, owners, strict=True):
        totals[owner.person] = totals.get(owner.person, 0) + g
    unmet = {o.person for g, w, o in zip(given_, wanted, owners, strict=True) if g < w}
    for person in unmet:  # nobody who wants more has two fewer than somebody else
        assert all(totals[person] >= total - 1 for total in totals.values())


def test_an_ipv6_network_is_one_client() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff")
    assert network_of("10.0.0.1") != network_of("10.0.0.2")
    assert network_of("::ffff:10.0.0.1") == "10.0.0.1"
    assert network_of("unknown") == "unknown"
