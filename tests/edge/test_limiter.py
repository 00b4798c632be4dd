from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

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


def test_where_proxies_are_trusted_by_number_every_peer_is_one():
    limiter = ConnectionLimiter(CONFIG, Trust.parse([], hops=1))
    assert {limiter.lease(peer).verdict for peer in ["192.0.2.1"] * 10 + [None] * 10} == {ADMIT}


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


def idle(limiter, peer, count):
    """Connections without a whole request."""
    leases = [limiter.lease(peer) for _ in range(count)]
    for lease in leases:
        lease.give_way = lambda: True
    return leases


def test_idle_connections_of_the_heaviest_make_room_for_a_neighbour_the_oldest_first():
    limiter = ConnectionLimiter(CONFIG, NOBODY)
    light, heavy = idle(limiter, "192.0.2.1", 3), idle(limiter, "192.0.2.2", 4)
    idle(limiter, "192.0.2.3", 1)
    assert limiter.lease("192.0.2.4").verdict is ADMIT
    assert [lease.give_way is None for lease in (*light, *heavy)] == [False] * 3 + [True] + [False] * 3
    assert (limiter.total, limiter.displaced) == (8, 1)


def test_the_heaviest_is_found_anew_for_each_connection_that_goes():
    limiter = ConnectionLimiter(CONFIG, NOBODY)
    busy = [limiter.lease(f"192.0.2.{n}") for n in (1, 2) for _ in range(4)]
    assert [limiter.lease("192.0.2.3").verdict for _ in range(2)] == [CROWDED] * 2
    for lease in busy:
        lease.give_way = lambda: True
    assert limiter.lease("192.0.2.4").verdict is ADMIT
    assert [lease.give_way is None for lease in busy] == [True, True, False, False, True, False, False, False]


def test_a_newcomer_displaces_nobody_who_has_as_few_as_it_has():
    limiter = ConnectionLimiter(CONFIG, NOBODY)
    for n in range(8):
        idle(limiter, f"192.0.2.{n}", 1)
    assert limiter.lease("192.0.2.9").verdict is CROWDED
    assert limiter.displaced == 0


def test_nobody_is_displaced_whose_whole_request_has_come():
    limiter = ConnectionLimiter(CONFIG, NOBODY)
    busy = [limiter.lease(f"192.0.2.{n % 2}") for n in range(8)]
    for lease in busy:
        lease.give_way = lambda: False
    assert limiter.lease("192.0.2.9").verdict is CROWDED
    assert limiter.total == 9


def test_who_has_had_its_last_answer_keeps_nobody_out():
    limiter = ConnectionLimiter(CONFIG, NOBODY)
    old = [limiter.lease(f"10.0.{n}.1") for n in range(25)]
    assert [lease.verdict for lease in old] == [*[ADMIT] * 20, *[FULL] * 5]
    for lease in old[15:]:
        lease.give_way = lambda: True
        lease.part()
    assert [limiter.lease(f"10.1.{n}.1").verdict for n in range(6)] == [*[ADMIT] * 5, CUT]
    assert limiter.total <= 25
    assert limiter.displaced


def test_who_still_reads_its_last_answer_does_not_give_way():
    limiter = ConnectionLimiter(CONFIG, NOBODY)
    for n in range(25):
        lease = limiter.lease(f"10.0.{n}.1")
        lease.give_way = lambda: False
        lease.part()
    assert limiter.total == 25


def test_being_vouched_for_does_not_undo_a_refusal():
    limiter = ConnectionLimiter(CONFIG, Trust.parse(["192.0.2.1"]))
    leases = [limiter.lease("192.0.2.1") for _ in range(25)]
    for n, lease in enumerate(leases):
        lease.vouched(f"10.{n}.0.1")
    assert [lease.verdict for lease in leases] == [*[ADMIT] * 20, *[FULL] * 5]


class AnyTraffic(RuleBasedStateMachine):
    """Whatever comes, is vouched for, asks and goes, in any order: no cap is ever exceeded by those who were admitted,
    and whoever finds a block full finds there nobody heavier whose request has not come whole."""

    CAPS = EdgeConfig(connections=12, connections_per_client=3, connections_per_block=4)
    """Few, so that blocks fill often."""
    ADDRESSES = st.sampled_from(
        ["192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.1", "2001:db8::1", "2001:db8:0:1::1"]
    )

    def __init__(self):
        super().__init__()
        self.limiter = ConnectionLimiter(self.CAPS, Trust.parse(["127.0.0.1", "unix"]))
        self.open: list[Lease] = []
        self.refused: set[Lease] = set()
        self.asked: set[Lease] = set()

    def weight(self, lease):
        return sum(other.charged and other.key.address == lease.key.address for other in self.open)

    def note(self, lease):
        if lease.verdict is not ADMIT:
            self.refused.add(lease)
            if lease.charged and self.weight(lease) <= self.CAPS.connections_per_client:
                self.found_the_block_full(lease)
        if lease.verdict is CUT:
            lease.release()
            self.open = [other for other in self.open if other is not lease]

    def found_the_block_full(self, newcomer):
        neighbours = [lease for lease in self.open if lease.charged and lease.key.block == newcomer.key.block]
        heavier = [lease for lease in neighbours if self.weight(lease) > self.weight(newcomer)]
        assert self.asked.issuperset(heavier)

    @rule(peer=st.one_of(ADDRESSES, st.sampled_from(["127.0.0.1", None])), asks=st.booleans())
    def come(self, peer, asks):
        lease = self.limiter.lease(peer)
        self.open.append(lease)
        if lease.verdict is not CUT:
            lease.give_way = lambda: self.give_way(lease)
        if asks:
            self.asked.add(lease)
        self.note(lease)

    def give_way(self, lease):
        if lease in self.asked:
            return False
        assert self.weight(lease) == max(
            self.weight(other)
            for other in self.open
            if other.charged and other.key.block == lease.key.block and other not in self.asked
        )
        self.open.remove(lease)
        return True

    @rule(data=st.data())
    def ask(self, data):
        """A request has come whole."""
        if self.open:
            self.asked.add(data.draw(st.sampled_from(self.open)))

    @rule(data=st.data())
    def answered(self, data):
        """The connection is idle again."""
        if asked := [lease for lease in self.open if lease in self.asked]:
            self.asked.remove(data.draw(st.sampled_from(asked)))

    @rule(data=st.data(), address=ADDRESSES)
    def vouch(self, data, address):
        proxied = [lease for lease in self.open if lease.trusted and not lease.charged]
        if proxied:
            lease = data.draw(st.sampled_from(proxied))
            lease.vouched(address)
            self.note(lease)

    @rule(data=st.data())
    def leave(self, data):
        if self.open:
            self.open.pop(data.draw(st.integers(0, len(self.open) - 1))).release()

    @invariant()
    def a_refusal_stands(self):
        assert all(lease.verdict is not ADMIT for lease in self.refused)

    @invariant()
    def no_cap_is_exceeded(self):
        admitted = [lease for lease in self.open if lease.verdict is ADMIT]
        charged = [lease.key for lease in admitted if lease.charged]
        assert len(admitted) <= self.CAPS.connections
        for key in charged:
            assert sum(other.address == key.address for other in charged) <= self.CAPS.connections_per_client
            assert sum(other.block == key.block for other in charged) <= self.CAPS.connections_per_block

    @invariant()
    def everybody_is_counted_once(self):
        assert self.limiter.total == len(self.open) <= self.CAPS.connections + self.CAPS.connections // 4
        assert self.limiter.clients == len({lease.key.address for lease in self.open if lease.charged})


test_no_cap_is_exceeded_whatever_comes_and_goes = AnyTraffic.TestCase
