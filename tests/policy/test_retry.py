"""Retries: every rule on its own, and what must hold for any failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.chat.errors import (
    EngineFailed,
    EngineTimeout,
    Failure,
    Internal,
    InvalidAsk,
    NoEngine,
    PaceExceeded,
    TooLarge,
    UnknownModel,
    Unsupported,
)
from standpipe.policy.retry import BACKOFF_CAP, PASSING, PATIENCE, Again, Budget, GiveUp, classify


def after(failure: Failure, attempt: int = 1, *, sent: bool = False, chance: float = 1.0, **more) -> Again | GiveUp:
    return classify(failure, attempt=attempt, anything_sent=sent, chance=chance, **more)


@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize(
    "failure",
    [
        EngineFailed("refused"),
        EngineTimeout("silent"),
        *(EngineFailed("busy", upstream_status=s) for s in sorted(PASSING)),
    ],
)
def test_what_may_pass_is_attempted_three_times(failure, attempt):
    assert isinstance(after(failure, attempt), Again)
    assert after(failure, 3) == GiveUp()


def test_a_bare_500_is_attempted_once_more():
    failure = EngineFailed("broken", upstream_status=500)
    assert isinstance(after(failure, 1), Again)
    assert after(failure, 2) == GiveUp()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 501, 505])
def test_other_statuses_are_final(status):
    assert after(EngineFailed("no", upstream_status=status)) == GiveUp()


@pytest.mark.parametrize("kind", [InvalidAsk, Unsupported, UnknownModel, TooLarge, PaceExceeded, NoEngine, Internal])
def test_only_an_engines_failures_are_retried(kind):
    assert after(kind("no")) == GiveUp()


def test_nothing_is_retried_once_something_was_sent():
    assert after(EngineFailed("broke off"), sent=True) == GiveUp()


def test_the_backoff_doubles_and_is_jittered_over_its_whole_length():
    failure = EngineFailed("refused")
    assert [after(failure, attempt, most=9) for attempt in (1, 2, 3)] == [Again(0.25), Again(0.5), Again(1.0)]
    assert after(failure, chance=0.0) == Again(0.0)
    assert after(failure, chance=0.5) == Again(0.125)


def test_the_backoff_is_capped():
    assert after(EngineFailed("refused"), 30, most=99) == Again(BACKOFF_CAP)


def test_an_engine_that_names_a_time_is_not_asked_before_it():
    assert after(EngineFailed("busy", upstream_status=429, retry_after=3.0)) == Again(3.0)
    assert after(EngineFailed("busy", upstream_status=429, retry_after=0.1)) == Again(0.25)


def test_an_engine_that_names_a_long_time_is_not_waited_for():
    assert after(EngineFailed("busy", upstream_status=503, retry_after=PATIENCE + 1)) == GiveUp()


def test_another_engine_is_not_bound_by_that_time():
    assert after(EngineFailed("busy", upstream_status=503, retry_after=30.0), elsewhere=True) == Again(0.25)


def test_the_operator_may_want_fewer_attempts():
    assert after(EngineFailed("refused"), most=1) == GiveUp()


failures = st.one_of(
    st.builds(
        EngineFailed,
        st.just("failed"),
        retry_after=st.none() | st.floats(allow_nan=True, allow_infinity=True),
        upstream_status=st.none() | st.integers(100, 599),
    ),
    st.builds(EngineTimeout, st.just("silent")),
    st.sampled_from([InvalidAsk("a"), NoEngine("b"), PaceExceeded("c", retry_after=1.0)]),
)
chances = st.floats(0, 1, exclude_max=True)


@given(failures, st.integers(1, 10), st.booleans(), chances, st.booleans())
def test_any_decision_is_bounded_and_harmless(failure, attempt, sent, chance, elsewhere):
    decision = classify(failure, attempt=attempt, anything_sent=sent, chance=chance, elsewhere=elsewhere)
    if isinstance(decision, Again):
        assert not sent
        assert attempt < 3
        assert isinstance(failure, EngineFailed)
        assert 0 <= decision.delay <= PATIENCE


@given(chances)
def test_a_failure_retried_for_ever_ends_after_three_attempts(chance):
    attempts = 1
    while isinstance(after(EngineFailed("refused"), attempts, chance=chance), Again):
        attempts += 1
    assert attempts == 3


def test_a_budget_starts_with_ten_retries():
    budget, retries = Budget(), 0
    while budget.affords:
        budget, retries = budget.spend(), retries + 1
    assert retries == 10


def test_ten_answers_earn_one_retry():
    budget = Budget(0)
    for _ in range(9):
        budget = budget.earn()
    assert not budget.affords
    assert budget.earn().affords


@given(st.lists(st.booleans(), max_size=200))
def test_retries_never_exceed_ten_and_a_tenth_of_the_answers(history):
    budget, retries, answers = Budget(), 0, 0
    for answered in history:
        if answered:
            budget, answers = budget.earn(), answers + 1
        elif budget.affords:
            budget, retries = budget.spend(), retries + 1
        assert 0 <= budget.retries <= 10
        assert retries <= 10 + answers / 10
