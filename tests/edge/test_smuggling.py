"""Requests that have two readings are refused, and nothing behind them is ever taken for a request.

Each case is followed by what an attacker would like to have answered.
"""

from __future__ import annotations

import pytest

from standpipe.edge.config import EdgeConfig
from tests.edge.rig import run

PRIZE = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"0\r\n\r\n"


def head(*lines, start=b"POST / HTTP/1.1"):
    return b"\r\n".join((start, b"Host: x", *lines, b"", b""))


def chunked(body, coding=b"Transfer-Encoding: chunked"):
    return head(coding) + body


HEADS = {
    "length and coding": head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + LAST,
    "coding and length": head(b"Transfer-Encoding: chunked", b"Content-Length: 5") + LAST,
    "two lengths": head(b"Content-Length: 0", b"Content-Length: 5"),
    "two equal lengths": head(b"Content-Length: 5", b"Content-Length: 5") + b"hello",
    "a list of lengths": head(b"Content-Length: 5, 5") + b"hello",
    "a length with plus": head(b"Content-Length: +5") + b"hello",
    "a length with minus": head(b"Content-Length: -5") + b"hello",
    "a length in hex": head(b"Content-Length: 0x5") + b"hello",
    "a length with a space": head(b"Content-Length: 0 5"),
    "a length with an underscore": head(b"Content-Length: 1_0"),
    "an empty length": head(b"Content-Length:"),
    "a huge length": head(b"Content-Length: " + b"9" * 30),
    "a length that wraps": head(b"Content-Length: 18446744073709551616"),
    "bare LF in a line": b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    "bare LF throughout": b"GET / HTTP/1.1\nHost: x\n\n",
    "bare LF behind the start": b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\nHost: x\r\n\n",
    "bare CR in a value": head(b"X: a\rb"),
    "bare CR as line end": b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
    "NUL in a value": head(b"X: a\0b"),
    "a folded line": head(b"X: a", b" b"),
    "a folded coding": head(b"Transfer-Encoding:", b" chunked") + LAST,
    "a fold behind the start": b"GET / HTTP/1.1\r\n X: y\r\nHost: x\r\n\r\n",
    "a space before the colon": head(b"Content-Length : 5") + b"hello",
    "a tab before the colon": head(b"Transfer-Encoding\t: chunked") + LAST,
    "no name": head(b": x"),
    "no colon": head(b"Content-Length 5") + b"hello",
    "a name with a quote": head(b'"Content-Length": 5') + b"hello",
    "coding identity": chunked(LAST, b"Transfer-Encoding: identity"),
    "coding xchunked": chunked(LAST, b"Transfer-Encoding: xchunked"),
    "coding with a tail": chunked(LAST, b"Transfer-Encoding: chunked, identity"),
    "coding twice": chunked(LAST, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    "coding with a vertical tab": chunked(LAST, b"Transfer-Encoding: \x0bchunked"),
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": head(b"Host: y"),
    "two equal Hosts": head(b"Host: x"),
    "an empty Host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "a Host with a path": b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
    "a Host with a user": b"GET / HTTP/1.1\r\nHost: a@x\r\n\r\n",
    "a Host with a space": b"GET / HTTP/1.1\r\nHost: x y\r\n\r\n",
    "two names in a Host": b"GET / HTTP/1.1\r\nHost: x,y\r\n\r\n",
    "a Host with a wild port": b"GET / HTTP/1.1\r\nHost: x:80a\r\n\r\n",
    "an open bracket in a Host": b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
}
UNKNOWN_CODINGS = {"coding identity", "coding xchunked"}

CODINGS = {
    "coding in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST,
    "coding in front of chunked": chunked(LAST, b"Transfer-Encoding: gzip, chunked"),
    "an empty coding in front": chunked(LAST, b"Transfer-Encoding: , chunked"),
    "two coding lines": chunked(LAST, b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
}

CHUNKS = {
    "a size with plus": b"+5\r\nhello\r\n",
    "a size with 0x": b"0x5\r\nhello\r\n",
    "a size with a minus": b"-5\r\nhello\r\n",
    "a size with a space before": b" 5\r\nhello\r\n",
    "a size with a space behind": b"5 \r\nhello\r\n",
    "a size with an underscore": b"0_5\r\nhello\r\n",
    "an empty size": b"\r\nhello\r\n",
    "a huge size": b"f" * 17 + b"\r\nhello\r\n",
    "a size behind a bare LF": b"5\nhello\r\n",
    "a chunk that ends in a bare LF": b"5\r\nhello\n",
    "a chunk without an end": b"5\r\nhello",
    "a chunk longer than it says": b"5\r\nhello!\r\n",
    "a bare LF in an extension": b"5;a\nb\r\nhello\r\n",
    "a bare CR in an extension": b"5;a\rb\r\nhello\r\n",
    "a last chunk with a bare LF": b"0\n\r\n",
    "an end with a bare LF": b"0\r\n\n",
    "a trailer with a bare LF": b"0\r\nX: y\n\r\n",
    "a folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "a trailer with a length": b"0\r\nContent-Length: 5\r\n\r\n",
}


class Handler:
    """Says what body it got, and remembers every path."""

    def __init__(self):
        self.paths = []

    async def __call__(self, request, reply):
        self.paths.append(request.path)
        body = await request.body(10_000)
        reply.start(200, [(b"content-length", b"%d" % len(body))])
        reply.write(body)
        reply.end()


def attack(loop, data, statuses):
    handler = Handler()

    async def scene(rig):
        client = await rig.connect()
        client.send(data + PRIZE)
        answer = await client.answer()
        assert answer.status in statuses
        assert await client.rest() == b"", "a second answer"

    run(loop, handler, scene, config=EdgeConfig(linger=0.02))
    assert "/smuggled" not in handler.paths
    return handler


@pytest.mark.parametrize("name", HEADS)
def test_a_head_with_two_readings_is_refused(loop, name):
    assert not attack(loop, HEADS[name], {400, 501} if name in UNKNOWN_CODINGS else {400}).paths


@pytest.mark.parametrize("name", CODINGS)
def test_a_coding_that_others_may_read_otherwise_is_refused(loop, name):
    assert not attack(loop, CODINGS[name], {400, 501}).paths


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("name", CHUNKS)
def test_a_body_with_two_readings_is_refused(loop, name, at_once):
    body = CHUNKS[name] if at_once else b"1\r\nx\r\n" + CHUNKS[name]
    attack(loop, chunked(body), {400})
