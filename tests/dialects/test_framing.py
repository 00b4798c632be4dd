import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.dialects.framing import LIMIT, FrameTooLarge, NdjsonFrames, SseFrames, ndjson_frame, quote, sse_frame
from tests.streams import TEXT, cut


def events(*reads: bytes) -> list[bytes]:
    frames = SseFrames()
    return [data for read in reads for data in frames.feed(read)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\r", [b"a"]),
        (b"data: a\rdata: b\n\r\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"data: \n\n", [b""]),
        (b": ping\n\ndata: a\n\n", [b"a"]),
        (b":\n\n\n\ndata: a\n\n", [b"a"]),
        (b"data: a\n: ping\n\n", [b"a"]),
        (b"event: message\nid: 7\nretry: 10\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"data: x\n\ndata: cut off\n", [b"x"]),
        (b"database: no\n\n", []),
        (b'data: {"a": ": b"}\n\n', [b'{"a": ": b"}']),
        (b"", []),
    ],
)
def test_events_are_cut_as_the_standard_says(stream, expected):
    assert events(stream) == expected
    assert events(*(stream[i : i + 1] for i in range(len(stream)))) == expected


def test_an_event_is_there_as_soon_as_its_blank_line_is():
    frames = SseFrames()
    assert frames.feed(b"data: a\r\n") == []
    assert frames.feed(b"\r") == [b"a"]
    assert frames.feed(b"\ndata: b\n\n") == [b"b"]


_END = st.sampled_from([b"\n", b"\r\n", b"\r"])
_VALUE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=8).map(str.encode)
_NOISE = st.one_of(
    _VALUE.map(lambda value: b":" + value),
    st.builds(lambda name, value: name + b": " + value, st.sampled_from([b"event", b"id", b"retry"]), _VALUE),
)


@st.composite
def event_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes], list[bytes]]:
    """Bytes of an event stream, and the data of its events."""
    stream, expected = b"", list[bytes]()
    if draw(st.booleans()):
        stream += b"\xef\xbb\xbf"
    for _ in range(draw(st.integers(1, 5))):
        values = draw(st.lists(_VALUE, max_size=3))
        lines = [b"data: " + value for value in values]
        for noise in draw(st.lists(_NOISE, max_size=2)):
            lines.insert(draw(st.integers(0, len(lines))), noise)
        for line in [*lines, b""]:
            end = draw(_END)
            if not line and stream.endswith(b"\r"):
                end = b"\r"  # a CR that ends one line and an LF that ends the next would read as one line end
            stream += line + end
        if values:
            expected.append(b"\n".join(values))
    return stream, expected, draw(cut(stream))


@settings(deadline=None)
@given(event_streams())
def test_any_split_of_any_event_stream_gives_the_same_events(drawn):
    stream, expected, pieces = drawn
    assert events(stream) == expected
    assert events(*pieces) == expected


def test_a_frame_may_have_so_many_bytes_and_no_more():
    largest = b"data: " + b"x" * (LIMIT - 8) + b"\n\n"
    assert len(events(largest)[0]) == LIMIT - 8
    for reads in ([largest[:-2] + b"x\n\n"], [b"data: ", *[b"x" * 65536] * 17]):
        with pytest.raises(FrameTooLarge):
            events(*reads)


def test_what_counts_is_one_frame_not_the_stream():
    frame = sse_frame(b"x" * (LIMIT // 2))
    assert len(events(*[b":ping\n\n" + frame] * 4)) == 4


def test_endless_comments_within_one_event_are_bounded():
    with pytest.raises(FrameTooLarge):
        events(*[b": ping\n" * 8192] * 32)


def lines(*reads: bytes) -> list[bytes]:
    frames = NdjsonFrames()
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
    frames = NdjsonFrames()
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
    assert lines(ndjson_frame(b"{}")) == [b"{}"]


@settings(deadline=None)
@given(TEXT)
def test_quoted_text_is_json_and_one_line_to_everybody(text):
    quoted = quote(text)
    assert msgspec.json.decode(quoted) == text
    assert len(quoted.decode().splitlines()) == 1


def test_characters_that_unicode_calls_line_ends_are_escaped():
    assert quote("a\x85b\u2028c\u2029dé") == '"a\\u0085b\\u2028c\\u2029dé"'.encode()
