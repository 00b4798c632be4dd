import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.dialects import sse
from standpipe.dialects.framing import LIMIT, FrameTooLarge
from tests.streams import cut


def feed(*reads: bytes) -> list[bytes]:
    frames = sse.Frames()
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
    assert feed(stream) == expected
    assert feed(*(stream[i : i + 1] for i in range(len(stream)))) == expected


def test_an_event_is_there_as_soon_as_its_blank_line_is():
    frames = sse.Frames()
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
    assert feed(stream) == expected
    assert feed(*pieces) == expected


def test_a_frame_may_have_so_many_bytes_and_no_more():
    largest = b"data: " + b"x" * (LIMIT - 8) + b"\n\n"
    assert len(feed(largest)[0]) == LIMIT - 8
    for reads in ([largest[:-2] + b"x\n\n"], [b"data: ", *[b"x" * 65536] * 17]):
        with pytest.raises(FrameTooLarge):
            feed(*reads)


def test_what_counts_is_one_frame_not_the_stream():
    frame = sse.frame(b"x" * (LIMIT // 2))
    assert len(feed(*[b":ping\n\n" + frame] * 4)) == 4


def test_endless_comments_within_one_event_are_bounded():
    with pytest.raises(FrameTooLarge):
        feed(*[b": ping\n" * 8192] * 32)
