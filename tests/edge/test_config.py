import pytest

from standpipe.edge.config import BODY_RATE, MINIMUM_RATE, RateDeadline


def test_a_flow_at_the_least_rate_is_waited_for_until_its_time_is_over():
    deadline = RateDeadline(100.0, window=5, total=20)
    assert deadline.due == 105
    passed = 0
    for now in (105, 110, 115):
        passed += 5 * MINIMUM_RATE
        assert not deadline.missed(now, passed)
    assert deadline.due == 120
    assert deadline.missed(120, passed + 5 * MINIMUM_RATE)


def test_a_flow_below_the_least_rate_is_given_up_after_one_window():
    deadline = RateDeadline(0.0, window=5, passed=1000)
    assert not deadline.missed(4.9, 1000)
    assert deadline.missed(5.0, 1000 + 5 * MINIMUM_RATE - 1)


def test_a_burst_does_not_pay_for_a_later_stall():
    deadline = RateDeadline(0.0, window=5)
    assert not deadline.missed(5, 1_000_000)
    assert deadline.missed(10, 1_000_000)


def test_no_window_outlasts_the_whole():
    assert RateDeadline(0.0, window=5, total=3).due == pytest.approx(3)


def test_what_comes_earns_time_for_what_is_still_to_come():
    deadline = RateDeadline(0.0, window=5, total=20, earns=BODY_RATE, passed=3 * BODY_RATE)
    passed = 3 * BODY_RATE
    for now in (5, 10, 15, 20):
        passed += 5 * BODY_RATE // 2
        assert not deadline.missed(now, passed)
    assert not deadline.missed(25, passed + 5 * MINIMUM_RATE)
    assert deadline.missed(30.2, passed + 10 * MINIMUM_RATE)
