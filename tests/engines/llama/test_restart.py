import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.engines.llama.llama import HOPELESS, LONGEST_DELAY, SETTLED, End, Restarts


def delays(*ends):
    restarts, found = Restarts(), []
    for end in ends:
        restarts, delay = restarts.after(end)
        found.append(delay)
    return found


def test_each_failure_in_a_row_doubles_the_wait_up_to_a_bound():
    found = delays(*[End(-9, served=1.0)] * 10)
    assert found[:4] == [0.25, 0.5, 1.0, 2.0]
    assert found[-1] == LONGEST_DELAY


def test_one_that_ended_under_load_is_followed_at_once_and_does_not_count():
    by_itself, loaded = End(-9, served=1.0), End(-9, served=1.0, asks=2)
    assert delays(*[loaded] * 20, by_itself, loaded, by_itself) == [*[0.0] * 20, 0.25, 0.0, 0.5]


def test_having_lived_for_a_while_wipes_the_slate():
    assert delays(End(-9, 1.0), End(-9, 1.0), End(-9, SETTLED), End(-9, 1.0)) == [0.25, 0.5, 0.25, 0.5]


@pytest.mark.parametrize("code", sorted(HOPELESS))
def test_breaking_down_while_it_starts_is_hopeless_and_while_it_serves_is_not(code):
    assert delays(End(code)) == [None]
    assert delays(End(code, served=0.1)) == [0.25]


@pytest.mark.parametrize("code", [1, -signal.SIGKILL, -signal.SIGTERM, 0])
def test_other_ends_while_it_starts_are_tried_again(code):
    assert delays(End(code)) == [0.25]


@given(st.lists(st.tuples(st.sampled_from([1, -9, -11]), st.floats(0, 100)), max_size=50))
def test_every_wait_is_within_bounds(ends):
    for delay in delays(*(End(code, served) for code, served in ends)):
        assert delay is None or 0 < delay <= LONGEST_DELAY
