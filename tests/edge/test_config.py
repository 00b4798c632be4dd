import pytest

from standpipe.edge.config import LEAST_RATE, Patience


def test_a_flow_at_the_least_rate_is_waited_for_until_its_time_is_over():
    patience = Patience(100.0, window=5, total=20)
    assert patience.due == 105
    passed = 0
    for now in (105, 110, 115):
        passed += 5 * LEAST_RATE
        assert not patience.lost(now, passed)
    assert patience.due == 120
    assert patience.lost(120, passed + 5 * LEAST_RATE)


def test_a_flow_below_the_least_rate_is_given_up_after_one_window():
    patience = Patience(0.0, window=5, passed=1000)
    assert not patience.lost(4.9, 1000)
    assert patience.lost(5.0, 1000 + 5 * LEAST_RATE - 1)


def test_a_burst_does_not_pay_for_a_later_stall():
    patience = Patience(0.0, window=5)
    assert not patience.lost(5, 1_000_000)
    assert patience.lost(10, 1_000_000)


def test_no_window_outlasts_the_whole():
    assert Patience(0.0, window=5, total=3).due == pytest.approx(3)
