from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from standpipe.policy.identity import ClientKey
from standpipe.store.blobs import Blobs, Quota

ALICE = ClientKey("192.0.2.1", "192.0.2.0/24")
BOB = ClientKey("192.0.2.2", "192.0.2.0/24")
CAROL = ClientKey("198.51.100.1", "198.51.100.0/24")


def test_a_blob_is_its_owners_alone_for_as_long_as_the_limit():
    kept = Blobs(Quota(seconds=10))
    assert kept.put("a", ALICE, b"hers", 0)
    assert kept.get("a", ALICE, 9.9) == b"hers"
    assert kept.get("a", BOB, 9.9) is None
    assert not kept.delete("a", BOB, 9.9)
    assert kept.get("a", ALICE, 10) is None
    assert len(kept) == 0


def test_two_shares_of_one_address_are_one_owner():
    kept = Blobs(Quota())
    kept.put("a", ClientKey(ALICE.address, ALICE.block, "one"), b"x", 0)
    assert kept.get("a", ALICE, 0) == b"x"


def test_what_is_deleted_is_gone():
    kept = Blobs(Quota())
    kept.put("a", ALICE, b"x", 0)
    assert kept.delete("a", ALICE, 1)
    assert not kept.delete("a", ALICE, 1)
    assert kept.get("a", ALICE, 1) is None
    assert (kept.bytes, len(kept)) == (0, 0)


def test_a_silent_server_can_let_go():
    kept = Blobs(Quota(seconds=10))
    kept.put("a", ALICE, b"x", 0)
    kept.expire(10)
    assert len(kept) == 0


def test_too_large_a_blob_is_not_kept_and_pushes_nothing_out():
    kept = Blobs(Quota(blob_bytes=4))
    kept.put("a", ALICE, b"1234", 0)
    assert not kept.put("b", ALICE, b"12345", 0)
    assert len(kept) == 1
    tight = Blobs(Quota(total_bytes=4))
    assert not tight.put("b", ALICE, b"12345", 0)


def test_a_clients_oldest_goes_when_it_keeps_too_many():
    kept = Blobs(Quota(per_client=2))
    for key in "abc":
        kept.put(key, ALICE, b"x", 0)
    kept.put("d", BOB, b"x", 0)
    assert [kept.get(key, ALICE, 1) for key in "abc"] == [None, b"x", b"x"]
    assert kept.get("d", BOB, 1) == b"x"


def test_when_room_is_short_the_block_that_holds_most_makes_room():
    kept = Blobs(Quota(total_bytes=10))
    kept.put("c", CAROL, b"123", 0)
    kept.put("a", ALICE, b"123", 0)
    kept.put("b", BOB, b"123", 0)  # the block of Alice and Bob holds six of ten now
    assert kept.put("d", CAROL, b"12", 0)
    assert kept.get("a", ALICE, 0) is None
    assert kept.get("c", CAROL, 0) == b"123"
    assert kept.get("b", BOB, 0) == b"123"


class Keeping(RuleBasedStateMachine):
    """Whatever comes in whatever order, the bounds hold and nobody gets what is not theirs."""

    BOUNDS = Quota(seconds=10, blob_bytes=6, per_client=3, total_bytes=20)

    def __init__(self) -> None:
        super().__init__()
        self.kept = Blobs(self.BOUNDS)
        self.now = 0.0
        self.put_by: dict[str, tuple[ClientKey, bytes, float]] = {}

    @rule(owner=st.sampled_from([ALICE, BOB, CAROL]), value=st.binary(max_size=8))
    def put(self, owner: ClientKey, value: bytes) -> None:
        key = str(len(self.put_by))
        self.put_by[key] = (owner, value, self.now + self.BOUNDS.seconds)
        assert self.kept.put(key, owner, value, self.now) == (len(value) <= self.BOUNDS.blob_bytes)

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data(), owner=st.sampled_from([ALICE, BOB, CAROL]))
    def delete(self, data: st.DataObject, owner: ClientKey) -> None:
        if self.put_by:
            key = data.draw(st.sampled_from(sorted(self.put_by)))
            there = self.kept.get(key, owner, self.now) is not None
            assert self.kept.delete(key, owner, self.now) == there
            assert self.kept.get(key, owner, self.now) is None

    @invariant()
    def nobody_gets_what_is_not_theirs_or_not_any_more(self) -> None:
        for key, (owner, value, until) in self.put_by.items():
            for asking in (ALICE, BOB, CAROL):
                found = self.kept.get(key, asking, self.now)
                assert found is None or (asking == owner and found == value and self.now < until)

    @invariant()
    def the_bounds_hold_and_the_count_is_right(self) -> None:
        self.kept.expire(self.now)
        held = {
            key: (owner, value)
            for key, (owner, value, _) in self.put_by.items()
            if self.kept.get(key, owner, self.now) is not None
        }
        assert len(self.kept) == len(held)
        assert self.kept.bytes == sum(len(value) for _, value in held.values()) <= self.BOUNDS.total_bytes
        for client in (ALICE, BOB, CAROL):
            assert sum(owner == client for owner, _ in held.values()) <= self.BOUNDS.per_client


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
