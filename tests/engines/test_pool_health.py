"""The pool over time: engines that fail, recover, come and go."""

from __future__ import annotations

import asyncio

import pytest

from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import Started, TextDelta
from standpipe.engines.engine import Health
from standpipe.engines.pool import Pool, Report
from standpipe.policy.breaker import BreakerState
from tests.engines.puppet import DONE, Puppet, answered, failed, now, pool_of, running, says, scripted
from tests.virtual import run

# Health


def test_an_engine_that_keeps_failing_is_passed_over_and_then_probed():
    async def scene() -> None:
        bad, good = scripted("name=a&slots=9&fault=status:502&faults=6"), scripted("name=b")
        pool = await pool_of(bad, good)
        for _ in range(5):
            assert (await answered(pool))[0].attempts == 2
        opened_at = now()
        assert pool.statistics().engines[0].breaker is BreakerState.OPEN
        assert (await answered(pool))[0] == Report(1, "b", "scripted")
        assert pool.free == good.slots

        await asyncio.sleep(opened_at + 1.0 - now())
        assert pool.statistics().engines[0].breaker is BreakerState.HALF_OPEN
        assert (await answered(pool))[0].attempts == 2  # the probe fails, the client does not notice
        assert pool.statistics().engines[0].retry_in == pytest.approx(2.0 - 0.25)
        await asyncio.sleep(2.0)
        assert (await answered(pool))[0] == Report(1, "a", "scripted")
        assert pool.statistics().engines[0].breaker is BreakerState.CLOSED

    run(scene())


def test_an_engine_that_had_begun_to_speak_works_even_if_the_client_left():
    async def scene() -> None:
        pool = await pool_of(scripted("fault=status:502&faults=4&rate=1"), attempts=1)
        for _ in range(4):
            await failed(pool)
        async with running(pool):
            await asyncio.sleep(5)
        # Its next failure is the first in a row again.
        assert pool.statistics().engines[0].failed == 4
        assert pool.statistics().engines[0].failures == 0

    run(scene())


def test_one_ask_probes_while_the_others_go_elsewhere():
    async def scene() -> None:
        bad, good = scripted("name=a&slots=9&fault=status:502&faults=5&first=3"), scripted("name=b")
        pool = await pool_of(bad, good)
        for _ in range(5):
            await answered(pool)
        await asyncio.sleep(1.0)
        async with running(pool):
            assert pool.statistics().engines[0].breaker is BreakerState.PROBING
            assert (await answered(pool))[0].engine == "b"
            assert bad.busy == 1
        # The probe's client left without a verdict: the next ask is the probe.
        assert pool.statistics().engines[0].breaker is BreakerState.HALF_OPEN
        assert (await answered(pool))[0].engine == "a"

    run(scene())


def test_when_no_engine_is_trusted_all_are_tried_anyway():
    async def scene() -> None:
        engine = scripted("fault=status:502&faults=7&tokens=2")
        pool = await pool_of(engine, attempts=1)
        for _ in range(7):
            await failed(pool)
        assert not pool.health().up
        assert pool.free == engine.slots
        _, sink = await answered(pool)
        assert sink.answer.text
        assert pool.health().up

    run(scene())


def test_a_refresh_notices_that_an_engine_went_down_and_came_back():
    async def scene() -> None:
        engine = scripted("fault=refuse&faults=3&model=m")
        pool = await pool_of(engine)
        assert pool.health() == Health(up=False, reason="The engine refuses connections.")
        assert pool.models() == ()
        await failed(pool)
        await pool.refresh()
        assert pool.health() == Health(up=True)
        assert pool.models() == ("m",)

    run(scene())


def test_an_engine_that_does_not_tell_its_health_in_time_is_down():
    class Mute(Puppet):
        async def health(self) -> Health:
            await asyncio.sleep(1e6)
            raise AssertionError

    async def scene() -> None:
        pool = await pool_of(Mute(says(Started("m"), TextDelta("hi"), DONE)), scripted("name=b"))
        assert now() == 10.0
        assert not pool.statistics().engines[0].up
        assert (await answered(pool))[0].engine == "b"

    run(scene())


def test_an_engine_that_lists_no_models_may_answer_all_the_same():
    class Unlisted(Puppet):
        async def models(self) -> tuple[str, ...]:
            raise EngineFailed("no such path", upstream_status=404)

    async def scene() -> None:
        pool = await pool_of(Unlisted(says(Started("m"), TextDelta("hi"), DONE), name="a"))
        assert pool.health().up
        assert pool.resolve("x") == "a"
        assert (await answered(pool, "x"))[0].engine == "a"

    run(scene())


def test_models_are_listed_once_with_the_default_first():
    async def scene() -> None:
        pool = await pool_of(Puppet(says(), models=("m", "n")), Puppet(says(), models=("n", "o")), default_model="o")
        assert pool.models() == ("o", "m", "n")

    run(scene())


def test_closing_closes_every_engine_even_if_one_cannot():
    class Stuck(Puppet):
        async def close(self) -> None:
            await super().close()
            raise EngineFailed("stuck")

    async def scene() -> None:
        engines = Puppet(says()), Stuck(says()), Puppet(says())
        pool = Pool(engines)
        with pytest.raises(EngineFailed, match="stuck"):
            await pool.close()
        assert [engine.closed for engine in engines] == [1, 1, 1]

    run(scene())


def test_a_pool_without_engines_is_no_pool():
    with pytest.raises(ValueError, match="at least one"):
        Pool([])


def test_statistics_and_repr_tell_what_goes_on():
    async def scene() -> None:
        pool = await pool_of(scripted("name=a&first=5&slots=2"))
        async with running(pool):
            statistics = pool.statistics()
            assert (statistics.slots, statistics.busy, statistics.retries) == (2, 1, 0)
            assert "a 1/2 closed" in repr(pool)
        await answered(pool)
        (engine,) = pool.statistics().engines
        assert (engine.attempts, engine.answered, engine.failed, engine.busy) == (2, 1, 0, 0)

    run(scene())
