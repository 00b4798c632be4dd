from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.policy.pace import Go, Peek, Rate, Refuse, Wait, cancel, peek, reserve

HALF = Rate()


def test_who_was_silent_starts_at_once():
    assert reserve(0, 1_000_000, HALF) == Go(tat=1_500_000)


def test_who_comes_sooner_waits_for_the_next_instant():
    assert reserve(1_500_000, 1_100_000, HALF) == Wait(until=1_500_000, tat=2_000_000)


def test_eight_may_wait_and_the_ninth_is_told_when_there_is_room():
    tat, verdicts = 0, []
    for _ in range(10):
        verdict = reserve(tat, 1_000_000, HALF)
        verdicts.append(verdict)
        tat = verdict.tat if not isinstance(verdict, Refuse) else tat
    assert isinstance(verdicts[0], Go)
    assert [type(verdict) for verdict in verdicts[1:9]] == [Wait] * 8
    assert verdicts[9] == Refuse(retry_after=500_000)
    assert isinstance(reserve(tat, 1_500_000, HALF), Wait)


def test_nobody_waits_where_nobody_may():
    strict = Rate(max_waiting=0)
    assert reserve(1_500_000, 1_499_999, strict) == Refuse(retry_after=1)
    assert reserve(1_500_000, 1_500_000, strict) == Go(tat=2_000_000)


def test_the_last_in_the_chain_can_be_given_back():
    assert cancel(2_000_000, 1_500_000, HALF) == 1_500_000


def test_in_the_middle_of_the_chain_nothing_is_given_back():
    assert cancel(2_500_000, 1_500_000, HALF) == 2_500_000


def test_a_look_tells_when_and_how_many():
    assert peek(0, 7, HALF) == Peek(free_at=7, remaining=9)
    assert peek(1_500_000, 1_000_000, HALF) == Peek(free_at=1_500_000, remaining=8)
    assert peek(5_500_000, 1_000_000, HALF) == Peek(free_at=5_500_000, remaining=0)


@pytest.mark.parametrize(("interval", "waiting"), [(0, 8), (-1, 8), (1, -1)])
def test_a_rate_that_makes_no_sense_is_refused(interval, waiting):
    with pytest.raises(ValueError, match="interval"):
        Rate(interval, waiting)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2_000_000), st.booleans()), max_size=60),
    st.integers(1, 1_000_000),
    st.integers(0, 10),
)
def test_instants_keep_their_distance_and_never_too_many_lie_ahead(steps, interval, most):
    rate = Rate(interval, most)
    now, tat, instants = 1, 0, []
    for passed, leaves in steps:
        now += passed
        seen = peek(tat, now, rate)
        verdict = reserve(tat, now, rate)
        if isinstance(verdict, Refuse):
            assert seen.remaining == 0
            assert not isinstance(reserve(tat, now + verdict.retry_after, rate), Refuse)
            assert isinstance(reserve(tat, now + verdict.retry_after - 1, rate), Refuse)
            continue
        start = verdict.until if isinstance(verdict, Wait) else now
        assert seen.free_at == start
        assert seen.remaining >= 1
        assert verdict.tat == start + interval
        tat = verdict.tat
        if leaves and start > now:
            tat = cancel(tat, start, rate)
            assert tat == start
        else:
            instants.append(start)
        assert sum(instant > now for instant in instants) <= most
    assert all(later - earlier >= interval for earlier, later in pairwise(instants))


@settings(deadline=None)
@given(st.integers(0, 10_000_000), st.integers(0, 10_000_000), st.integers(0, 12))
def test_exactly_as_many_are_taken_as_a_look_promises(tat, now, most):
    rate = Rate(max_waiting=most)
    promised = peek(tat, now, rate).remaining
    taken = 0
    while not isinstance(verdict := reserve(tat, now, rate), Refuse):
        tat, taken = verdict.tat, taken + 1
    assert taken == promised
