"""One attempt: what reaches the sink, and for how long an engine may be silent."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from standpipe.chat.ask import Ask, Sampling
from standpipe.chat.errors import EngineFailed, EngineTimeout, NoAnswer
from standpipe.chat.events import Finished, FinishReason, ReasoningDelta, Started, TextDelta
from standpipe.engines.attempt import Attempt, Report, Silence
from standpipe.engines.engine import Sink
from standpipe.engines.seats import Journey
from tests.engines.puppet import (
    DONE,
    Puppet,
    answered,
    ask,
    failed,
    now,
    pool_of,
    raises,
    says,
    scripted,
)
from tests.virtual import Collected, run

# Events


def test_started_waits_for_the_first_word_and_batches_stay_whole():
    async def scene() -> None:
        async def behave(_: Ask, sink: Sink) -> None:
            sink.take([Started("m")])
            await asyncio.sleep(1)
            sink.take([TextDelta("a"), TextDelta("b")])
            await asyncio.sleep(1)
            sink.take([TextDelta("c"), DONE])

        _, sink = await answered(await pool_of(Puppet(behave)))
        assert sink.batches == [[Started("m"), TextDelta("a"), TextDelta("b")], [TextDelta("c"), DONE]]
        assert sink.at == [1.0, 2.0]

    run(scene())


def test_who_answers_is_known_before_the_first_event():
    class Asking(Collected):
        def take(self, events):
            if not self.events:
                known.append((report.attempts, report.engine, report.model))
            super().take(events)

    known: list[object] = []
    report = Report()

    async def scene() -> None:
        pool = await pool_of(scripted("name=a&model=large&fault=cut:0"), scripted("name=b&model=small"))
        pool.fleet.fallbacks = {"large": ("small",)}
        await pool.answer(ask(), Asking(), Journey(report))

    run(scene())
    assert known == [(2, "b", "small")]


def test_an_attempt_tells_where_it_is():
    async def scene() -> None:
        report, spoken = Report(1, "a", "m"), list[float]()
        attempt = Attempt(Collected(), report, Silence(1.0, 1.0), lambda: spoken.append(now()))
        seen = [repr(attempt)]
        for events in ([Started("m", ("raw",))], [TextDelta("hi")], [DONE]):
            attempt.take(list(events))
            assert report.dropped == ("raw",)
            seen.append(repr(attempt))
        assert [text.split(": ")[1] for text in seen] == ["silent>", "silent>", "opened>", "whole>"]
        assert spoken == [0.0]

    run(scene())


@pytest.mark.parametrize("forgettable", [False, True])
def test_a_turn_that_only_reasons_has_failed_and_is_attempted_once_more_where_nothing_was_sent(forgettable):
    async def scene() -> None:
        engine = Puppet(says(Started("m"), ReasoningDelta("Hm."), TextDelta(" "), DONE))
        pool, sink = await pool_of(engine), Collected()
        with pytest.raises(NoAnswer, match="without an answer"):
            await pool.answer(ask(), sink, forget=partial(Collected.__init__, sink) if forgettable else None)
        assert len(engine.asked) == 1 + forgettable
        assert pool.fleet.members[0].standing.breaker.failures == 0

    run(scene())


@pytest.mark.parametrize(
    ("last", "stop"),
    [(Finished(FinishReason.LENGTH), ()), (Finished(FinishReason.CONTENT_FILTER), ()), (DONE, ("Hi",))],
)
def test_reasoning_is_enough_where_something_else_ended_the_turn(last, stop):
    async def scene() -> None:
        asked = replace(ask(), sampling=Sampling(stop=stop))
        await (await pool_of(Puppet(says(Started("m"), ReasoningDelta("Hm."), last)))).answer(
            asked, sink := Collected()
        )
        assert sink.events[-1] == last

    run(scene())


def test_an_engine_that_returns_without_finishing_has_failed():
    async def scene() -> None:
        engine = Puppet(says(Started("m"), TextDelta("Half")))
        _, sink, failure = await failed(await pool_of(engine))
        assert isinstance(failure, EngineFailed)
        assert sink.events == [Started("m"), TextDelta("Half")]

    run(scene())


def test_what_an_engine_does_wrong_after_it_finished_takes_nothing_away():
    async def scene() -> None:
        async def behave(_: Ask, sink: Sink) -> None:
            sink.take([Started("m"), TextDelta("hi"), DONE])
            raise EngineFailed("reset")

        async def linger(_: Ask, sink: Sink) -> None:
            sink.take([Started("m"), TextDelta("hi"), DONE])
            await asyncio.sleep(1e6)

        for behaviour in (behave, linger):
            report, sink = await answered(await pool_of(Puppet(behaviour)))
            assert report.attempts == 1
            assert sink.answer.text == "hi"

    run(scene())


def test_a_client_that_reads_slowly_holds_the_engine_back_through_the_pool():
    async def scene() -> None:
        pool = await pool_of(scripted("rate=10&tokens=20"), stall_timeout=5.0)
        sink = Collected()
        async with asyncio.TaskGroup() as group:
            group.create_task(pool.answer(ask(), sink))
            await asyncio.sleep(0.45)
            flow = sink.flow
            assert flow is not None
            flow.pause()
            before = len(sink.batches)
            # Much longer than an engine may be silent: it is the client who holds back.
            await asyncio.sleep(60)
            assert len(sink.batches) == before
            flow.resume()
        assert len(sink.answer.text.split()) == 20
        assert sink.flow is None

    run(scene())


# Patience


def test_an_engine_that_never_begins_is_left_for_another_one():
    async def scene() -> None:
        pool = await pool_of(scripted("name=a&fault=hang"), scripted("name=b"), first_token_timeout=30.0)
        report, _ = await answered(pool)
        assert report.engine == "b"
        assert now() == pytest.approx(30.0)

    run(scene())


def test_an_engine_that_only_says_that_it_started_has_not_begun():
    async def scene() -> None:
        async def behave(_: Ask, sink: Sink) -> None:
            sink.take([Started("m")])
            await asyncio.sleep(1e6)

        pool = await pool_of(Puppet(behave), first_token_timeout=30.0, attempts=1)
        _, sink, failure = await failed(pool)
        assert isinstance(failure, EngineTimeout)
        assert "30 s" in failure.message
        assert (now(), sink.events) == (30.0, [])

    run(scene())


@pytest.mark.parametrize("first_token_timeout", [10.0, 120.0])
def test_an_engine_that_falls_silent_is_cut_after_its_time(first_token_timeout):
    async def scene() -> None:
        pool = await pool_of(
            scripted("rate=1&fault=stall:3"), first_token_timeout=first_token_timeout, stall_timeout=60.0
        )
        report, sink, failure = await failed(pool)
        assert isinstance(failure, EngineTimeout)
        assert "60 s" in failure.message
        assert report.attempts == 1
        assert now() == pytest.approx(2.0 + 60.0)
        assert len(sink.events) == 4

    run(scene())


def test_a_slow_engine_that_keeps_speaking_is_never_cut():
    async def scene() -> None:
        pool = await pool_of(scripted("first=29&rate=0.02&tokens=30"), first_token_timeout=30.0, stall_timeout=60.0)
        _, sink = await answered(pool)
        assert len(sink.answer.text.split()) == 30

    run(scene())


def test_no_timer_is_left_behind():
    async def scene() -> None:
        pool = await pool_of(scripted("tokens=3"), scripted("name=b&fault=cut:2"))
        await answered(pool)
        loop: Any = asyncio.get_running_loop()
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []

    run(scene())


def test_a_timeout_of_somebody_else_is_not_the_engines():
    async def scene() -> None:
        pool = await pool_of(Puppet(raises(TimeoutError("a bug"))), scripted("name=b"))
        with pytest.raises(TimeoutError, match="a bug"):
            await pool.answer(ask(), Collected())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await (await pool_of(scripted("fault=hang"))).answer(ask(), Collected())

    run(scene())
