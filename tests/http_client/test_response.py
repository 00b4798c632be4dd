from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.http_client.transport import ResponseReader

LIMIT = 65_536


def read(*pieces: bytes, limit: int = LIMIT) -> tuple[ResponseReader, bytes]:
    """Feed pieces until the answer is whole or faulty, as a connection does."""
    reader = ResponseReader(limit)
    body = b""
    for piece in pieces:
        if reader.whole or reader.fault:
            break
        body += reader.feed(piece)
    return reader, body


def test_a_sized_body():
    reader, body = read(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
    assert (reader.status, body, reader.whole, reader.keep_alive) == (200, b"hello", True, True)
    assert reader.headers == {b"content-type": b"text/plain", b"content-length": b"5"}


def test_a_chunked_body_in_one_read_comes_in_one_piece_without_its_trailers():
    reader = ResponseReader(LIMIT)
    body = reader.feed(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n \r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    assert body == b"hello "
    assert reader.whole
    assert b"x-sum" not in reader.headers


def test_interim_answers_are_ignored():
    reader, body = read(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n.",
    )
    assert (reader.status, body, reader.headers) == (200, b".", {b"content-length": b"1"})


@pytest.mark.parametrize("status", [100, 102, 103, 199])
@pytest.mark.parametrize("field", [b"Content-Length: 70", b"Content-Length: 3", b"Transfer-Encoding: chunked"])
def test_an_interim_answer_that_announces_a_body_swallows_nothing_of_the_answer_behind_it(status, field):
    interim = b"HTTP/1.1 %d Wait\r\n%b\r\n\r\n" % (status, field)
    for behind in (b"", b"0\r\n\r\n"):
        reader, body = read(interim + behind + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
        assert (reader.status, body, reader.fault) == (0, b"", "an interim answer announces a body")
        assert not reader.end()


def test_an_interim_answer_may_say_that_it_has_no_body():
    reader, body = read(
        b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n."
    )
    assert (reader.status, body, reader.whole) == (200, b".", True)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_is_whole_at_once(status):
    reader, body = read(f"HTTP/1.1 {status} X\r\nContent-Length: 7\r\n\r\n".encode())
    assert (reader.status, body, reader.whole) == (status, b"", True)


@pytest.mark.parametrize("space", [b" ", b"  "])
def test_spaces_behind_a_coding_do_not_hide_it(space):
    reader, body = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + space + b"\r\n\r\n1\r\n.\r\n0\r\n\r\n")
    assert (body, reader.whole) == (b".", True)


@pytest.mark.parametrize("space", [b"\t", b" \t", b"\t "])
def test_a_tab_behind_a_coding_is_a_fault_and_the_framing_of_chunks_is_never_taken_for_a_body(space):
    # Such an answer is legal, but llhttp would read it until the connection ends.
    reader, body = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + space + b"\r\n\r\n1\r\n.\r\n0\r\n\r\n")
    assert (reader.status, body, reader.fault) == (0, b"", "its transfer coding is not chunked")
    assert not reader.end()


def test_a_body_until_close_is_whole_when_the_connection_ends():
    reader, body = read(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo")
    assert (body, reader.whole, reader.until_close) == (b"hello", False, True)
    assert reader.end()


@pytest.mark.parametrize(
    "cut",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
)
def test_an_answer_that_is_cut_is_not_whole_when_the_connection_ends(cut):
    reader, _ = read(cut)
    assert not reader.end()
    assert reader.fault is None


@pytest.mark.parametrize(
    "bad",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 1\n\n.",
        b"HTTP/1.1 099 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n.",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n.\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\n.\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n.",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n.XX",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_what_is_malformed_is_a_fault_and_never_whole(bad):
    reader, _ = read(bad)
    assert reader.fault
    assert not reader.whole
    assert not reader.end()


def test_the_body_before_a_fault_is_still_given():
    reader, body = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n")
    assert (body, reader.status) == (b"hello", 200)
    assert reader.fault


@pytest.mark.parametrize(
    "tail",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmore", b"nonsense"],
)
def test_bytes_after_the_answer_do_not_spoil_it_but_end_the_connection(tail):
    reader, body = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" + tail)
    assert (body, reader.whole, reader.fault, reader.keep_alive) == (b"hello", True, None, False)


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_keep_alive(head, keep_alive):
    reader, _ = read(head + b"Content-Length: 0\r\n\r\n")
    assert (reader.whole, reader.keep_alive) == (True, keep_alive)


def test_chunks_in_http_1_0_end_the_connection():
    reader, body = read(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    )
    assert (reader.whole, body, reader.keep_alive) == (True, b"ok", False)


def test_one_reader_reads_answer_after_answer():
    reader = ResponseReader(LIMIT)
    bodies = []
    for number in range(3):
        reader.begin()
        bodies.append(reader.feed(b"HTTP/1.1 20%d OK\r\nContent-Length: 1\r\n\r\n%d" % (number, number)))
        assert (reader.status, reader.whole) == (200 + number, True)
    assert bodies == [b"0", b"1", b"2"]


def test_a_header_that_comes_twice_is_joined_and_an_empty_one_is_kept():
    reader, _ = read(b"HTTP/1.1 200 OK\r\nA: 1\r\nEmpty:\r\na: 2\r\nContent-Length: 0\r\n\r\n")
    assert reader.headers == {b"a": b"1, 2", b"empty": b"", b"content-length": b"0"}


@pytest.mark.parametrize("unit", [b"X: y\r\n", b"yyyyyyyyyyyyyyyy"], ids=["many headers", "one endless header"])
def test_a_head_is_bounded(unit):
    reader, _ = read(b"HTTP/1.1 200 OK\r\nX: ", *[unit] * 1000, limit=1000)
    assert reader.fault
    assert reader.status == 0


def test_a_large_head_in_one_read_is_refused_as_well():
    reader, _ = read(b"HTTP/1.1 200 OK\r\n" + b"X: yyyy\r\n" * 250 + b"Content-Length: 0\r\n\r\n", limit=1000)
    assert reader.fault == "its head is too large"


@pytest.mark.parametrize(
    ("start", "unit"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"extension"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: y\r\n"),
    ],
    ids=["interim answers", "chunk extension", "trailers"],
)
def test_an_endless_run_of_bytes_without_a_body_is_bounded(start, unit):
    reader, _ = read(start, *[unit] * 1000, limit=1000)
    assert reader.fault


def test_a_long_body_of_small_chunks_is_not_mistaken_for_an_endless_head():
    reader, body = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\n.\r\n"] * 1000, limit=1000)
    assert (body, reader.fault) == (b"." * 1000, None)


HEADS = st.sampled_from(
    [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\nHTTP/1.1 103 E\r\n\r\n"]
)
FRAMINGS = st.sampled_from(["sized", "chunked", "until close"])


@st.composite
def answers(draw) -> tuple[bytes, int, bytes, str]:
    """The bytes of an answer, its status, its body and its framing."""
    status = draw(st.sampled_from([200, 201, 400, 404, 429, 500, 503]))
    parts = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    framing = draw(FRAMINGS)
    body = b"".join(parts)
    head = draw(HEADS) + b"HTTP/1.1 %d Whatever\r\nX-Odd:  spaced \r\n" % status
    match framing:
        case "sized":
            return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, status, body, framing
        case "chunked":
            chunks = b"".join(b"%x;n=v\r\n%b\r\n" % (len(part), part) for part in parts)
            tail = draw(st.sampled_from([b"0\r\n\r\n", b"0\r\nX-Sum: 1\r\n\r\n"]))
            return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + tail, status, body, framing
        case _:
            return head + b"\r\n" + body, status, body, framing


def cuts(draw_from: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(draw_from), *(place % (len(draw_from) + 1) for place in places)})
    return [draw_from[a:b] for a, b in pairwise(edges)]


@settings(max_examples=200, deadline=None)
@given(answers(), st.lists(st.integers(0, 10_000), max_size=60))
def test_any_split_of_an_answer_reads_the_same(answer, places):
    data, status, body, framing = answer
    reader, got = read(*cuts(data, places))
    assert (reader.status, got, reader.fault) == (status, body, None)
    assert reader.headers[b"x-odd"] == b"spaced"
    assert reader.whole == (framing != "until close")
    assert reader.end()


@settings(max_examples=200, deadline=None)
@given(answers(), st.data())
def test_any_split_of_a_damaged_answer_reads_the_same(answer, data):
    raw = bytearray(answer[0])
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    places = data.draw(st.lists(st.integers(0, 10_000), max_size=60))
    at_once, body = read(bytes(raw))
    split, split_body = read(*cuts(bytes(raw), places))
    assert (split.status, split.whole, split_body) == (at_once.status, at_once.whole, body)
    assert bool(split.fault) == bool(at_once.fault)
    assert split.end() == at_once.end()
    assert not (at_once.whole and at_once.fault)
