from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.edge.limiter import Census, Entry, Visit
from standpipe.edge.config import Limits
from standpipe.policy.identity import Trust

NOBODY = Trust()
LIMITS = Limits(connections=20, connections_per_client=4, connections_per_block=8)
WELCOME, FULL, CROWDED, CUT = Entry.WELCOME, Entry.FULL, Entry.CROWDED, Entry.CUT


def test_a_client_fills_its_share_is_told_once_and_then_cut():
    census = Census(LIMITS, NOBODY)
    assert [census.enter("192.0.2.1").entry for _ in range(7)] == [*[WELCOME] * 4, CROWDED, CUT, CUT]
    assert census.enter("198.51.100.1").entry is WELCOME


def test_new_addresses_of_one_block_buy_no_more_than_the_block_has():
    census = Census(LIMITS, NOBODY)
    entries = [census.enter(f"192.0.2.{n}").entry for n in range(12)]
    assert entries == [*[WELCOME] * 8, CROWDED, CROWDED, CUT, CUT]


def test_a_64_is_one_client_and_a_48_one_block():
    census = Census(LIMITS, NOBODY)
    assert [census.enter(f"2001:db8:0:1::{n:x}").entry for n in range(6)] == [*[WELCOME] * 4, CROWDED, CUT]
    assert [census.enter(f"2001:db8:0:{n:x}::1").entry for n in range(2, 6)] == [*[WELCOME] * 3, CROWDED]
    assert census.enter("2001:db8:1::1").entry is WELCOME


def test_an_ipv4_address_is_the_same_client_however_it_is_written():
    census = Census(LIMITS, NOBODY)
    for _ in range(4):
        census.enter("192.0.2.1")
    assert census.enter("::ffff:192.0.2.1").entry is CROWDED


def test_all_together_fill_the_house():
    census = Census(LIMITS, NOBODY)
    entries = [census.enter(f"10.{n}.0.1").entry for n in range(27)]
    assert entries == [*[WELCOME] * 20, *[FULL] * 5, CUT, CUT]


def test_who_is_cut_takes_no_room():
    census = Census(LIMITS, NOBODY)
    for _ in range(50):
        census.enter("192.0.2.1")
    assert census.total == 5


def test_a_proxy_and_a_unix_socket_are_nobodys_share():
    census = Census(LIMITS, Trust.parse(["192.0.2.0/24"]))
    assert {census.enter("192.0.2.1").entry for _ in range(10)} == {WELCOME}
    assert {census.enter(None).entry for _ in range(10)} == {WELCOME}


@pytest.mark.parametrize(("trusted", "expected"), [(["unix"], True), (["127.0.0.1"], False)])
def test_a_unix_socket_is_trusted_only_if_the_operator_says_so(trusted, expected):
    assert Census(LIMITS, Trust.parse(trusted)).enter(None).trusted is expected


def test_whom_a_proxy_vouches_for_has_a_share():
    census = Census(LIMITS, Trust.parse(["192.0.2.1"]))
    visits = [census.enter("192.0.2.1") for _ in range(6)]
    for visit in visits:
        visit.vouched("198.51.100.7")
    assert [visit.entry for visit in visits] == [*[WELCOME] * 4, CROWDED, CUT]
    for visit in visits:
        visit.leave()
    assert census.clients == 0


def test_no_address_is_in_what_a_visit_says_of_itself():
    assert "192" not in repr(Census(LIMITS, NOBODY).enter("192.0.2.1"))


@given(
    st.lists(st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2", "198.51.100.1", None]), st.booleans()), max_size=60)
)
def test_whoever_leaves_makes_room_exactly_once(moves):
    census = Census(LIMITS, NOBODY)
    inside: list[Visit] = []
    for peer, leaves in moves:
        if leaves and inside:
            visit = inside.pop(0)
            visit.leave()
            visit.leave()
        visit = census.enter(peer)
        if visit.entry is not CUT:
            inside.append(visit)
        assert census.total == len(inside)
    for visit in inside:
        visit.leave()
    assert (census.total, census.clients) == (0, 0)
