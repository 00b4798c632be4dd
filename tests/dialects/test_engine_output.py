from __future__ import annotations

import msgspec
import pytest

from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import Timings, Usage
from standpipe.dialects.engine_output import MOST_TOKENS, as_object, is_object, timings, usage


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


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        ("", b"{}"),
        ("{}", b"{}"),
        ('{\n "city": "Oslo\\n",\r\n "n": [1, 2.50, 123456789012345678901234567890]\n}',
         b'{"city":"Oslo\\n","n":[1,2.50,123456789012345678901234567890]}'),
        (' {"a": "b  c"} ', b'{"a":"b  c"}'),
    ],
)  # fmt: skip
def test_an_object_goes_out_on_one_line_as_it_is(arguments, written):
    assert msgspec.json.encode(as_object(arguments)) == written


@pytest.mark.parametrize("arguments", ["{", "[]", "null", '"{}"', "{'a': 1}", '{"a":1}}', "[" * 100_000, "city=Oslo"])
def test_anything_else_is_a_failure(arguments):
    assert not is_object(arguments)
    with pytest.raises(EngineFailed, match="JSON object"):
        as_object(arguments)


def test_nothing_is_no_whole_object():
    assert not is_object("")
