"""The last hour in small numbers: what is counted, what is forgotten, and what fairness means."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.observe.history import CLIENTS, History
from standpipe.observe.hooks import Record

START = 600_000.0
"""On a minute's border."""


def record(client="a", *, status=200, waited=0.0, duration=1.0, tokens=10, first=None, attempts=1):
    return Record(
        id="x",
        dialect="api",
        client=client,
        status=status,
        stream=True,
        model="m",
        engine="e",
        failure=None,
        waited=waited,
        first_token=waited if first is None else first,
        duration=duration,
        prompt_tokens=1,
        completion_tokens=tokens,
        attempts=attempts,
    )


def test_an_hour_without_asks_says_that_nothing_is_known():
    hour = History(START).hour(START)
    assert (hour.requests, hour.tokens, hour.wait_median, hour.wait_p95, hour.fairness) == (0, 0, None, None, None)
    assert hour.minute_requests == (0,) * 60


def test_outcomes_are_told_apart():
    history = History(START)
    for code in (200, 200, 429, 503, 502, 500, 400, 413, 499):
        history.record(record(status=code), START + 10)
    hour = history.hour(START + 11)
    assert hour.requests == 9
    assert (hour.answered, hour.rejected_rate_limit, hour.rejected_capacity) == (2, 1, 1)
    assert (hour.failed, hour.invalid, hour.disconnected) == (2, 2, 1)
    assert hour.minute_rejected[-1] == 2


def test_waits_are_right_within_a_quarter():
    history = History(START)
    for waited in range(1, 101):
        history.record(record(waited=waited / 10, duration=20.0), START + 30)
    hour = history.hour(START + 31)
    assert hour.wait_median == pytest.approx(5.0, rel=0.25)
    assert hour.wait_p95 == pytest.approx(9.5, rel=0.25)


def test_asks_that_never_came_to_an_engine_waited_for_nothing():
    history = History(START)
    history.record(record(status=429, waited=3.0, attempts=0), START)
    assert history.hour(START).wait_median is None


def test_rates_slide_over_the_border_of_a_minute():
    history = History(START)
    for second in range(0, 120, 2):
        history.record(record(duration=0.0, tokens=6), START + second)
    assert history.hour(START + 120).requests_per_minute == pytest.approx(30, abs=1)
    assert history.hour(START + 150).requests_per_minute == pytest.approx(15, abs=1)
    assert history.hour(START + 120).tokens_per_second == pytest.approx(3, abs=0.1)


def test_a_tap_that_has_just_begun_is_not_told_to_be_slow():
    history = History(START + 50)
    for second in range(10):
        history.record(record(duration=0.0), START + 50 + second)
    assert history.hour(START + 60).requests_per_minute == pytest.approx(60, rel=0.05)


def test_tokens_belong_to_the_minutes_in_which_they_came():
    history = History(START)
    history.record(record(duration=150.0, waited=30.0, tokens=120), START + 170)
    minutes = history.hour(START + 170).minute_tokens
    assert minutes[-3:] == (0.2, 1.0, 0.8)


def test_the_longest_line_of_each_minute_is_kept():
    history = History(START)
    for second, waiting in enumerate((0, 3, 7, 2)):
        history.sample(START + second, waiting=waiting, running=1, slots=1)
    history.sample(START + 60, waiting=1, running=1, slots=1)
    assert history.hour(START + 61).minute_queue[-2:] == (7, 1)


def contend(history, rates, minutes=1, *, waiting=5):
    """Every client always has an ask here, while all slots are taken."""
    for second in range(60 * minutes):
        history.sample(START + second, waiting=waiting, running=2, slots=2)
        for client, rate in rates.items():
            history.record(record(client, duration=1.0, tokens=rate), START + second + 0.99)


def test_equal_shares_are_perfectly_fair():
    history = History(START)
    contend(history, {"a": 20, "b": 20, "c": 20})
    assert history.hour(START + 60).fairness == 1.0


def test_one_client_that_takes_all_is_one_of_n():
    history = History(START)
    contend(history, {"a": 40, "b": 0, "c": 0, "d": 0})
    assert history.hour(START + 60).fairness == pytest.approx(0.25)


def test_who_asks_for_little_gets_little_and_that_is_fair():
    history = History(START)
    for second in range(60):
        history.sample(START + second, waiting=5, running=2, slots=2)
        history.record(record("a", duration=1.0, tokens=20), START + second + 0.99)
        if second < 20:
            history.record(record("b", duration=1.0, tokens=20), START + second + 0.99)
    assert history.hour(START + 60).fairness == pytest.approx(1.0)


def test_without_contention_nothing_is_unfair():
    history = History(START)
    contend(history, {"a": 100, "b": 1}, waiting=0)
    assert history.hour(START + 60).fairness is None


def test_clients_beyond_the_bound_of_a_minute_are_counted_but_not_remembered():
    history = History(START)
    for number in range(CLIENTS * 3):
        history.record(record(str(number), duration=0.5, tokens=1), START + 1)
    assert history.hour(START + 2).requests == CLIENTS * 3
    assert len(history.clients(START + 2)) == CLIENTS


def test_lately_means_the_last_five_minutes():
    history = History(START)
    history.record(record("old", duration=1.0, tokens=5), START + 30)
    history.record(record("new", duration=1.0, tokens=7), START + 300)
    assert history.clients(START + 300) == {"new": 7.0}


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 400), st.floats(0, 9000), st.integers(0, 5000)), max_size=60))
def test_whatever_comes_the_memory_is_an_hour_and_the_sums_fit(events):
    history = History(START)
    now = START
    for gap, duration, tokens in events:
        now += gap
        history.record(record(duration=duration, waited=duration / 2, tokens=tokens), now)
        assert len(history._ring) <= 60
    hour = history.hour(now)
    assert hour.requests == sum(hour.minute_requests) <= len(events)
    assert len(hour.minute_tokens) == len(hour.minute_wait) == 60
    assert hour.tokens <= sum(tokens for _, _, tokens in events) + 1
