import pytest

from standpipe.chat.events import Timings, Usage
from standpipe.dialects.engine_counts import MOST_TOKENS, timings, usage


def test_counts_that_can_be_true_are_believed():
    assert usage(3, 2, reasoning=1, cached=3) == Usage(3, 2, 1, 3)
    assert usage(3, None) == Usage(3, 0)
    assert usage(MOST_TOKENS, 0) == Usage(MOST_TOKENS, 0)


@pytest.mark.parametrize("count", [-1, MOST_TOKENS + 1, 10**400])
def test_a_count_that_cannot_be_true_is_as_good_as_none(count):
    assert usage(count, 2) is None
    assert usage(3, count) is None
    assert usage(3, 2, reasoning=count, cached=count) == Usage(3, 2)


def test_times_are_told_together_or_not_at_all():
    assert timings(0.5, 1.5) == Timings(0.5, 1.5)
    assert timings(0.5, None) is timings(-0.5, 1.5) is None
