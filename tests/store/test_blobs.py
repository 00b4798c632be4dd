from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from standpipe.policy.identity import ClientKey
from standpipe.store.blobs import Bounds, Kept, MemoryKept
from tests.virtual import run

ALICE = ClientKey("192.0.2.1", "192.0.2.0/24")
BOB = ClientKey("192.0.2.2", "192.0.2.0/24")
CAROL = ClientKey("198.51.100.1", "198.51.100.0/24")


def test_it_is_what_kept_things_need():
    kept: Kept = MemoryKept(Bounds())
    assert kept


def test_a_thing_is_its_owners_alone_for_as_long_as_the_limit():
    async def scene() -> None:
        kept = MemoryKept(Bounds(seconds=10))
        assert await kept.put("a", ALICE, b"hers", 0)
        assert await kept.get("a", ALICE, 9.9) == b"hers"
        assert await kept.get("a", BOB, 9.9) is None
        assert not await kept.delete("a", BOB, 9.9)
        assert await kept.get("a", ALICE, 10) is None
        assert kept.statistics().things == 0

    run(scene())


def test_two_shares_of_one_address_are_one_owner():
    async def scene() -> None:
        kept = MemoryKept(Bounds())
        await kept.put("a", ClientKey(ALICE.address, ALICE.block, "one"), b"x", 0)
        assert await kept.get("a", ALICE, 0) == b"x"

    run(scene())


def test_what_is_deleted_is_gone():
    async def scene() -> None:
        kept = MemoryKept(Bounds())
        await kept.put("a", ALICE, b"x", 0)
        assert await kept.delete("a", ALICE, 1)
        assert not await kept.delete("a", ALICE, 1)
        assert await kept.get("a", ALICE, 1) is None
        assert (kept.statistics().bytes, kept.statistics().clients) == (0, 0)

    run(scene())


def test_a_silent_house_can_let_go():
    async def scene() -> None:
        kept = MemoryKept(Bounds(seconds=10))
        await kept.put("a", ALICE, b"x", 0)
        kept.forget(10)
        assert kept.statistics().things == 0

    run(scene())


def test_too_large_a_thing_is_not_kept_and_pushes_nothing_out():
    async def scene() -> None:
        kept = MemoryKept(Bounds(thing_bytes=4))
        await kept.put("a", ALICE, b"1234", 0)
        assert not await kept.put("b", ALICE, b"12345", 0)
        assert kept.statistics().things == 1
        tight = MemoryKept(Bounds(total_bytes=4))
        assert not await tight.put("b", ALICE, b"12345", 0)

    run(scene())


def test_a_clients_oldest_goes_when_it_keeps_too_many():
    async def scene() -> None:
        kept = MemoryKept(Bounds(per_client=2))
        for key in "abc":
            await kept.put(key, ALICE, b"x", 0)
        await kept.put("d", BOB, b"x", 0)
        assert [await kept.get(key, ALICE, 1) for key in "abc"] == [None, b"x", b"x"]
        assert await kept.get("d", BOB, 1) == b"x"
        assert kept.statistics().displaced == 1

    run(scene())


def test_when_room_is_short_the_block_that_holds_most_makes_room():
    async def scene() -> None:
        kept = MemoryKept(Bounds(total_bytes=10))
        await kept.put("c", CAROL, b"123", 0)
        await kept.put("a", ALICE, b"123", 0)
        await kept.put("b", BOB, b"123", 0)  # the block of Alice and Bob holds six of ten now
        assert await kept.put("d", CAROL, b"12", 0)
        assert await kept.get("a", ALICE, 0) is None
        assert await kept.get("c", CAROL, 0) == b"123"
        assert await kept.get("b", BOB, 0) == b"123"

    run(scene())


class Keeping(RuleBasedStateMachine):
    """Whatever comes in whatever order, the bounds hold and nobody gets what is not theirs."""

    BOUNDS = Bounds(seconds=10, thing_bytes=6, per_client=3, total_bytes=20)

    def __init__(self) -> None:
        super().__init__()
        self.kept = MemoryKept(self.BOUNDS)
        self.now = 0.0
        self.put_by: dict[str, tuple[ClientKey, bytes, float]] = {}

    @rule(owner=st.sampled_from([ALICE, BOB, CAROL]), value=st.binary(max_size=8))
    def put(self, owner: ClientKey, value: bytes) -> None:
        key = str(len(self.put_by))
        self.put_by[key] = (owner, value, self.now + self.BOUNDS.seconds)
        assert run(self.kept.put(key, owner, value, self.now)) == (len(value) <= self.BOUNDS.thing_bytes)

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data(), owner=st.sampled_from([ALICE, BOB, CAROL]))
    def delete(self, data: st.DataObject, owner: ClientKey) -> None:
        if self.put_by:
            key = data.draw(st.sampled_from(sorted(self.put_by)))
            there = run(self.kept.get(key, owner, self.now)) is not None
            assert run(self.kept.delete(key, owner, self.now)) == there
            assert run(self.kept.get(key, owner, self.now)) is None

    @invariant()
    def nobody_gets_what_is_not_theirs_or_not_any_more(self) -> None:
        for key, (owner, value, until) in self.put_by.items():
            for asking in (ALICE, BOB, CAROL):
                found = run(self.kept.get(key, asking, self.now))
                assert found is None or (asking == owner and found == value and self.now < until)

    @invariant()
    def the_bounds_hold_and_the_count_is_right(self) -> None:
        self.kept.forget(self.now)
        held = {
            key: (owner, value)
            for key, (owner, value, _) in self.put_by.items()
            if run(self.kept.get(key, owner, self.now)) is not None
        }
        statistics = self.kept.statistics()
        assert statistics.things == len(held)
        assert statistics.bytes == sum(len(value) for _, value in held.values()) <= self.BOUNDS.total_bytes
        assert statistics.clients == len({owner for owner, _ in held.values()})
        for client in (ALICE, BOB, CAROL):
            assert sum(owner == client for owner, _ in held.values()) <= self.BOUNDS.per_client


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
