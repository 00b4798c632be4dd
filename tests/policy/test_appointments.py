"""When refused asks are told to come back: each at a time of its own, at which there is room for it."""

import math

from hypothesis import given
from hypothesis import strategies as st

from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Appointments
from standpipe.policy.pace import MICROSECONDS, Rate, Refuse, reserve

ME = ClientKey("192.0.2.1", "192.0.2.0/24")
rates = st.builds(Rate, st.integers(1_000, 2_000_000), st.integers(0, 20))
chances = st.floats(0, 1, exclude_max=True)


@given(rates, st.integers(1, 100), st.randoms(use_true_random=False))
def test_who_comes_back_when_told_is_taken(rate, count, chance):
    """If nobody else comes meanwhile. Beyond what can be told, nothing is promised."""
    now = tat = 10**9
    appointments, told = Appointments(), []
    for _ in range(count):
        verdict = reserve(tat, now, rate)
        if isinstance(verdict, Refuse):
            told.append(
                appointments.give(
                    ME,
                    now / MICROSECONDS,
                    room=verdict.retry_after / MICROSECONDS,
                    gap=rate.interval / MICROSECONDS,
                    chance=chance.random(),
                )
            )
        else:
            tat = verdict.tat
    assert all(1 <= wait <= 59 for wait in told)
    promised = [wait for wait in told if wait < 49]
    assert promised == sorted(set(promised))
    for wait in promised:
        at = now + math.ceil(wait * MICROSECONDS)
        verdict = reserve(tat, at, rate)
        if isinstance(verdict, Refuse):
            assert verdict.retry_after <= 1000  # what rounding to `retry-after-ms` may take
            verdict = reserve(tat, at + verdict.retry_after, rate)
        assert not isinstance(verdict, Refuse)
        tat = verdict.tat


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 30), st.floats(0, 100), chances), max_size=60))
def test_every_time_is_told_within_its_bounds(steps):
    appointments, now = Appointments(), 0.0
    for client, passed, room, chance in steps:
        now += passed
        key = ClientKey(f"192.0.2.{client}", "192.0.2.0/24")
        told = appointments.give(key, now, room=room, gap=0.5, chance=chance)
        assert 1 <= told <= 59
        assert told >= min(room, 49) - 1e-9
        assert appointments.expects(key, now)
        assert not appointments.expects(key, now + 62)


def test_clients_are_forgotten():
    appointments = Appointments()
    for n in range(10_000):
        appointments.give(ClientKey(f"{n}", "b"), 0.0, room=1.0, gap=0.5, chance=0.0)
    assert not appointments.expects(ClientKey("0", "b"), 0.0)
    assert appointments.expects(ClientKey("9999", "b"), 0.0)
