"""Any bytes, in any pieces: see fuzzing.py for what must hold."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from tests.fuzzing import tries
from tests.http_client.fuzzing import CORPUS, TARGET, check, read


@pytest.mark.parametrize("data", CORPUS)
def test_the_corpus_byte_by_byte_and_broken_off_everywhere(data):
    check(data, list(range(min(len(data), 400))))


@pytest.mark.parametrize("data", [data for data in CORPUS if len(data) < 400])
def test_the_corpus_in_two_pieces_cut_everywhere(data):
    together = read([data])
    for place in range(1, len(data)):
        assert read([data[:place], data[place:]])._replace(keep_alive=together.keep_alive) == together, place


@pytest.mark.parametrize("seed", range(10))
def test_mutated_answers(seed):
    for data, cuts in islice(tries(TARGET, random.Random(seed)), 60):
        check(data, cuts)
