"""A conversation stays at the engine that answered it, while that has room and is not much busier than the others."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from standpipe.chat.ask import Ask, EmbedAsk, Message, Role, Text
from standpipe.engines.attempt import Report
from standpipe.engines.pool import Pool
from tests.engines.puppet import pool_of, running, scripted
from tests.virtual import Collected, run


def turn(number: int, topic: str = "a") -> Ask:
    said = ("be kind", *(f"{topic}{index}" for index in range(2 * number - 1)))
    return Ask(tuple(Message(Role.USER, (Text(text),)) for text in said))


async def answered(pool: Pool, ask: Ask) -> Report:
    report = Report()
    await pool.answer(ask, Collected(), pool.journey(report, b"", ask))
    return report


async def three(slack: float = 0.25, slots: int = 4) -> Pool:
    engines = (scripted(f"name={name}&slots={slots}&first=1&tokens=1") for name in "abc")
    return await pool_of(*engines, affinity_slack=slack)


def test_a_conversation_stays_and_a_new_one_goes_where_least_is_done():
    async def scene() -> None:
        pool = await three()
        homes = {topic: (await answered(pool, turn(1, topic))).engine for topic in "abcdefg"}
        assert set(homes.values()) == set("abc")
        for number in (2, 3):
            for topic, home in sorted(homes.items(), reverse=True):
                assert (await answered(pool, turn(number, topic))).engine == home

    run(scene())


@pytest.mark.parametrize(("others", "stays"), [(0, True), (1, True), (2, False), (4, False)])
def test_it_goes_elsewhere_when_its_engine_is_much_busier_or_full_and_stays_there(others, stays):
    async def scene() -> None:
        pool = await three()
        home = (await answered(pool, turn(1))).engine
        member = next(member for member in pool.fleet.members if member.engine.name == home)
        member.busy += others
        there = (await answered(pool, turn(2))).engine
        assert (there == home) is stays
        member.busy -= others
        assert (await answered(pool, turn(3))).engine == there

    run(scene())


def test_nobody_waits_for_an_engine_while_another_has_room():
    async def scene() -> None:
        pool = await three(slack=1.0, slots=1)
        home = (await answered(pool, turn(1))).engine
        begun = asyncio.get_running_loop().time()
        async with AsyncExitStack() as stack:
            for member in pool.fleet.members:
                member.busy += member.engine.name != home
            await stack.enter_async_context(running(pool))
            for member in pool.fleet.members:
                member.busy -= member.engine.name != home
            assert (await answered(pool, turn(2))).engine != home
        assert asyncio.get_running_loop().time() - begun == pytest.approx(1.0)

    run(scene())


def test_an_engine_that_fails_is_no_home():
    async def scene() -> None:
        bad = scripted("name=a&slots=9&fault=status:502&faults=1&tokens=1")
        pool = await pool_of(bad, scripted("name=b&tokens=1"), affinity_slack=1.0)
        assert (await answered(pool, turn(1))).engine == "b"
        bad.asked = 0
        await asyncio.sleep(100)
        assert (await answered(pool, turn(2))).engine == "b"

    run(scene())


def test_nothing_is_computed_where_there_is_one_engine_or_no_such_preference():
    async def scene() -> None:
        assert (await three()).journey(Report(), b"", turn(2)).prefixes
        assert not (await three(slack=0.0)).journey(Report(), b"", turn(2)).prefixes
        assert not (await three()).journey(Report(), b"", EmbedAsk(("text",))).prefixes
        alone = await pool_of(scripted(), affinity_slack=0.25)
        assert not alone.journey(Report(), b"", turn(2)).prefixes

    run(scene())
