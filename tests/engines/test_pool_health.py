"""The pool over time: engines that fail, recover, come and go."""

from __future__ import annotations

import asyncio

import pytest

from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import Started, TextDelta
from standpipe.engines.engine import Health
from standpipe.engines.member import Member
from standpipe.policy.breaker import BreakerState
from tests.engines.puppet import (
    DONE,
    Puppet,
    answered,
    choice_of,
    failed,
    now,
    pool_of,
    raw_pool_of,
    room,
    running,
    says,
    scripted,
)
from tests.virtual import run

# Health


def test_an_engine_that_keeps_failing_is_passed_over_and_then_probed():
    async def scene() -> None:
        bad, good = scripted("name=a&slots=9&fault=status:502&faults=6"), scripted("name=b&slots=1&first=0.1&tokens=1")
        pool = await pool_of(bad, good)
        while pool.fleet.statistics().engines[0].breaker is not BreakerState.OPEN:
            assert (await answered(pool))[0].engine == "b"
        opened_at = now()
        assert bad.asked == 5
        assert (await answered(pool))[0].attempts == 1
        assert room(pool) == good.slots

        await asyncio.sleep(opened_at + 1.0 - now())
        assert pool.fleet.statistics().engines[0].breaker is BreakerState.HALF_OPEN
        async with running(pool):
            assert (await answered(pool))[0].engine == "b"  # the probe fails, the client does not notice
        assert (bad.asked, pool.fleet.statistics().engines[0].breaker) == (6, BreakerState.OPEN)
        await asyncio.sleep(pool.fleet.statistics().engines[0].retry_in)
        async with running(pool):
            assert (await answered(pool))[0].engine == "a"
        assert pool.fleet.statistics().engines[0].breaker is BreakerState.CLOSED

    run(scene())


def test_an_engine_that_had_begun_to_speak_works_even_if_the_client_left():
    async def scene() -> None:
        pool = await pool_of(scripted("fault=status:502&faults=4&rate=1"), attempts=1)
        for _ in range(4):
            await failed(pool)
        async with running(pool):
            await asyncio.sleep(5)
        # Its next failure is the first in a row again.
        assert pool.fleet.statistics().engines[0].failed == 4
        assert pool.fleet.statistics().engines[0].failures == 0

    run(scene())


def test_what_others_have_an_engine_do_leaves_fewer_slots_here_but_always_one():
    class Shared(Puppet):
        work: int | None = 0

        async def health(self) -> Health:
            return Health(up=True, at_work=self.work)

    async def scene() -> None:
        shared = Shared(says(), slots=4)
        member, rooms = Member(shared), []
        for busy, work in ((0, None), (0, 3), (2, 3), (2, 2), (0, 9), (1, 9), (0, 0)):
            member.busy, shared.work = busy, work
            await member.refresh()
            rooms.append(member.room(0.0))
        assert rooms == [4, 1, 1, 2, 1, 0, 4]

    run(scene())


def test_one_ask_probes_while_the_others_go_elsewhere():
    async def scene() -> None:
        engine = scripted("name=a&slots=9&fault=status:502&faults=5&first=3&tokens=2&rate=1")
        pool = await pool_of(engine, attempts=1)
        for _ in range(5):
            await failed(pool)
        assert room(pool) == 0
        await asyncio.sleep(1.0)
        async with running(pool):
            assert pool.fleet.statistics().engines[0].breaker is BreakerState.PROBING
            assert (room(pool), engine.busy) == (0, 1)
        # The probe's client left without a verdict: the next ask is the probe.
        assert pool.fleet.statistics().engines[0].breaker is BreakerState.HALF_OPEN
        async with running(pool):
            await asyncio.sleep(3.0)
            # It has begun to speak: that is enough to let more asks come, though not all at once.
            assert pool.fleet.statistics().engines[0].breaker is BreakerState.CLOSED
            assert room(pool) == 2

    run(scene())


def test_when_no_engine_is_trusted_asks_wait_for_the_first_that_may_be_again():
    async def scene() -> None:
        engine = scripted("fault=status:502&faults=7&tokens=2")
        pool = await pool_of(engine, attempts=1)
        for _ in range(7):
            await failed(pool)
        assert now() == pytest.approx(1 + 2)  # five at once, and a probe each time that the breaker half-opens
        assert not pool.fleet.health().up
        assert room(pool) == 0
        _, sink = await answered(pool)
        assert now() == pytest.approx(1 + 2 + 4)
        assert sink.answer.text
        assert pool.fleet.health().up

    run(scene())


def test_a_refresh_notices_that_an_engine_went_down_and_came_back():
    class Flickering(Puppet):
        async def health(self) -> Health:
            return Health(up=now() >= 5, reason="The engine refuses connections.")

    async def scene() -> None:
        pool = await pool_of(Flickering(says(Started("m"), TextDelta("hi"), DONE), models=("m",)))
        assert pool.fleet.health() == Health(up=False, reason="The engine refuses connections.")
        assert pool.fleet.models() == ()
        await asyncio.sleep(3)
        assert pool.fleet.away(now()) == 3
        await asyncio.sleep(2)
        await pool.fleet.refresh()
        assert pool.fleet.health() == Health(up=True)
        assert pool.fleet.away(now()) is None
        assert pool.fleet.models() == ("m",)

    run(scene())


def test_an_engine_that_does_not_tell_its_health_in_time_is_down():
    class Mute(Puppet):
        async def health(self) -> Health:
            await asyncio.sleep(1e6)
            raise AssertionError

    async def scene() -> None:
        pool = await pool_of(Mute(says(Started("m"), TextDelta("hi"), DONE)), scripted("name=b"))
        assert now() == 10.0
        assert not pool.fleet.statistics().engines[0].up
        assert (await answered(pool))[0].engine == "b"

    run(scene())


def test_an_engine_that_lists_no_models_may_answer_all_the_same():
    class Unlisted(Puppet):
        async def models(self) -> tuple[str, ...]:
            raise EngineFailed("no such path", upstream_status=404)

    async def scene() -> None:
        pool = await pool_of(Unlisted(says(Started("m"), TextDelta("hi"), DONE), name="a"))
        assert pool.fleet.health().up
        assert pool.fleet.resolve("x") == "a"
        assert (await answered(pool, "x"))[0].engine == "a"

    run(scene())


def test_models_are_listed_once_with_the_default_first():
    async def scene() -> None:
        pool = await pool_of(Puppet(says(), models=("m", "n")), Puppet(says(), models=("n", "o")), default_model="o")
        assert pool.fleet.models() == ("o", "m", "n")

    run(scene())


def test_closing_closes_every_engine_even_if_one_cannot():
    class Stuck(Puppet):
        async def close(self) -> None:
            await super().close()
            raise EngineFailed("stuck")

    async def scene() -> None:
        engines = Puppet(says()), Stuck(says()), Puppet(says())
        pool = raw_pool_of(*engines)
        with pytest.raises(EngineFailed, match="stuck"):
            await pool.fleet.close()
        assert [engine.closed for engine in engines] == [1, 1, 1]

    run(scene())


def test_a_pool_without_engines_is_no_pool():
    with pytest.raises(ValueError, match="at least one"):
        raw_pool_of()


def test_statistics_and_repr_tell_what_goes_on():
    async def scene() -> None:
        pool = await pool_of(scripted("name=a&first=5&slots=2"))
        async with running(pool):
            statistics = pool.fleet.statistics()
            assert (statistics.slots, statistics.busy, choice_of(pool).retries) == (2, 1, 0)
            assert "a 1/2 closed" in repr(pool.fleet)
        await answered(pool)
        (engine,) = pool.fleet.statistics().engines
        assert (engine.attempts, engine.answered, engine.failed, engine.busy) == (2, 1, 0, 0)

    run(scene())
