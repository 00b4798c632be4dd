"""The pool: which engine is asked, how often, and that no ask and no slot is lost."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.chat.ask import Ask
from standpipe.chat.errors import EngineFailed, InvalidAsk, NoEngine, UnknownModel
from standpipe.chat.events import Finished, ReasoningDelta, Started, TextDelta, ToolCallDelta
from standpipe.engines.engine import Sink
from standpipe.engines.pool import Pool, Report
from standpipe.policy.breaker import BreakerState
from tests.engines.puppet import DONE, Puppet, answered, ask, failed, now, pool_of, raises, running, says, scripted
from tests.virtual import Collected, run

# Choice


@pytest.mark.parametrize(("model", "engine"), [("small", "b"), ("large", "a"), ("gpt-4o", "a"), (None, "a")])
def test_a_listed_name_goes_to_its_engine_and_any_other_to_the_first(model, engine):
    async def scene() -> None:
        pool = await pool_of(scripted("name=a&model=large"), scripted("name=b&model=small"))
        report, sink = await answered(pool, model)
        assert report.engine == engine
        assert report.model == sink.answer.model == ("large" if engine == "a" else "small")

    run(scene())


@pytest.mark.parametrize(("model", "asked"), [("second", "second"), ("unknown", "first"), (None, "first")])
def test_an_engine_is_asked_only_for_models_that_it_lists(model, asked):
    async def scene() -> None:
        engine = Puppet(says(Started(), TextDelta("hi"), DONE), models=("first", "second"))
        report, sink = await answered(await pool_of(engine), model)
        assert engine.asked[0].model == asked
        # The engine did not say who it is, so it is named by what it was asked for.
        assert sink.answer.model == report.model == asked

    run(scene())


def test_an_engine_that_lists_nothing_decides_for_itself_and_is_named_by_its_own_name():
    async def scene() -> None:
        engine = Puppet(says(Started(), TextDelta("hi"), DONE), name="box")
        _, sink = await answered(await pool_of(engine), "gpt-4o")
        assert engine.asked[0].model is None
        assert sink.answer.model == "box"

    run(scene())


def test_the_operator_names_the_default_model():
    async def scene() -> None:
        engines = scripted("name=a&model=large"), scripted("name=b&model=small")
        pool = await pool_of(*engines, default_model="small")
        assert (await answered(pool, "gpt-4o"))[0].engine == "b"
        assert (await answered(pool, "large"))[0].engine == "a"
        assert pool.resolve(None) == pool.models()[0] == "small"

    run(scene())


def test_the_name_that_the_engine_gives_itself_wins():
    async def scene() -> None:
        engine = Puppet(says(Started("real-20b"), TextDelta("hi"), DONE), models=("alias",))
        report, sink = await answered(await pool_of(engine))
        assert report.model == sink.answer.model == "real-20b"

    run(scene())


def test_among_equals_the_one_with_most_free_slots_is_asked():
    async def scene() -> None:
        engines = scripted("name=a&slots=2&first=9"), scripted("name=b&slots=3&first=9")
        pool = await pool_of(*engines)
        taken = []
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                report = Report()
                group.create_task(pool.answer(ask(), Collected(), report))
                await asyncio.sleep(0.1)
                taken.append(report.engine)
        assert taken == ["b", "a", "b", "a", "b"]

    run(scene())


def test_a_full_engine_is_passed_over():
    async def scene() -> None:
        pool = await pool_of(scripted("name=a&model=large&slots=1&first=9"), scripted("name=b&model=small"))
        async with running(pool, model="large"):
            report, sink = await answered(pool, "large")
            assert report.engine == "b"
            assert sink.answer.model == "small"

    run(scene())


def test_no_engine_ever_gets_more_asks_than_slots():
    async def scene() -> None:
        engines = scripted("name=a&slots=2&first=1"), scripted("name=b&slots=3&first=1")
        pool = await pool_of(*engines)
        assert (pool.slots, pool.free) == (5, 5)
        refused = 0
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(pool.answer(ask(), Collected()))
            await asyncio.sleep(0.5)
            assert pool.free == 0
            for _ in range(3):
                _, sink, failure = await failed(pool)
                assert isinstance(failure, NoEngine)
                assert failure.retry_after == 1.0
                assert sink.events == []
                refused += 1
        assert refused == 3
        assert [engine.most for engine in engines] == [2, 3]
        assert pool.free == 5

    run(scene())


def test_an_engine_that_is_down_is_not_asked_while_another_is_up():
    async def scene() -> None:
        down, up = scripted("name=a&fault=refuse"), scripted("name=b")
        pool = await pool_of(down, up)
        assert (await answered(pool))[0] == Report(attempts=1, engine="b", model="scripted")
        assert down.asked == 0
        assert pool.free == up.slots

    run(scene())


def test_unknown_models_are_never_refused_by_the_pool():
    async def scene() -> None:
        engine = Puppet(raises(UnknownModel("no such model here")), models=("m",))
        # Only an engine may say so, and then it is final.
        report, _, failure = await failed(await pool_of(engine), "x")
        assert (report.attempts, type(failure)) == (1, UnknownModel)
        assert engine.asked[0].model == "m"

    run(scene())


# Attempts


def test_refused_connections_are_retried_with_doubling_delays():
    async def scene() -> None:
        pool = Pool([scripted("fault=refuse&faults=2&tokens=3")], chance=lambda: 1.0)
        report, sink = await answered(pool)
        assert report.attempts == 3
        assert now() == pytest.approx(0.25 + 0.5)
        assert len(sink.answer.text.split()) == 3

    run(scene())


@pytest.mark.parametrize("forgettable", [True, False])
def test_an_answer_is_begun_anew_only_where_it_can_be_forgotten(forgettable):
    async def scene() -> None:
        pool = Pool([scripted("tokens=5&fault=cut:2&faults=1")], chance=lambda: 0.0)
        sink, report = Collected(), Report()
        forget = partial(Collected.__init__, sink) if forgettable else None
        if forgettable:
            await pool.answer(ask(), sink, report, forget)
            assert len(sink.answer.text.split()) == 5
        else:
            with pytest.raises(EngineFailed):
                await pool.answer(ask(), sink, report, forget)
        assert report.attempts == 1 + forgettable

    run(scene())


def test_after_three_attempts_the_last_failure_is_the_answer():
    async def scene() -> None:
        engine = scripted("fault=status:503")
        report, sink, failure = await failed(await pool_of(engine))
        assert isinstance(failure, EngineFailed)
        assert (failure.upstream_status, report.attempts, engine.asked) == (503, 3, 3)
        assert sink.events == []

    run(scene())


def test_the_operator_may_allow_fewer_attempts():
    async def scene() -> None:
        report, _, _ = await failed(await pool_of(scripted("fault=status:503"), attempts=1))
        assert report.attempts == 1

    run(scene())


def test_a_bare_500_is_attempted_once_more():
    async def scene() -> None:
        report, _, _ = await failed(await pool_of(scripted("fault=status:500")))
        assert report.attempts == 2

    run(scene())


def test_other_engines_are_attempted_first():
    async def scene() -> None:
        engines = [scripted(f"name={name}&fault=status:502") for name in "abc"]
        report, _, _ = await failed(await pool_of(*engines))
        assert report.attempts == 3
        assert [engine.asked for engine in engines] == [1, 1, 1]

    run(scene())


def test_an_answer_fails_over_and_names_the_model_that_gave_it():
    async def scene() -> None:
        pool = await pool_of(scripted("name=a&model=large&fault=status:502"), scripted("name=b&model=small"))
        report, sink = await answered(pool, "large")
        assert report == Report(attempts=2, engine="b", model="small")
        assert sink.answer.model == "small"

    run(scene())


def test_an_engine_that_dies_right_after_it_started_is_followed_by_another_attempt():
    async def scene() -> None:
        pool = await pool_of(scripted("fault=cut:0&faults=1&tokens=2"))
        report, sink = await answered(pool)
        assert report.attempts == 2
        assert [type(event) for event in sink.events] == [Started, TextDelta, TextDelta, Finished]

    run(scene())


@pytest.mark.parametrize("said", [TextDelta("Half"), ReasoningDelta("Hm"), ToolCallDelta(0, id="c", name="f")])
def test_nothing_is_retried_once_something_was_sent(said):
    async def scene() -> None:
        async def break_off(_: Ask, sink: Sink) -> None:
            sink.take([Started("m"), said])
            raise EngineFailed("broke off")

        pool = await pool_of(Puppet(break_off), scripted("name=b"))
        report, sink, failure = await failed(pool)
        assert (report.attempts, failure.message) == (1, "broke off")
        assert sink.events == [Started("m"), said]

    run(scene())


def test_a_clients_fault_is_not_retried_and_not_blamed_on_the_engine():
    async def scene() -> None:
        engine = Puppet(raises(InvalidAsk("no", param="tools")))
        pool = await pool_of(engine, scripted("name=b"))
        for _ in range(20):
            report, _, failure = await failed(pool)
            assert (report.attempts, failure.param) == (1, "tools")
        assert pool.statistics().engines[0].breaker is BreakerState.CLOSED
        assert pool.statistics().engines[0].failed == 0

    run(scene())


def test_an_engine_that_names_a_time_is_asked_again_at_that_time():
    async def scene() -> None:
        async def busy_until_three(_: Ask, sink: Sink) -> None:
            if now() < 3:
                raise EngineFailed("busy", upstream_status=429, retry_after=3.0)
            sink.take([Started("m"), TextDelta("hi"), DONE])

        report, _ = await answered(await pool_of(Puppet(busy_until_three)))
        assert (report.attempts, now()) == (2, 3.0)

    run(scene())


def test_another_engine_does_not_wait_for_that_time():
    async def scene() -> None:
        busy = Puppet(raises(EngineFailed("busy", upstream_status=503, retry_after=30.0)))
        report, _ = await answered(await pool_of(busy, scripted("name=b")))
        assert (report.engine, now()) == ("b", 0.25)

    run(scene())


def test_an_empty_answer_is_attempted_once_more():
    async def scene() -> None:
        report, sink = await answered(await pool_of(scripted("fault=empty&faults=1&tokens=2")))
        assert report.attempts == 2
        assert len(sink.answer.text.split()) == 2

    run(scene())


def test_an_answer_that_is_empty_twice_is_empty():
    async def scene() -> None:
        engine = scripted("fault=empty&model=m")
        report, sink = await answered(await pool_of(engine))
        assert (report.attempts, engine.asked) == (2, 2)
        assert [type(event) for event in sink.events] == [Started, Finished]
        assert sink.answer.model == "m"

    run(scene())


def test_blank_deltas_are_no_answer():
    async def scene() -> None:
        engine = Puppet(says(Started("m"), TextDelta(""), DONE))
        report, sink = await answered(await pool_of(engine))
        assert report.attempts == 2
        assert sink.events == [Started("m"), TextDelta(""), DONE]

    run(scene())


def test_a_slot_that_was_taken_between_two_attempts_is_not_waited_for():
    async def scene() -> None:
        pool = Pool([scripted("slots=1&fault=refuse&faults=1&first=9")], chance=lambda: 1.0)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(failed(pool))
            await asyncio.sleep(0.1)
            async with running(pool):
                report, _, failure = await first
        assert isinstance(failure, EngineFailed)
        assert (report.attempts, now()) == (1, 0.25)

    run(scene())


def test_a_retry_budget_bounds_what_a_failing_engine_is_asked():
    async def scene() -> None:
        engine = scripted("fault=status:503")
        pool = await pool_of(engine)
        for _ in range(20):
            await failed(pool)
        # Twenty asks and the ten retries of a full budget; without it there were sixty.
        assert engine.asked == 30
        assert pool.statistics().retries == 10

    run(scene())


def test_answers_earn_an_engine_its_retries_back():
    async def scene() -> None:
        engine = scripted("fault=status:503&faults=30")
        pool = await pool_of(engine)
        for _ in range(20):
            await failed(pool)
        for _ in range(25):
            await answered(pool)
        assert pool.statistics().engines[0].budget == 2.5

    run(scene())


# The client leaves


@pytest.mark.parametrize(
    ("query", "leaves_at"),
    [
        ("first=10", 5.0),  # before the first token
        ("rate=1", 5.0),  # in mid-answer
        ("fault=hang", 5.0),  # while nothing comes
        ("fault=stall:2", 5.0),  # after it fell silent
        ("fault=refuse&faults=9", 0.1),  # between two attempts
        ("fault=cut:0&faults=1&first=0.2&rate=1", 3.0),  # in a second attempt
    ],
)
def test_a_client_that_leaves_frees_its_slot_at_once(query, leaves_at):
    async def scene() -> None:
        engine = scripted(query + "&slots=1")
        pool = Pool([engine], chance=lambda: 1.0)
        sink = Collected()
        task = asyncio.create_task(pool.answer(ask(), sink))
        await asyncio.sleep(leaves_at)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert now() == leaves_at
        assert (pool.free, pool.statistics().busy, engine.busy) == (1, 0, 0)
        assert sink.flow is None
        asked = engine.asked
        await asyncio.sleep(600)
        assert engine.asked == asked

    run(scene())


def test_a_sink_that_has_enough_stops_the_engine_and_is_not_retried():
    class Enough(Exception):
        pass

    class Full(Collected):
        def take(self, events):
            super().take(events)
            raise Enough

    async def scene() -> None:
        engine = scripted("rate=1")
        pool = await pool_of(engine, scripted("name=b"))
        with pytest.raises(Enough):
            await pool.answer(ask(), Full())
        assert (engine.asked, engine.busy, pool.statistics().busy) == (1, 0, 0)
        assert pool.statistics().engines[0].failed == 0

    run(scene())


# Any mixture

faults = st.sampled_from(
    [
        "",
        "fault=refuse",
        "fault=status:503",
        "fault=status:500",
        "fault=hang",
        "fault=stall:2",
        "fault=cut:0",
        "fault=cut:3",
    ]
)
machines = st.lists(
    st.tuples(faults, st.integers(1, 4), st.integers(1, 3), st.sampled_from([0, 5])), min_size=1, max_size=3
)
visits = st.lists(st.tuples(st.floats(0, 200), st.floats(0.01, 400)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(machines, visits, st.floats(0, 1, exclude_max=True))
def test_whatever_fails_and_whoever_leaves_every_ask_ends_once_and_every_slot_is_free(machines, visits, chance):
    engines = [
        scripted(f"name=e{place}&slots={slots}&rate={rate}&tokens=5&{fault}" + (f"&faults={times}" if fault else ""))
        for place, (fault, slots, times, rate) in enumerate(machines)
    ]

    async def visit(pool: Pool, line: asyncio.Semaphore, comes: float, stays: float) -> None:
        await asyncio.sleep(comes)
        sink, report = Collected(), Report()
        try:
            async with asyncio.timeout(stays), line:
                await pool.answer(ask(), sink, report)
        except TimeoutError:
            pass
        except EngineFailed:
            assert not any(isinstance(event, Finished) for event in sink.events)
        else:
            assert len(sink.answer.text.split()) == 5
            assert 1 <= report.attempts <= 3
        assert sink.flow is None

    async def scene() -> None:
        pool = Pool(engines, chance=lambda: chance)
        line = asyncio.Semaphore(pool.slots)
        async with asyncio.TaskGroup() as group:
            for comes, stays in visits:
                group.create_task(visit(pool, line, comes, stays))
        assert pool.statistics().busy == 0
        for engine in engines:
            assert engine.busy == 0
            assert engine.most <= engine.slots

    run(scene())
