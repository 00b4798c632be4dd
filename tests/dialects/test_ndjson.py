import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.dialects import ndjson
from standpipe.dialects.framing import LIMIT, FrameTooLarge
from tests.streams import cut


def lines(*reads: bytes) -> list[bytes]:
    frames = ndjson.Frames()
    return [line for read in reads for line in frames.feed(read)] + frames.end()


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b'{"a":1}\n', [b'{"a":1}']),
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\r\n\r\n\n{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b"", []),
        (b"\n\n", []),
    ],
)
def test_lines_are_cut_at_line_feeds(stream, expected):
    assert lines(stream) == expected


def test_a_last_line_without_its_end_waits_for_the_end_of_the_stream():
    frames = ndjson.Frames()
    assert frames.feed(b'{"a":1}\n{"b"') == [b'{"a":1}']
    assert frames.feed(b":2}") == []
    assert frames.end() == [b'{"b":2}']
    assert frames.end() == []


@settings(deadline=None)
@given(st.data())
def test_any_split_gives_the_same_lines(data):
    stream = data.draw(st.lists(st.sampled_from([b'{"a":1}', b"\n", b"\r\n", b"\r", "é".encode()]), max_size=12))
    joined = b"".join(stream)
    assert lines(*data.draw(cut(joined))) == lines(joined)


def test_a_line_may_have_so_many_bytes_and_no_more():
    largest = b"x" * (LIMIT - 1) + b"\n"
    assert lines(largest * 2) == [largest[:-1]] * 2
    for reads in ([b"x" + largest], [b"x" * LIMIT], [b"x", largest], [b"x" * 65536] * 17):
        with pytest.raises(FrameTooLarge):
            lines(*reads)


def test_a_written_line_is_read_again():
    assert lines(ndjson.frame(b"{}")) == [b"{}"]
