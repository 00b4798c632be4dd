import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.policy.identity import ClientKey
from standpipe.policy.shares import LIFETIME, issue, verify

KEY = b"k" * 32
HERE = ClientKey("203.0.113.7", "203.0.113.0/24")
NEXT_DOOR = ClientKey("203.0.113.9", "203.0.113.0/24")
ELSEWHERE = ClientKey("198.51.100.7", "198.51.100.0/24")
NOW = 1_700_000_000
NOTE = issue(KEY, HERE, NOW, b"12345678")


def test_a_note_counts_for_an_hour_all_over_its_block():
    assert verify(KEY, HERE, NOW, NOTE) == b"12345678".hex()
    assert verify(KEY, NEXT_DOOR, NOW + LIFETIME - 1, NOTE) == b"12345678".hex()
    assert verify(KEY, HERE, NOW + LIFETIME, NOTE) is None


def test_a_note_counts_nowhere_else_and_under_no_other_key():
    assert verify(KEY, ELSEWHERE, NOW, NOTE) is None
    assert verify(b"x" * 32, HERE, NOW, NOTE) is None


def test_a_note_from_the_future_is_not_ours():
    assert verify(KEY, HERE, NOW - 1, NOTE) is None


def test_a_note_is_safe_in_a_header():
    assert NOTE.isascii()
    assert NOTE.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "note", ["", "x", NOTE + "A", NOTE[:-1], "=" * len(NOTE), "\u00e9" * len(NOTE), "!" * len(NOTE)]
)
def test_what_is_no_note_is_refused(note):
    assert verify(KEY, HERE, NOW, note) is None


@settings(deadline=None)
@given(st.integers(0, len(NOTE) - 2), st.characters(max_codepoint=0x7F))
def test_a_changed_note_is_refused(index, char):
    changed = NOTE[:index] + char + NOTE[index + 1 :]
    assert (verify(KEY, HERE, NOW, changed) is None) == (changed != NOTE)
