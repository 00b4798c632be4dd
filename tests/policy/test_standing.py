"""What is believed of an engine, and which of several is asked next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.policy.retry import Verdict
from standpipe.policy.standing import HOLD, RETRY_AFTER_CAP, EngineStanding, Fastest, Option, choose


def failing(times: int, now: float = 0.0) -> EngineStanding:
    standing = EngineStanding()
    for _ in range(times):
        standing.taken(now)
        standing.failed(Verdict.FAULT, now, probe=False)
        standing.over(spoken=False)
    return standing


def test_an_engine_that_nothing_is_known_of_has_room_for_all_its_slots():
    assert [EngineStanding().room(4, busy, 0.0) for busy in range(6)] == [4, 3, 2, 1, 0, 0]


def test_an_engine_that_is_not_there_has_none_and_begins_slowly_when_it_comes():
    standing = EngineStanding()
    standing.went(1.0)
    standing.went(2.0)
    assert (standing.down_since, standing.room(4, 0, 9.0), standing.opens_at(9.0)) == (1.0, 0, None)
    standing.came()
    assert standing.room(4, 0, 9.0) == 1
    standing.taken(9.0)
    assert standing.room(4, 1, 9.0) == 0
    standing.spoke(9.1, 0.1)
    assert standing.room(4, 1, 9.1) == 2


@pytest.mark.parametrize(
    ("wanted", "seconds"), [(None, HOLD), (0.1, HOLD), (3.0, 3.0), (1e9, RETRY_AFTER_CAP), (float("nan"), HOLD)]
)
def test_a_busy_engine_is_left_alone_for_as_long_as_it_says_within_bounds(wanted, seconds):
    standing = EngineStanding()
    standing.failed(Verdict.BUSY, 10.0, probe=False, retry_after=wanted)
    assert standing.opens_at(10.0) == 10.0 + seconds
    assert standing.room(4, 0, 10.0 + seconds - 0.01) == 0
    assert standing.room(4, 0, 10.0 + seconds) == 1


def test_the_time_for_which_it_was_left_alone_is_counted_once():
    standing = EngineStanding()
    standing.failed(Verdict.BUSY, 10.0, probe=False, retry_after=5.0)
    standing.failed(Verdict.BUSY, 12.0, probe=False, retry_after=5.0)  # was on its way already
    assert standing.left_alone == 7.0
    assert failing(5).left_alone == 1.0
    assert failing(7).left_alone == failing(7).breaker.until


def test_an_engine_that_goes_on_to_be_busy_is_left_alone_for_ever_longer_until_it_speaks():
    standing, now, lengths = EngineStanding(), 0.0, []
    for _ in range(7):
        standing.failed(Verdict.BUSY, now, probe=False)
        standing.failed(Verdict.BUSY, now + 0.1, probe=False)  # was on its way already
        lengths.append(standing.held_until - now)
        now = standing.held_until
    assert lengths == pytest.approx([0.6, 1.1, 2.1, 4.1, 8.1, 8.1, 8.1])
    standing.taken(now)
    standing.spoke(now, 0.1)
    standing.failed(Verdict.BUSY, now, probe=False)
    assert standing.held_until - now == HOLD


def test_a_failure_makes_an_engine_dearer_than_one_that_is_full_and_is_forgotten():
    once = failing(1)
    assert once.cost(4, 0, 0.0, Fastest()) > EngineStanding().cost(4, 0, 0.0, Fastest())
    assert failing(4).cost(64, 0, 0.0, Fastest()) > EngineStanding().cost(4, 1, 0.0, Fastest())
    assert once.cost(4, 0, 100.0, Fastest()) == pytest.approx(EngineStanding().cost(4, 0, 0.0, Fastest()), rel=0.01)


def test_a_slow_engine_is_dearer_by_as_much_as_it_is_slower_and_a_little_slower_is_equal():
    fast, near, slow = EngineStanding(), EngineStanding(), EngineStanding()
    for standing, seconds in ((fast, 0.1), (near, 0.19), (slow, 2.0)):
        standing.taken(0.0)
        standing.spoke(0.0, seconds)
    fastest = Fastest.of((fast, near, slow))
    costs = [standing.cost(4, 0, 0.0, fastest) for standing in (fast, near, slow)]
    assert costs[0] == costs[1]
    assert costs[2] == pytest.approx(10 * costs[0])
    assert slow.cost(4, 0, 300.0, fastest) == pytest.approx(costs[0], rel=0.1)


prompts = st.lists(st.integers(0, 200_000), min_size=1, max_size=8)


def timed(overhead, per_token, lengths):
    """An engine that takes so long for prompts of these lengths, and what a template adds to them."""
    standing = EngineStanding()
    for length in lengths:
        standing.taken(0.0)
        standing.spoke(0.0, overhead + per_token * (length + 32), length)
    return standing


@given(st.floats(0, 30), st.floats(0, 0.1), st.lists(prompts, min_size=2, max_size=4))
def test_equal_engines_are_equally_dear_whatever_prompts_each_was_given(overhead, per_token, given_to):
    standings = [timed(overhead, per_token, lengths) for lengths in given_to]
    fastest = Fastest.of(standings)
    assert {standing.cost(4, 1, 0.0, fastest) for standing in standings} == {0.5}


@given(st.floats(0.05, 30), st.floats(0.0005, 0.1), prompts, st.floats(5, 50))
def test_one_that_is_slower_at_the_same_prompts_is_dearer_by_as_much(overhead, per_token, lengths, times):
    fast, slow = timed(overhead, per_token, lengths), timed(times * overhead, times * per_token, lengths)
    fastest = Fastest.of((fast, slow))
    assert slow.cost(4, 1, 0.0, fastest) == pytest.approx(times / 2 * fast.cost(4, 1, 0.0, fastest))


def test_five_failures_in_a_row_leave_it_alone_for_a_while_and_then_one_ask_finds_out():
    standing = failing(5)
    assert standing.opens_at(0.0) == 1.0
    assert (standing.room(4, 0, 0.5), standing.room(4, 0, 1.0)) == (0, 1)
    assert standing.taken(1.0)
    assert standing.room(4, 1, 1.0) == 0


def test_an_engine_is_suspected_when_it_is_away_fails_or_says_nothing_for_unusually_long():
    standing = EngineStanding()
    assert not standing.suspected(1e9)
    standing.taken(0.0)
    standing.spoke(1.0, 1.0)
    standing.taken(1.0)
    assert [standing.suspected(at) for at in (1.0, 5.9, 6.1)] == [False, False, True]
    standing.went(7.0)
    assert standing.suspected(7.0)
    assert failing(5).suspected(0.0)


options = st.lists(
    st.none() | st.builds(Option, *[st.integers(0, 2)] * 3, st.floats(0, 10), st.integers(0, 100)), max_size=6
)


@given(options)
def test_the_choice_is_an_engine_with_room_and_none_is_better(options):
    found = choose(options)
    if found is None:
        assert all(option is None for option in options)
        return
    best = options[found]
    assert best is not None
    for other in options:
        if other is not None:
            ours, theirs = ((one.seen, one.rank, one.priority) for one in (best, other))
            assert ours <= theirs
            assert ours < theirs or best.cost <= other.cost


events = st.lists(
    st.tuples(st.floats(0, 5), st.sampled_from(["taken", "spoke", "answered", "left", *Verdict])), max_size=60
)


@given(events, st.integers(1, 8))
def test_whatever_happens_there_is_never_more_room_than_slots_and_time_or_a_visit_always_makes_some(history, slots):
    standing, now = EngineStanding(), 0.0
    running: list[tuple[bool, bool]] = []  # the probe, spoken
    for gap, event in history:
        now += gap
        busy = len(running)
        assert 0 <= standing.room(slots, busy, now) <= slots - busy
        if event == "taken":
            if standing.room(slots, busy, now):
                running.append((standing.taken(now), False))
        elif running:
            probe, spoken = running.pop(0)
            if event == "spoke":
                if not spoken:
                    standing.spoke(now, gap)
                running.append((probe, True))
                continue
            if event == "answered":
                standing.answered(now)
            elif event == "left":
                standing.left(probe=probe, spoken=spoken)
            else:
                standing.failed(Verdict(event), now, probe=probe)
            standing.over(spoken=spoken)
    for probe, spoken in running:
        standing.left(probe=probe, spoken=spoken)
        standing.over(spoken=spoken)
    assert standing.silent == 0
    standing.came()
    assert standing.room(slots, 0, now + RETRY_AFTER_CAP) >= 1
