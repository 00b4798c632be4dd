"""Retries: every rule on its own, and what must hold for any failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.chat.errors import (
    EngineBroke,
    EngineDown,
    EngineFailed,
    EngineTimeout,
    InvalidAsk,
    TooLarge,
    UnknownModel,
    Unsupported,
)
from standpipe.policy.retry import BACKOFF_CAP, Again, Budget, GiveUp, Others, Verdict, decide, verdict


def after(found: Verdict, worked: int = 1, **more) -> Again | GiveUp:
    options = {"sent": False, "others": Others(), "affords": True, "chance": 1.0}
    return decide(found, worked=worked, **options | more)  # type: ignore[arg-type]


IDLE, COMING = Others(expected=True, idle=True), Others(expected=True)


@pytest.mark.parametrize(
    ("failure", "found"),
    [
        (EngineFailed("unreadable"), Verdict.FAULT),
        (EngineBroke("broke off"), Verdict.FAULT),
        (EngineTimeout("silent"), Verdict.FAULT),
        (EngineDown("refused"), Verdict.DOWN),
        *((EngineFailed("no", upstream_status=status), Verdict.FAULT) for status in (408, 501, 502, 504, 599)),
        *((EngineFailed("no", upstream_status=status), Verdict.BUSY) for status in (429, 503)),
        *((EngineFailed("no", upstream_status=status), Verdict.REFUSED) for status in (401, 403, 404, 405, 410)),
        (EngineFailed("broken", upstream_status=500), Verdict.ERROR),
        *((kind("no"), Verdict.ASK) for kind in (InvalidAsk, Unsupported, UnknownModel, TooLarge)),
    ],
)
def test_what_a_failure_says(failure, found):
    assert verdict(failure) is found


@pytest.mark.parametrize("found", Verdict)
def test_nothing_is_repeated_once_something_was_sent(found):
    assert after(found, sent=True, others=IDLE) == GiveUp()


@pytest.mark.parametrize("found", [Verdict.BUSY, Verdict.DOWN])
@pytest.mark.parametrize("affords", [True, False])
def test_what_an_engine_has_not_worked_on_waits_for_any_engine_however_often(found, affords):
    assert after(found, 99, affords=affords, most=1) == Again()


def test_an_engine_that_will_not_work_is_left_for_one_that_has_not_seen_the_ask():
    assert after(Verdict.REFUSED, 99, others=COMING, affords=False, most=1) == Again(elsewhere=True)
    assert after(Verdict.REFUSED) == GiveUp()


def test_a_second_opinion_is_had_where_it_costs_nobody_a_wait_and_never_a_third():
    assert after(Verdict.ASK, 1, others=IDLE) == Again(elsewhere=True)
    assert after(Verdict.ASK, 1, others=COMING) == GiveUp()
    assert after(Verdict.ASK, 2, others=IDLE) == GiveUp()
    assert after(Verdict.ASK, 1, others=IDLE, most=1) == GiveUp()


def test_what_failed_at_work_is_repeated_until_three_engines_have_worked_on_it():
    assert after(Verdict.FAULT, 1, others=IDLE) == Again(elsewhere=True)
    assert after(Verdict.FAULT, 2, others=COMING) == Again(elsewhere=True)
    assert after(Verdict.FAULT, 3, others=IDLE) == GiveUp()
    assert after(Verdict.FAULT, 1, others=IDLE, most=1) == GiveUp()


def test_a_bare_500_is_repeated_once():
    assert after(Verdict.ERROR, 1) == Again(0.25)
    assert after(Verdict.ERROR, 2, others=IDLE) == GiveUp()


def test_the_same_engine_is_asked_again_after_a_backoff_that_doubles_and_is_jittered_over_its_whole_length():
    assert [after(Verdict.FAULT, worked, most=9) for worked in (1, 2, 3)] == [Again(0.25), Again(0.5), Again(1.0)]
    assert after(Verdict.FAULT, chance=0.0) == Again(0.0)
    assert after(Verdict.FAULT, chance=0.5) == Again(0.125)
    assert after(Verdict.FAULT, 30, most=99) == Again(BACKOFF_CAP)


def test_an_empty_budget_stops_retries_but_keeps_no_ask_from_an_idle_engine():
    assert after(Verdict.FAULT, affords=False) == GiveUp()
    assert after(Verdict.FAULT, affords=False, others=COMING) == GiveUp()
    assert after(Verdict.FAULT, affords=False, others=IDLE) == Again(elsewhere=True)


@given(
    st.sampled_from(Verdict), st.integers(1, 10), st.booleans(), st.booleans(), st.booleans(),
    st.booleans(), st.floats(0, 1, exclude_max=True), st.integers(1, 5),
)  # fmt: skip
def test_any_decision_is_bounded_and_harmless(found, worked, sent, expected, idle, affords, chance, most):
    others = Others(expected=expected or idle, idle=idle)
    decision = decide(found, worked=worked, sent=sent, others=others, affords=affords, chance=chance, most=most)
    if isinstance(decision, Again):
        assert not sent
        assert 0 <= decision.delay <= BACKOFF_CAP
        assert not decision.elsewhere or others.expected
        if found in {Verdict.FAULT, Verdict.ERROR, Verdict.ASK}:
            assert worked < max(most, 2)


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
