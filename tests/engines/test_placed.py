"""Engines where their operator's tables place them: names, shares, spares, patience, drains."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from standpipe.chat.ask import Ask
from standpipe.chat.errors import EngineFailed, EngineTimeout, NoEngine
from standpipe.chat.events import Started, TextDelta
from standpipe.engines.attempt import Silence
from standpipe.engines.engine import Health, Sink
from standpipe.engines.placed import Placed, Placement
from tests.engines.puppet import (
    DONE,
    Puppet,
    answered,
    ask,
    failed,
    now,
    pool_of,
    raises,
    room,
    running,
    says,
    scripted,
)
from tests.virtual import Collected, run


def placed(engine, **placement):
    return Placed(engine, Placement(**placement))


def test_public_names_are_all_that_clients_see_and_own_ones_all_that_engines_hear():
    async def scene() -> None:
        engine = Puppet(says(Started("openai/gpt-oss-20b"), TextDelta("hi"), DONE), models=("openai/gpt-oss-20b", "x"))
        pool = await pool_of(placed(engine, models={"gpt-oss:latest": "openai/gpt-oss-20b"}))
        assert pool.fleet.models() == ("gpt-oss:latest",)
        for name in ("gpt-oss:latest", "openai/gpt-oss-20b", "x", None):
            report, sink = await answered(pool, name)
            assert report.model == sink.answer.model == "gpt-oss:latest"
        assert {one.model for one in engine.asked} == {"openai/gpt-oss-20b"}

    run(scene())


def test_a_model_of_the_table_is_called_by_its_name_whatever_its_engine_calls_it():
    async def scene() -> None:
        async def works(_: Ask, sink: Sink) -> None:
            sink.take([Started("m@main"), TextDelta("hi"), DONE])

        report, _ = await answered(await pool_of(placed(Puppet(works, models=("m",)), models={"m": "m"})))
        assert report.model == "m"

    run(scene())


def test_a_spare_is_asked_only_when_no_other_can():
    async def scene() -> None:
        spare = placed(scripted("name=spare&slots=64"), priority=1)
        pool = await pool_of(spare, scripted("name=first&slots=2&first=9"))
        async with running(pool), running(pool):
            assert (await answered(pool))[0].engine == "spare"
        assert (await answered(pool))[0].engine == "first"

    run(scene())


def test_equals_share_by_their_weights():
    async def scene() -> None:
        engines = [placed(scripted(f"name={n}&slots=90&first=9"), weight=n) for n in (1, 2)]
        pool = await pool_of(*engines)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(pool.answer(ask(), Collected())) for _ in range(90)]
            await asyncio.sleep(1)
            assert Counter({m.engine.name: m.busy for m in pool.fleet.members}) == {"1": 30, "2": 60}
            for task in tasks:
                task.cancel()

    run(scene())


def test_a_drained_engine_gets_nothing_new_and_ends_what_runs():
    async def scene() -> None:
        pool = await pool_of(scripted("name=a&slots=1&first=3&tokens=1"), placed(scripted("name=b"), drain=True))
        (a, b) = pool.fleet.members
        async with running(pool):
            _, _, failure = await failed(pool, patience=1.0)
            assert isinstance(failure, NoEngine)
            a.draining, b.draining = True, False
            assert (await answered(pool))[0].engine == "b"
            await asyncio.sleep(3)
            assert (a.busy, a.answered) == (0, 1)

    run(scene())


def test_each_has_patience_of_its_own():
    async def scene() -> None:
        slow = placed(scripted("name=slow&fault=hang"), silence=Silence(2.0, 1.0))
        _, _, failure = await failed(await pool_of(slow, attempts=1))
        assert isinstance(failure, EngineTimeout)
        assert now() == 2.0

    run(scene())


def test_slots_are_found_out_of_each_engine_by_itself():
    """One grows while all that it is given goes well, and shrinks when it says that it has too much, at once or of its
    queue; another one's number is the operator's."""

    async def scene() -> None:
        async def works(_: Ask, sink: Sink) -> None:
            await asyncio.sleep(0.1)
            sink.take([Started("m"), TextDelta("hi"), DONE])

        engine = Puppet(works, slots=8)
        told = Health(up=True)

        async def health() -> Health:
            return told

        engine.health = health  # type: ignore[method-assign]
        pool = await pool_of(placed(engine, auto=True), placed(scripted("name=b&slots=3"), priority=1))
        found, fixed = pool.fleet.members
        assert (found.slots, fixed.slots, room(pool)) == (1, 3, 4)
        for _ in range(40):
            await answered(pool)
        assert found.slots == 2  # no more than one ran at a time: more would be a guess
        for _ in range(40):
            await asyncio.gather(*(answered(pool) for _ in range(8)))
        assert (found.slots, fixed.slots) == (8, 3)
        assert found.statistics(now()).slots == 8

        told = Health(True, None, 0, 9, 4)
        await found.refresh()
        assert found.slots == 5
        engine.behaviour = raises(EngineFailed("busy", upstream_status=429))
        await asyncio.sleep(11)
        await answered(pool)
        assert found.slots == 3

    run(scene())


@pytest.mark.parametrize(("window", "told"), [(None, None), (4096, 4096)])
def test_a_window_of_the_table_is_told(window, told):
    async def scene() -> None:
        pool = await pool_of(placed(scripted("model=m"), window=window))
        assert pool.fleet.card("m").window == told

    run(scene())
