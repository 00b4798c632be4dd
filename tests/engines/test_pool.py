"""The pool: which engine is asked, how often, and that no ask and no slot is lost."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.chat.ask import Ask
from standpipe.chat.errors import ContextTooLong, EngineDown, EngineFailed, InvalidAsk, NoEngine, UnknownModel
from standpipe.chat.events import Finished, ReasoningDelta, Started, TextDelta, ToolCallDelta
from standpipe.engines.attempt import Report
from standpipe.engines.engine import Health, Sink
from standpipe.engines.fleet import Change
from standpipe.engines.pool import Pool
from standpipe.engines.seats import Journey
from standpipe.policy.breaker import BreakerState
from tests.engines.puppet import (
    DONE,
    Puppet,
    answered,
    ask,
    choice_of,
    failed,
    now,
    pool_of,
    raises,
    raw_pool_of,
    room,
    running,
    says,
    scripted,
    watched,
)
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
        assert pool.fleet.resolve(None) == pool.fleet.models()[0] == "small"

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
                group.create_task(pool.answer(ask(), Collected(), Journey(report)))
                await asyncio.sleep(0.1)
                taken.append(report.engine)
        assert taken == ["b", "a", "b", "a", "b"]

    run(scene())


def test_a_model_flows_over_to_another_only_where_the_operator_says_so():
    async def scene() -> None:
        pool = await pool_of(scripted("name=a&model=large&slots=1&first=9"), scripted("name=b&model=small"))
        async with running(pool, model="large"):
            _, _, failure = await failed(pool, model="large", patience=1.0)
            assert isinstance(failure, NoEngine)
            pool.fleet.fallbacks = {"large": ("none", "small")}
            report, sink = await answered(pool, "large")
            assert report.engine == "b"
            assert sink.answer.model == "small"

    run(scene())


def test_no_engine_ever_gets_more_asks_than_slots():
    async def scene() -> None:
        engines = scripted("name=a&slots=2&first=1"), scripted("name=b&slots=3&first=1")
        pool = await pool_of(*engines)
        assert (pool.fleet.slots, room(pool)) == (5, 5)
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(pool.answer(ask(), Collected()))
            await asyncio.sleep(0.5)
            assert room(pool) == 0
            for _ in range(3):
                _, sink, failure = await failed(pool, patience=0.1)
                assert isinstance(failure, NoEngine)
                assert failure.retry_after == 5.0
                assert sink.events == []
        assert [engine.most for engine in engines] == [2, 3]
        assert room(pool) == 5

    run(scene())


def test_an_ask_without_a_seat_gets_the_next_one_that_is_free():
    async def scene() -> None:
        pool = await pool_of(scripted("slots=1&first=1&tokens=1"))
        reports = [Report() for _ in range(3)]
        async with asyncio.TaskGroup() as group:
            for report in reports:
                group.create_task(pool.answer(ask(), Collected(), Journey(report)))
            await asyncio.sleep(0.5)
            assert [report.ahead for report in reports] == [None, 0, 1]
            assert choice_of(pool).seats.usable(now(), pool.fleet.members) == (3, 0)
        assert now() == pytest.approx(3.0)

    run(scene())


def test_an_engine_that_is_down_is_not_asked_while_another_is_up():
    async def scene() -> None:
        down, up = scripted("name=a&fault=refuse"), scripted("name=b")
        pool = await pool_of(down, up)
        assert (await answered(pool))[0] == Report(attempts=1, engine="b", model="scripted")
        assert down.asked == 0
        assert room(pool) == up.slots

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


def test_a_failing_engine_is_asked_again_with_doubling_delays():
    async def scene() -> None:
        pool = raw_pool_of(scripted("fault=status:502&faults=2&tokens=3"), chance=lambda: 1.0)
        report, sink = await answered(pool)
        assert report.attempts == 3
        assert now() == pytest.approx(0.25 + 0.5)
        assert len(sink.answer.text.split()) == 3

    run(scene())


@pytest.mark.parametrize("forgettable", [True, False])
def test_an_answer_is_begun_anew_only_where_it_can_be_forgotten(forgettable):
    async def scene() -> None:
        pool = raw_pool_of(scripted("tokens=5&fault=cut:2&faults=1"), chance=lambda: 0.0)
        sink, report = Collected(), Report()
        forget = partial(Collected.__init__, sink) if forgettable else None
        if forgettable:
            await pool.answer(ask(), sink, Journey(report), forget=forget)
            assert len(sink.answer.text.split()) == 5
        else:
            with pytest.raises(EngineFailed):
                await pool.answer(ask(), sink, Journey(report), forget=forget)
        assert report.attempts == 1 + forgettable

    run(scene())


def test_after_three_attempts_the_last_failure_is_the_answer():
    async def scene() -> None:
        engine = scripted("fault=status:502")
        report, sink, failure = await failed(await pool_of(engine))
        assert isinstance(failure, EngineFailed)
        assert (failure.upstream_status, report.attempts, engine.asked) == (502, 3, 3)
        assert sink.events == []

    run(scene())


def test_fewer_attempts_may_be_allowed():
    async def scene() -> None:
        report, _, _ = await failed(await pool_of(scripted("fault=status:502"), attempts=1))
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
        pool.fleet.fallbacks = {"large": ("small",)}
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


def test_what_one_engine_finds_wrong_is_shown_to_another_that_is_idle_and_then_told():
    async def scene() -> None:
        engines = [Puppet(raises(InvalidAsk(f"no {name}", param="tools")), name=name) for name in "abc"]
        pool = await pool_of(*engines)
        for _ in range(20):
            report, _, failure = await failed(pool)
            assert (report.attempts, failure.param) == (2, "tools")
            assert failure.message != f"no {report.engine}"  # it is the first opinion that is told
        for engine in pool.fleet.statistics().engines:
            assert (engine.breaker, engine.failed) == (BreakerState.CLOSED, 0)

    run(scene())


def test_that_an_engine_can_do_less_than_another_does_not_count_against_it():
    async def scene() -> None:
        small = Puppet(raises(ContextTooLong("too long")), name="small", slots=64)
        pool = await pool_of(small, scripted("name=large&tokens=1"))
        for _ in range(20):
            report, _ = await answered(pool)
            assert report.engine == "large"
        assert pool.fleet.statistics().engines[0].breaker is BreakerState.CLOSED

    run(scene())


def test_a_lone_engine_that_finds_an_ask_wrong_is_believed():
    async def scene() -> None:
        report, _, failure = await failed(await pool_of(Puppet(raises(InvalidAsk("no")))))
        assert (report.attempts, type(failure)) == (1, InvalidAsk)

    run(scene())


@pytest.mark.parametrize(
    "failure",
    [
        *(EngineFailed("no", upstream_status=status) for status in (401, 403, 404)),
        EngineFailed("unreadable"),
        InvalidAsk("an engine that finds everything wrong"),
    ],
)
def test_an_engine_that_fails_at_once_does_not_draw_the_asks(failure):
    async def scene() -> None:
        hole = Puppet(raises(failure), name="hole", slots=64)
        pool = await pool_of(hole, *(scripted(f"name={name}&slots=4&first=0.5&tokens=1") for name in "bc"))
        for _ in range(60):
            report, _ = await answered(pool)
            assert report.engine != "hole"
        assert len(hole.asked) <= 10

    run(scene())


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_engine_that_will_not_work_for_us_is_not_asked_again(status):
    async def scene() -> None:
        report, _, failure = await failed(await pool_of(scripted(f"fault=status:{status}")))
        assert (report.attempts, failure.status) == (1, 502)
        assert now() == 0

    run(scene())


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_engine_is_left_alone_for_as_long_as_it_says_and_asks_wait(status):
    async def scene() -> None:
        async def busy_until_three(_: Ask, sink: Sink) -> None:
            if now() < 3:
                raise EngineFailed("busy", upstream_status=status, retry_after=3.0)
            sink.take([Started("m"), TextDelta("hi"), DONE])

        engine = Puppet(busy_until_three, slots=8)
        pool = await pool_of(engine)
        async with asyncio.TaskGroup() as group:
            asks = [group.create_task(answered(pool)) for _ in range(8)]
        assert now() == 3.0
        # The first was refused, and nobody else was sent there to find out the same.
        assert sorted(task.result()[0].attempts for task in asks) == [1] * 7 + [2]

    run(scene())


def test_a_busy_engine_that_names_no_time_is_asked_ever_less_often_and_never_fails_an_ask():
    async def scene() -> None:
        engine = Puppet(raises(EngineFailed("busy", upstream_status=429)))
        report, _, failure = await failed(await pool_of(engine), patience=60.0)
        assert (type(failure), failure.status, now()) == (NoEngine, 503, 60.0)
        assert report.attempts == len(engine.asked) <= 12

    run(scene())


def test_a_time_without_end_is_bounded():
    async def scene() -> None:
        busy = Puppet(raises(EngineFailed("busy", upstream_status=503, retry_after=1e9)))
        pool = await pool_of(busy)
        await failed(pool, patience=1.0)
        assert pool.fleet.statistics().engines[0].retry_in <= 60.0

    run(scene())


def test_another_engine_does_not_wait_for_that_time():
    async def scene() -> None:
        busy = Puppet(raises(EngineFailed("busy", upstream_status=503, retry_after=30.0)))
        report, _ = await answered(await pool_of(busy, scripted("name=b")))
        assert (report.engine, now()) == ("b", 0.0)

    run(scene())


class Away(Puppet):
    """An engine that is not there before an instant."""

    def __init__(self, until: float, **more) -> None:
        super().__init__(says(Started("m"), TextDelta("hi"), DONE), **more)
        self.until = until

    async def answer(self, ask: Ask, sink: Sink) -> None:
        if now() < self.until:
            raise EngineDown("The engine cannot be reached.")
        await super().answer(ask, sink)

    async def health(self) -> Health:
        return Health(up=now() >= self.until, reason="away")


def test_an_engine_that_is_not_there_is_waited_for_and_found_within_a_second():
    async def scene() -> None:
        engine = Away(0, slots=4)
        pool = await pool_of(engine)
        engine.until = 7.5
        async with watched(pool) as noticed, asyncio.TaskGroup() as group:
            asks = [group.create_task(answered(pool)) for _ in range(4)]
            await asyncio.gather(*asks)
            assert 7.5 <= now() <= 8.5
            await asyncio.sleep(1)
        assert noticed == [(Change.DOWN, "puppet"), (Change.UP, "puppet")]

    run(scene())


def test_an_engine_that_stays_away_is_a_503_in_the_end():
    async def scene() -> None:
        report, _, failure = await failed(await pool_of(Away(1e9)), patience=20.0)
        assert (type(failure), failure.status, failure.retry_after, now()) == (NoEngine, 503, 5.0, 20.0)
        assert report.attempts == 0

    run(scene())


def test_an_engine_that_comes_back_begins_slowly():
    async def scene() -> None:
        engine = Away(10.0, slots=32)
        engine.behaviour = scripted("first=1&tokens=1").answer
        pool = await pool_of(engine)
        running_then: list[int] = []
        async with watched(pool), asyncio.TaskGroup() as group:
            asks = [group.create_task(answered(pool)) for _ in range(31)]
            await asyncio.sleep(10.5)
            for _ in range(5):
                running_then.append(pool.fleet.statistics().busy)
                await asyncio.sleep(1)
            await asyncio.gather(*asks)
        assert running_then == [1, 2, 4, 8, 16]

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


def test_a_slot_that_was_taken_between_two_attempts_is_waited_for():
    async def scene() -> None:
        pool = raw_pool_of(scripted("slots=1&fault=status:502&faults=1&first=9&tokens=1"), chance=lambda: 1.0)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(answered(pool))
            await asyncio.sleep(0.1)
            second = group.create_task(answered(pool))
        assert first.result()[0].attempts == 2
        assert second.result()[0].attempts == 1
        assert now() == pytest.approx(0.1 + 9 + 9)

    run(scene())


def test_a_retry_budget_bounds_what_a_failing_fleet_is_asked():
    async def scene() -> None:
        engines = [scripted(f"name={name}&fault=status:502") for name in "ab"]
        pool = await pool_of(*engines)
        for _ in range(40):
            await failed(pool, patience=600.0)
        # Forty asks, and the ten retries of a full budget; those that found the other engine idle cost no patience.
        asked = sum(engine.asked for engine in engines)
        assert asked <= 40 + 10 + 40
        assert choice_of(pool).retries == asked - 40

    run(scene())


def test_an_empty_budget_keeps_no_ask_from_an_idle_engine():
    async def scene() -> None:
        bad, good = scripted("name=a&fault=status:502&slots=9"), scripted("name=b&tokens=1")
        pool = await pool_of(bad, good)
        for _ in range(200):
            report, _ = await answered(pool)
            assert report.engine == "b"
            await asyncio.sleep(5)
        assert bad.asked > 10

    run(scene())


def test_answers_earn_the_retries_back():
    async def scene() -> None:
        engine = scripted("fault=status:502&faults=30&tokens=1")
        pool = await pool_of(engine)
        while engine.asked < 30:
            await failed(pool, patience=600.0)
        for _ in range(25):
            await answered(pool)
        assert choice_of(pool).budget.retries == pytest.approx(2.5, abs=0.11)

    run(scene())


# The client leaves


@pytest.mark.parametrize(
    ("query", "leaves_at"),
    [
        ("first=10", 5.0),  # before the first token
        ("rate=1", 5.0),  # in mid-answer
        ("fault=hang", 5.0),  # while nothing comes
        ("fault=stall:2", 5.0),  # after it fell silent
        ("fault=status:502", 0.1),  # between two attempts
        ("fault=status:429", 0.1),  # while the engine is busy
        ("fault=refuse", 0.1),  # while the engine is not there
        ("fault=cut:0&faults=1&first=0.2&rate=1", 3.0),  # in a second attempt
    ],
)
def test_a_client_that_leaves_frees_its_slot_at_once(query, leaves_at):
    async def scene() -> None:
        engine = scripted(query + "&slots=1")
        pool = raw_pool_of(engine, chance=lambda: 1.0)
        sink = Collected()
        task = asyncio.create_task(pool.answer(ask(), sink))
        await asyncio.sleep(leaves_at)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert now() == leaves_at
        assert (
            pool.fleet.statistics().busy,
            choice_of(pool).seats.usable(leaves_at + 600, pool.fleet.members)[0],
            engine.busy,
        ) == (
            0,
            "refuse" not in query,
            0,
        )
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
        assert (engine.asked, engine.busy, pool.fleet.statistics().busy) == (1, 0, 0)
        assert pool.fleet.statistics().engines[0].failed == 0

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
                await pool.answer(ask(), sink, Journey(report, patience=900.0))
        except TimeoutError:
            pass
        except EngineFailed:
            assert not any(isinstance(event, Finished) for event in sink.events)
        else:
            assert len(sink.answer.text.split()) == 5
            assert 1 <= report.attempts <= 12  # three that failed at work; those that were busy or away cost nothing
        assert sink.flow is None

    async def scene() -> None:
        pool = raw_pool_of(*engines, chance=lambda: chance)
        line = asyncio.Semaphore(pool.fleet.slots)
        async with asyncio.TaskGroup() as group:
            for comes, stays in visits:
                group.create_task(visit(pool, line, comes, stays))
        assert pool.fleet.statistics().busy == 0
        for engine in engines:
            assert engine.busy == 0
            assert engine.most <= engine.slots

    run(scene())
