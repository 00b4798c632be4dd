"""The last hour in small numbers: what is counted, what is forgotten, and what fairness means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.observe.history import CLIENTS, Status
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
    hour = Status(START).hour(START)
    assert (hour.asks, hour.tokens, hour.wait_median, hour.wait_p95, hour.fairness) == (0, 0, None, None, None)
    assert hour.minute_asks == (0,) * 60


def test_outcomes_are_told_apart():
    status = Status(START)
    for code in (200, 200, 429, 503, 502, 500, 400, 413, 499):
        status.record(record(status=code), START + 10)
    hour = status.hour(START + 11)
    assert hour.asks == 9
    assert (hour.answered, hour.refused_pace, hour.refused_capacity) == (2, 1, 1)
    assert (hour.failed, hour.invalid, hour.left) == (2, 2, 1)
    assert hour.minute_refused[-1] == 2


def test_waits_are_right_within_a_quarter():
    status = Status(START)
    for waited in range(1, 101):
        status.record(record(waited=waited / 10, duration=20.0), START + 30)
    hour = status.hour(START + 31)
    assert hour.wait_median == pytest.approx(5.0, rel=0.25)
    assert hour.wait_p95 == pytest.approx(9.5, rel=0.25)


def test_asks_that_never_came_to_an_engine_waited_for_nothing():
    status = Status(START)
    status.record(record(status=429, waited=3.0, attempts=0), START)
    assert status.hour(START).wait_median is None


def test_rates_slide_over_the_border_of_a_minute():
    status = Status(START)
    for second in range(0, 120, 2):
        status.record(record(duration=0.0, tokens=6), START + second)
    assert status.hour(START + 120).asks_per_minute == pytest.approx(30, abs=1)
    assert status.hour(START + 150).asks_per_minute == pytest.approx(15, abs=1)
    assert status.hour(START + 120).tokens_per_second == pytest.approx(3, abs=0.1)


def test_a_tap_that_has_just_begun_is_not_told_to_be_slow():
    status = Status(START + 50)
    for second in range(10):
        status.record(record(duration=0.0), START + 50 + second)
    assert status.hour(START + 60).asks_per_minute == pytest.approx(60, rel=0.05)


def test_tokens_belong_to_the_minutes_in_which_they_came():
    status = Status(START)
    status.record(record(duration=150.0, waited=30.0, tokens=120), START + 170)
    minutes = status.hour(START + 170).minute_tokens
    assert minutes[-3:] == (0.2, 1.0, 0.8)


def test_the_longest_line_of_each_minute_is_kept():
    status = Status(START)
    for second, waiting in enumerate((0, 3, 7, 2)):
        status.sample(START + second, waiting=waiting, running=1, slots=1)
    status.sample(START + 60, waiting=1, running=1, slots=1)
    assert status.hour(START + 61).minute_line[-2:] == (7, 1)


def contend(status, rates, minutes=1, *, waiting=5):
    """Every client always has an ask here, while all slots are taken."""
    for second in range(60 * minutes):
        status.sample(START + second, waiting=waiting, running=2, slots=2)
        for client, rate in rates.items():
            status.record(record(client, duration=1.0, tokens=rate), START + second + 0.99)


def test_equal_shares_are_perfectly_fair():
    status = Status(START)
    contend(status, {"a": 20, "b": 20, "c": 20})
    assert status.hour(START + 60).fairness == 1.0


def test_one_client_that_takes_all_is_one_of_n():
    status = Status(START)
    contend(status, {"a": 40, "b": 0, "c": 0, "d": 0})
    assert status.hour(START + 60).fairness == pytest.approx(0.25)


def test_who_asks_for_little_gets_little_and_that_is_fair():
    status = Status(START)
    for second in range(60):
        status.sample(START + second, waiting=5, running=2, slots=2)
        status.record(record("a", duration=1.0, tokens=20), START + second + 0.99)
        if second < 20:
            status.record(record("b", duration=1.0, tokens=20), START + second + 0.99)
    assert status.hour(START + 60).fairness == pytest.approx(1.0)


def test_without_contention_nothing_is_unfair():
    status = Status(START)
    contend(status, {"a": 100, "b": 1}, waiting=0)
    assert status.hour(START + 60).fairness is None


def test_clients_beyond_the_bound_of_a_minute_are_counted_but_not_remembered():
    status = Status(START)
    for number in range(CLIENTS * 3):
        status.record(record(str(number), duration=0.5, tokens=1), START + 1)
    assert status.hour(START + 2).asks == CLIENTS * 3
    assert len(status.clients(START + 2)) == CLIENTS


def test_lately_means_the_last_five_minutes():
    status = Status(START)
    status.record(record("old", duration=1.0, tokens=5), START + 30)
    status.record(record("new", duration=1.0, tokens=7), START + 300)
    assert status.clients(START + 300) == {"new": 7.0}


@given(st.lists(st.tuples(st.floats(0, 400), st.floats(0, 9000), st.integers(0, 5000)), max_size=60))
def test_whatever_comes_the_memory_is_an_hour_and_the_sums_fit(events):
    status = Status(START)
    now = START
    for gap, duration, tokens in events:
        now += gap
        status.record(record(duration=duration, waited=duration / 2, tokens=tokens), now)
        assert len(status._ring) <= 60
    hour = status.hour(now)
    assert hour.asks == sum(hour.minute_asks) <= len(events)
    assert len(hour.minute_tokens) == len(hour.minute_wait) == 60
    assert hour.tokens <= sum(tokens for _, _, tokens in events) + 1
