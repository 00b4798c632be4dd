"""The breaker: its table, its times, and what holds for any history."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from standpipe.policy.breaker import EJECTION_CAP, NEXT, THRESHOLD, Breaker, BreakerState, Signal


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(THRESHOLD):
        breaker = breaker.failed(now, probe=False)
    return breaker


def test_five_failures_in_a_row_open_it():
    breaker = Breaker()
    for _ in range(4):
        breaker = breaker.failed(0.0, probe=False)
        assert breaker.admits(0.0)
    breaker = breaker.failed(0.0, probe=False)
    assert breaker.state is BreakerState.OPEN
    assert not breaker.admits(0.999)


def test_an_answer_between_them_starts_the_count_again():
    breaker = Breaker()
    for _ in range(20):
        for _ in range(4):
            breaker = breaker.failed(0.0, probe=False)
        breaker = breaker.answered()
    assert breaker == Breaker()


def test_it_half_opens_after_a_second_and_admits_one_ask():
    breaker = opened(now=10.0)
    assert breaker.at(11.0).state is BreakerState.HALF_OPEN
    assert breaker.admits(11.0)
    breaker = breaker.take(11.0)
    assert breaker.state is BreakerState.PROBING
    assert not breaker.admits(11.0)
    assert not breaker.admits(1e9)


def test_an_answered_probe_closes_it_and_forgets():
    assert opened().take(1.0).answered() == Breaker()


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_a_bound():
    breaker, now, lengths = opened(), 0.0, []
    for _ in range(9):
        lengths.append(breaker.until - now)
        now = breaker.until
        breaker = breaker.take(now).failed(now, probe=True)
    assert lengths == [1, 2, 4, 8, EJECTION_CAP, EJECTION_CAP, EJECTION_CAP, EJECTION_CAP, EJECTION_CAP]


def test_a_probe_that_begins_to_answer_lets_more_asks_come_and_the_next_failure_opens_it_for_longer():
    breaker = opened().take(1.0).spoke()
    assert breaker.admits(1.0)
    breaker = breaker.failed(2.0, probe=True)
    assert (breaker.state, breaker.until) == (BreakerState.OPEN, 4.0)
    assert opened().take(1.0).spoke().answered() == Breaker()


def test_an_ask_that_begins_to_be_answered_says_nothing_of_a_closed_or_an_open_one():
    assert Breaker().failed(0.0, probe=False).spoke().failures == 1
    assert opened().spoke() == opened()


def test_a_probe_without_a_verdict_leaves_room_for_the_next_one():
    breaker = opened().take(1.0).lost(probe=True)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.admits(1.0)


def test_asks_from_before_do_not_decide_for_the_probe():
    probing = opened().take(1.0)
    assert probing.failed(1.0, probe=False).state is BreakerState.PROBING
    assert probing.lost(probe=False) == probing


def test_more_failures_do_not_keep_an_open_one_open():
    breaker = opened(now=0.0)
    for now in (0.2, 0.5, 0.9):
        breaker = breaker.failed(now, probe=False)
    assert breaker.until == 1.0


def test_an_ask_that_got_through_closes_an_open_one():
    assert opened().answered() == Breaker()


def test_statistics_tell_when_it_is_tried_again():
    breaker = opened(now=5.0)
    assert breaker.statistics(5.25).retry_in == 0.75
    later = breaker.statistics(6.0)
    assert (later.state, later.retry_in, later.failures, later.ejections) == (BreakerState.HALF_OPEN, 0.0, 5, 1)


def test_every_state_is_in_the_table_and_each_can_be_left():
    assert set(NEXT) == set(BreakerState)
    for state, moves in NEXT.items():
        assert set(moves.values()) - {state}
        assert all(isinstance(signal, Signal) for signal in moves)


# Any history. Each step: how long after the one before, and how an ask went.
steps = st.lists(
    st.tuples(st.floats(0, 100), st.sampled_from(["answered", "failed", "client", "left", "late failure"])), max_size=80
)


def walk(breaker: Breaker, history) -> tuple[Breaker, float]:
    now = 0.0
    for gap, ending in history:
        now += gap
        if ending == "late failure":  # of an ask that was taken long ago
            breaker = breaker.at(now).failed(now, probe=False)
            continue
        before = breaker.at(now).state
        breaker = breaker.take(now)
        probe = before is BreakerState.HALF_OPEN
        if ending == "answered":
            breaker = breaker.answered()
        elif ending == "failed":
            breaker = breaker.failed(now, probe=probe)
        else:
            breaker = breaker.lost(probe=probe)
    return breaker, now


@given(steps)
def test_whatever_happened_it_admits_an_ask_again_within_its_bound(history):
    breaker, now = walk(Breaker(), history)
    assert breaker.admits(now + EJECTION_CAP)
    assert breaker.until - now <= EJECTION_CAP


@given(steps)
def test_after_any_history_an_answer_heals_it(history):
    breaker, now = walk(Breaker(), history)
    assert breaker.at(now).answered() == Breaker()


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from(["client", "left", "answered"])), max_size=80))
def test_clients_alone_never_open_it(history):
    breaker, _ = walk(Breaker(), history)
    assert breaker.state is BreakerState.CLOSED


@given(steps)
def test_there_is_never_more_than_one_probe(history):
    breaker, now = walk(Breaker(), history)
    breaker = breaker.at(now + EJECTION_CAP)
    if breaker.state is BreakerState.HALF_OPEN:
        assert not breaker.take(now + EJECTION_CAP).admits(now + 2 * EJECTION_CAP)
