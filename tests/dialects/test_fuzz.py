"""Any bytes, in any pieces: see fuzzing.py for what must hold."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from tests.dialects.fuzzing import TARGETS
from tests.fuzzing import Target, tries

EACH = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@EACH
def test_the_corpus_whole_and_byte_by_byte(target: Target) -> None:
    for data in target.corpus:
        target.check(data, [])
        target.check(data, list(range(len(data))))


@EACH
def test_mutations_of_the_corpus(target: Target) -> None:
    for data, cuts in islice(tries(target, random.Random(target.name)), 150):
        target.check(data, cuts)
