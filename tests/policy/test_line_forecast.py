import pytest

from standpipe.policy.line.forecast import predict
from standpipe.policy.line.order import Level


def test_a_free_slot_is_no_wait():
    assert predict([Level(0, 1, 4), Level(2, 5, 8)], 10.0) == 0.0
    assert predict([Level(0, 0, 1)], None) == 0.0


def test_with_all_slots_busy_one_ends_every_so_often():
    assert predict([Level(0, 8, 8)], 16.0) == 2.0
    assert predict([Level(3, 8, 8)], 16.0) == 8.0


def test_free_slots_take_the_first_of_those_ahead():
    assert predict([Level(3, 6, 8)], 16.0) == 4.0


def test_the_longest_wait_of_all_levels_is_the_wait():
    own, everybody = Level(4, 2, 2), Level(4, 4, 8)
    assert predict([own, everybody], 4.0) == 10.0
    assert predict([Level(0, 0, 2), Level(20, 8, 8)], 4.0) == pytest.approx(10.5)


def test_nothing_is_predicted_before_anything_was_measured():
    assert predict([Level(0, 1, 1)], None) is None
