"""Poison: what is concluded from an engine's death, and for how long it is remembered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from standpipe.policy.poison import FEW, MEMORY, MOST, Poison


def test_an_ask_that_ran_with_many_others_is_not_suspect():
    poison = Poison()
    assert not poison.died(b"a", FEW + 1, 0.0)
    assert not poison.suspects(b"a", 0.0)


def test_an_ask_that_ran_alone_is_suspect_and_given_one_more_engine():
    poison = Poison()
    assert not poison.died(b"a", 1, 0.0)
    assert poison.suspects(b"a", 0.0)
    assert not poison.refuses(b"a", 0.0)
    assert poison.died(b"a", 1, 5.0)
    assert poison.refuses(b"a", 5.0)
    assert not poison.refuses(b"a", 5.0 + MEMORY)


def test_a_second_death_in_company_ends_an_ask_and_proves_nothing():
    poison = Poison()
    poison.died(b"a", 3, 0.0)
    assert poison.died(b"a", 2, 1.0)
    assert not poison.refuses(b"a", 1.0)
    assert poison.suspects(b"a", 1.0)


def test_an_ask_that_was_answered_after_all_is_no_suspect():
    poison = Poison()
    poison.died(b"a", 2, 0.0)
    poison.survived(b"a")
    poison.survived(b"b")
    assert not poison.suspects(b"a", 0.0)


def test_what_is_remembered_is_bounded():
    poison = Poison()
    for number in range(MOST + 50):
        poison.died(b"%d" % number, 1, 0.0)
    assert len(poison) == MOST


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(1, 8), st.floats(0, 900)), max_size=30))
def test_no_ask_kills_a_third_engine_within_the_memory_of_its_first(deaths):
    poison, now = Poison(), 0.0
    for fingerprint, running, gap in deaths:
        now += gap
        before = poison.suspects(fingerprint, now)
        assert poison.died(fingerprint, running, now) == (before and running <= FEW)
        if poison.refuses(fingerprint, now):
            assert poison.suspects(fingerprint, now)
