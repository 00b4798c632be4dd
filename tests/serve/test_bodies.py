"""Large bodies: what they hold, how they wait for it, and what they cost those who send them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from standpipe.chat.errors import MemoryFull, PaceExceeded, TooLarge
from standpipe.engines.scripted.script import Script
from standpipe.policy.body_budget import BodyBudget
from standpipe.policy.identity import ClientKey
from standpipe.serve.bodies import PATIENCE, REST, SMALL, Bodies
from tests.serve.driver import Reply, scene
from tests.virtual import run

MIB = 1 << 20


def client(number: int) -> ClientKey:
    return ClientKey(f"192.0.{number}.1", f"192.0.{number}.0/24")


class Sent:
    """A request's body, as it comes."""

    def __init__(self, size: int, seconds: float = 0.0, *, declares: bool = True) -> None:
        self.declared = size if declares else None
        self._size = size
        self._seconds = seconds
        self.asked = 0

    async def body(self, limit: int) -> bytes:
        self.asked += 1
        if self._size > limit:
            raise TooLarge("too large")
        await asyncio.sleep(self._seconds)
        return b"x" * self._size


class Admission:
    """Turns away whom it is told to."""

    def __init__(self) -> None:
        self.hasty: ClientKey | None = None

    def too_fast(self, who: ClientKey, _: float) -> bool:
        return who == self.hasty

    async def turn_away(self, *_: object) -> None:
        raise PaceExceeded("too fast")


def bodies(total: int = 16 * MIB, each: int = 8 * MIB, clock: Any = lambda: 0.0, admission: Any = None) -> Bodies:
    admission = admission or Admission()
    return Bodies(BodyBudget(total, each), 8 * MIB, admission, clock)


async def use(house: Bodies, sent: Any, who: int, seconds: float = 0.0) -> bytes:
    """Have a body, and keep it for so long."""
    with house.hold(sent, client(who)) as hold:
        body = await hold.body()
        await asyncio.sleep(seconds)
        return body


def test_a_small_body_takes_no_room_and_no_turn():
    async def play():
        house = bodies(total=MIB)
        await asyncio.gather(*(use(house, Sent(SMALL), 1, 1.0) for _ in range(99)))
        with house.hold(Sent(SMALL, declares=False), client(1)) as hold:
            assert len(await hold.body()) == SMALL
            assert house.budget.held == 0

    run(play())


def test_a_large_body_has_room_until_its_request_is_over():
    async def play():
        house = bodies()
        with house.hold(Sent(3 * MIB), client(1)) as hold:
            await hold.body()
            assert house.budget.held == 3 * MIB
            hold.resize(7 * MIB)
            assert house.budget.of(client(1)) == 7 * MIB
        assert house.budget.held == 0

    run(play())


def test_a_body_that_does_not_say_how_large_it_is_may_be_as_large_as_any():
    async def play():
        house = bodies()
        sent = Sent(MIB, 1.0, declares=False)
        using = asyncio.create_task(use(house, sent, 1, 1.0))
        await asyncio.sleep(0.5)
        assert house.budget.held == 8 * MIB
        await asyncio.sleep(1.0)
        assert house.budget.held == MIB
        assert len(await using) == MIB
        assert sent.asked == 2

    run(play())


def test_what_is_larger_than_the_limit_is_refused_at_once():
    async def play():
        house = bodies()
        for declares in (True, False):
            with pytest.raises(TooLarge):
                await use(house, Sent(9 * MIB, declares=declares), 1)
        assert house.budget.held == 0

    run(play())


def test_who_asks_too_fast_is_refused_before_a_large_body_is_read():
    async def play():
        admission, sent = Admission(), Sent(MIB)
        admission.hasty = client(1)
        house = bodies(admission=admission)
        with pytest.raises(PaceExceeded):
            await use(house, sent, 1)
        assert (sent.asked, house.budget.held) == (0, 0)
        assert await use(house, sent, 2)

    run(play())


def test_whoever_finds_no_room_waits_for_it():
    async def play():
        house, loop = bodies(), asyncio.get_running_loop()
        others = [asyncio.create_task(use(house, Sent(8 * MIB), who, 3.0)) for who in (1, 2)]
        await asyncio.sleep(1.0)
        await use(house, Sent(4 * MIB), 3)
        assert loop.time() == pytest.approx(3.0)
        await asyncio.gather(*others)
        assert house.budget.held == 0

    run(play())


def test_whoever_waits_in_vain_is_refused_unread_and_told_when_there_is_room():
    async def play():
        house, loop = bodies(), asyncio.get_running_loop()
        others = [asyncio.create_task(use(house, Sent(8 * MIB), who, 60.0)) for who in (1, 2)]
        await asyncio.sleep(0)
        for who, failure in ((1, PaceExceeded), (3, MemoryFull)):
            sent, begun = Sent(4 * MIB), loop.time()
            with pytest.raises(failure) as refused:
                await use(house, sent, who)
            assert loop.time() - begun == pytest.approx(PATIENCE)
            assert sent.asked == 0
            assert refused.value.retry_after > 0
        await asyncio.gather(*others)
        assert house.budget.held == 0

    run(play())


def test_whoever_leaves_while_it_waits_takes_no_room_with_it():
    async def play():
        house = bodies()
        others = [asyncio.create_task(use(house, Sent(8 * MIB), who, 3.0)) for who in (1, 2)]
        await asyncio.sleep(0)
        leaving = asyncio.create_task(use(house, Sent(8 * MIB), 3))
        await asyncio.sleep(1.0)
        leaving.cancel()
        await asyncio.gather(*others, leaving, return_exceptions=True)
        assert house.budget.held == 0

    run(play())


def test_whoever_claims_much_and_sends_little_makes_room():
    async def play():
        house, loop = bodies(), asyncio.get_running_loop()
        slow = [asyncio.create_task(use(house, Sent(8 * MIB, 100.0), who)) for who in (1, 2)]
        await asyncio.sleep(1.0)
        await use(house, Sent(MIB), 3)
        assert loop.time() == pytest.approx(1.0)
        assert house.displaced == 1
        with pytest.raises(MemoryFull):
            await slow[0]
        assert loop.time() == pytest.approx(1.0)
        await slow[1]
        assert house.budget.held == 0

    run(play())


def test_nobody_makes_room_for_whoever_would_hold_as_much_or_once_its_body_is_whole():
    async def play():
        house = bodies()
        others = [
            asyncio.create_task(use(house, Sent(8 * MIB, 100.0), 1)),
            asyncio.create_task(use(house, Sent(8 * MIB), 2, 100.0)),
        ]
        await asyncio.sleep(1.0)
        with pytest.raises(MemoryFull):
            await use(house, Sent(8 * MIB), 3)
        others.append(asyncio.create_task(use(house, Sent(MIB), 3, 100.0)))
        await asyncio.sleep(1.0)
        assert house.displaced == 1
        with pytest.raises(MemoryFull):
            await use(house, Sent(8 * MIB), 4)
        await asyncio.gather(*others, return_exceptions=True)

    run(play())


def test_large_bodies_are_read_one_after_another_with_rests():
    async def play():
        loop = asyncio.get_running_loop()
        spent = [0.0]
        house = bodies(clock=lambda: spent[0])
        starts = []

        def reading():
            starts.append(loop.time())
            spent[0] += 0.1

        async def one(who: int, size: int) -> None:
            with house.hold(Sent(size), client(who)) as hold:
                await hold.body()
                await house.read(hold, reading)

        await asyncio.gather(*(one(who, MIB) for who in range(3)))
        assert starts == pytest.approx([0.0, 0.1 * (1 + REST), 0.2 * (1 + REST)])
        await one(4, SMALL)
        assert starts[-1] == starts[-2]

    run(play())


SAID = "word " * (MIB // 2)
"""Two and a half megabytes."""


@scene(Script(tokens=1))
async def test_each_megabyte_counts_as_a_request(tap):
    assert (await tap.ask(SAID, stream=False)).status == 200
    reply = await tap.ask(stream=False)
    assert reply.headers["x-standpipe-waited"] == "1.500"
    assert (await tap.send("POST", "/api", b"[" + SAID.encode())).status == 400
    assert (await tap.ask(stream=False)).headers["x-standpipe-waited"] == "2.000"


@scene(Script(tokens=1))
async def test_counting_tokens_is_free_up_to_a_megabyte(tap):
    def count(said):
        return tap.send("POST", "/v1/messages/count_tokens", {"messages": [{"role": "user", "content": said}]})

    for _ in range(20):
        assert (await count(SAID[: MIB // 2])).status == 200
    assert (await tap.ask(stream=False)).headers["x-standpipe-waited"] == "0.000"
    statuses = [(await count(SAID)).status for _ in range(9)]
    assert (statuses[0], statuses[-1]) == (200, 429)


@scene(Script(tokens=30, rate=1, slots=2), pace_interval=0, body_memory=3 * MIB, body_memory_per_client=3 * MIB)
async def test_large_bodies_that_wait_in_line_leave_room_there_for_others(tap):
    first = tap.leaving(Reply(), said=SAID, peer="198.51.100.1")
    await asyncio.sleep(0.1)
    assert tap.center.line.statistics().bytes == 0
    refused = await tap.ask(SAID, peer="203.0.113.1")
    assert (refused.status, refused.json["error"]["code"]) == (503, "memory_full")
    assert int(refused.headers["retry-after"]) >= 1
    own = await tap.ask(SAID, peer="198.51.100.1")
    assert (own.status, own.json["error"]["code"]) == (429, "rate_limit_exceeded")
    assert (await tap.ask(peer="203.0.113.1", max_tokens=1)).status == 200
    await first
    assert (await tap.ask(SAID, peer="203.0.113.1")).status == 200
