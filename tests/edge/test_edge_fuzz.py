"""Any bytes, in any pieces: see fuzzing.py for what must hold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edge.fuzzing import CORPUS, WORDS, check, read

CUTS = st.lists(st.integers(0, 4096), max_size=6)


@st.composite
def mutations(draw):
    """A sample from the corpus with words put in, cut out and doubled."""
    data = draw(st.sampled_from(CORPUS))
    for _ in range(draw(st.integers(0, 4))):
        low, high = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        middle = draw(st.sampled_from([b"", data[low:high] * 2, *WORDS]) | st.binary(max_size=4))
        data = data[:low] + middle + data[draw(st.sampled_from([low, high, low + 1])) :]
    return data


@pytest.mark.parametrize("data", CORPUS)
def test_the_corpus_byte_by_byte(data):
    check(data, list(range(len(data))))


@pytest.mark.parametrize("data", CORPUS)
def test_the_corpus_in_two_pieces_cut_everywhere(data):
    together = read([data])
    for place in range(1, len(data)):
        assert read([data[:place], data[place:]]) == together, place


@settings(max_examples=300, deadline=None)
@given(mutations(), CUTS)
def test_mutated_requests(data, cuts):
    check(data, cuts)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400), CUTS)
def test_random_bytes(data, cuts):
    check(data, cuts)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, b"POST / HTTP/1.1\r\n", b"Host: x\r\n"]), max_size=12).map(b"".join), CUTS)
def test_words_in_any_order(data, cuts):
    check(data, cuts)
