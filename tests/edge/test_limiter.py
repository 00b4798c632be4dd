from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.edge.config import EdgeConfig
from standpipe.edge.limiter import ConnectionLimiter, Lease, Verdict
from standpipe.policy.identity import Trust

NOBODY = Trust()
CONFIG = EdgeConfig(connections=20, connections_per_client=4, connections_per_block=8)
ADMIT, FULL, CROWDED, CUT = Verdict.ADMIT, Verdict.FULL, Verdict.CROWDED, Verdict.CUT


def test_a_client_fills_its_share_is_told_once_and_then_cut():
    limiter = ConnectionLimiter(CONFIG, NOBODY)
    assert [limiter.lease("192.0.2.1").verdict for _ in range(7)] == [*[ADMIT] * 4, CROWDED, CUT, CUT]
    assert limiter.lease("198.51.100.1").verdict is ADMIT


def test_new_addresses_of_one_block_buy_no_more_than_the_block_has():
    limiter = ConnectionLimiter(CONFIG, NOBODY)
    verdicts = [limiter.lease(f"192.0.2.{n}").verdict for n in range(12)]
    assert verdicts == [*[ADMIT] * 8, CROWDED, CROWDED, CUT, CUT]


def test_a_64_is_one_client_and_a_48_one_block():
    limiter = ConnectionLimiter(CONFIG, NOBODY)
    assert [limiter.lease(f"2001:db8:0:1::{n:x}").verdict for n in range(6)] == [*[ADMIT] * 4, CROWDED, CUT]
    assert [limiter.lease(f"2001:db8:0:{n:x}::1").verdict for n in range(2, 6)] == [*[ADMIT] * 3, CROWDED]
    assert limiter.lease("2001:db8:1::1").verdict is ADMIT


def test_an_ipv4_address_is_the_same_client_however_it_is_written():
    limiter = ConnectionLimiter(CONFIG, NOBODY)
    for _ in range(4):
        limiter.lease("192.0.2.1")
    assert limiter.lease("::ffff:192.0.2.1").verdict is CROWDED


def test_all_together_fill_the_house():
    limiter = ConnectionLimiter(CONFIG, NOBODY)
    verdicts = [limiter.lease(f"10.{n}.0.1").verdict for n in range(27)]
    assert verdicts == [*[ADMIT] * 20, *[FULL] * 5, CUT, CUT]


def test_who_is_cut_takes_no_room():
    limiter = ConnectionLimiter(CONFIG, NOBODY)
    for _ in range(50):
        limiter.lease("192.0.2.1")
    assert limiter.total == 5


def test_a_proxy_and_a_unix_socket_are_nobodys_share():
    limiter = ConnectionLimiter(CONFIG, Trust.parse(["192.0.2.0/24"]))
    assert {limiter.lease("192.0.2.1").verdict for _ in range(10)} == {ADMIT}
    assert {limiter.lease(None).verdict for _ in range(10)} == {ADMIT}


@pytest.mark.parametrize(("trusted", "expected"), [(["unix"], True), (["127.0.0.1"], False)])
def test_a_unix_socket_is_trusted_only_if_the_operator_says_so(trusted, expected):
    assert ConnectionLimiter(CONFIG, Trust.parse(trusted)).lease(None).trusted is expected


def test_whom_a_proxy_vouches_for_has_a_share():
    limiter = ConnectionLimiter(CONFIG, Trust.parse(["192.0.2.1"]))
    leases = [limiter.lease("192.0.2.1") for _ in range(6)]
    for lease in leases:
        lease.vouched("198.51.100.7")
    assert [lease.verdict for lease in leases] == [*[ADMIT] * 4, CROWDED, CUT]
    for lease in leases:
        lease.release()
    assert limiter.clients == 0


def test_no_address_is_in_what_a_lease_says_of_itself():
    assert "192" not in repr(ConnectionLimiter(CONFIG, NOBODY).lease("192.0.2.1"))


@given(
    st.lists(st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2", "198.51.100.1", None]), st.booleans()), max_size=60)
)
def test_whoever_leaves_makes_room_exactly_once(moves):
    limiter = ConnectionLimiter(CONFIG, NOBODY)
    inside: list[Lease] = []
    for peer, leaves in moves:
        if leaves and inside:
            lease = inside.pop(0)
            lease.release()
            lease.release()
        lease = limiter.lease(peer)
        if lease.verdict is not CUT:
            inside.append(lease)
        assert limiter.total == len(inside)
    for lease in inside:
        lease.release()
    assert (limiter.total, limiter.clients) == (0, 0)
