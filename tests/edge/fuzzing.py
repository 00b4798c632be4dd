"""What must hold for any bytes that a client may send, in any pieces, and a way to try a great many of them.

    python -m tests.edge.fuzzing --seconds 60

Two properties. Of the reader: pieces make no difference, nothing but Rejected is ever raised, and what is accepted
another strict parser (h11) frames in the same way. Of the connection: every byte it writes belongs to an answer to a
request that the reader gave, in order, or to one refusal, which is the last; then it closes, and nothing is written
any more.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import h11

from standpipe.edge.config import EdgeConfig
from standpipe.edge.reader import Reader, Rejected
from standpipe.edge.server import Server
from standpipe.policy.identity import Trust
from tests.edge.rig import refuse
from tests.fuzzing import Target, cut, load, main
from tests.virtual import run

CONFIG = EdgeConfig(request_line=256, header_bytes=1024, header_count=20, read_ahead=4096)
CORPUS = load(Path(__file__).parent / "corpus", ".http")
WORDS = (
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b",", b"0", b"\r\n\r\n", b"0\r\n\r\n", b"\0", b"\xff", b"chunked",
    b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Host: y\r\n",
    b"Connection: close\r\n", b"Upgrade: x\r\n", b"Expect: 100-continue\r\n", b"HTTP/1.0", b"ffffffffffffffff", b"-1",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
)  # fmt: skip

Seen = list[tuple[str, str, bytes, bool]]
"""Requests as read: method, target, body, and whether the body was whole."""


def check(data: bytes, cuts: list[int]) -> None:
    """Hold both properties against these bytes, cut at these places."""
    pieces = cut(data, cuts)
    together, rejected = read([data])
    apart, rejected_apart = read(pieces)
    assert (together, rejected) == (apart, rejected_apart), "the pieces make a difference"
    agree(together, data, rejected=rejected)
    run(converse(pieces, together, rejected=rejected))


def read(pieces: list[bytes]) -> tuple[Seen, bool]:
    """Everything that the reader makes of these pieces, and whether it ends in Rejected."""
    reader = Reader(CONFIG)
    seen: Seen = []
    keep_alive = True
    try:
        for piece in pieces:
            reader.receive(piece)
            while keep_alive or not reader.whole:
                if not reader.whole:
                    method, target, body, _ = seen[-1]
                    body += reader.body()
                    seen[-1] = (method, target, body, reader.whole)
                    if not reader.whole:
                        break
                else:
                    head = reader.head()
                    if head is None:
                        break
                    keep_alive = head.keep_alive
                    seen.append((head.method, head.path, b"", reader.whole))
    except Rejected:
        # How much of a broken body was read before it broke is nobody's business.
        return [(method, target, body if whole else b"", whole) for method, target, body, whole in seen], True
    return seen, False


def agree(seen: Seen, data: bytes, *, rejected: bool) -> None:
    """Another parser frames what was accepted in the same way. It may stop earlier, or go on where we do not."""
    other = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    other.receive_data(data.lstrip(b"\r\n"))
    for method, _, body, whole in seen:
        try:
            event = other.next_event()
            assert isinstance(event, h11.Request), f"{method} is no request to h11, but {event!r}"
            assert event.method.decode() == method
            theirs = b""
            while isinstance(event := other.next_event(), h11.Data):
                theirs += event.data
            if whole or not rejected:
                assert theirs == body
                assert whole == isinstance(event, h11.EndOfMessage)
        except h11.RemoteProtocolError:
            return  # stricter than we are about what is inside a value; never about framing, or the next one fails
        if not whole:
            return
        other.send(h11.Response(status_code=200, headers=[(b"content-length", b"0")]))
        other.send(h11.EndOfMessage())
        if other.our_state is not h11.DONE or other.their_state is not h11.DONE:
            return
        other.start_next_cycle()


class Transport:
    """As much of a transport as a connection uses. Keeps what is written; takes nothing after a close."""

    def __init__(self):
        self.written = b""
        self.closing = False
        self.ended = False
        self.reading = True

    def write(self, data):
        assert not self.closing, "written after the close"
        assert not self.ended, "written after the end"
        self.written += data

    def write_eof(self):
        self.ended = True

    def can_write_eof(self):
        return True

    def close(self):
        self.closing = True

    abort = close

    def is_closing(self):
        return self.closing

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def is_reading(self):
        return self.reading

    def get_write_buffer_size(self):
        return 0

    def set_write_buffer_limits(self, high, low):
        pass

    def get_extra_info(self, name):
        return None


async def echo(request, reply):
    """Answer with the body, sized, so that answers can be told apart."""
    body = await request.body(1_000_000)
    answer = b"%b|%b" % (request.method.encode(), body)
    reply.start(200, [(b"content-length", b"%d" % len(answer))])
    reply.write(answer)
    reply.end()


async def converse(pieces: list[bytes], expected: Seen, *, rejected: bool) -> None:
    """Send the pieces to a connection, and hold what it writes against what the reader made of them."""
    server = Server(echo, refuse, CONFIG, Trust())
    connection: Any = server.protocol(server.limiter.lease("192.0.2.7"))
    transport: Any = Transport()
    connection.connection_made(transport)
    for piece in pieces:
        if transport.closing:
            break
        connection.data_received(piece)
        for _ in range(3):
            await asyncio.sleep(0)
    for _ in range(8 * len(expected) + 8):
        await asyncio.sleep(0)
    answers = parse(transport.written, [method for method, *_ in expected])
    whole = [(method, body) for method, _, body, whole in expected if whole]
    for (method, body), (status, answer) in zip(whole, answers, strict=False):
        assert status == 200
        assert answer == (b"" if method == "HEAD" else b"%b|%b" % (method.encode(), body))
    assert len(answers) == len(whole) + rejected, "an answer too many, or too few"
    if rejected:
        assert answers[-1][0] >= 400
        assert transport.ended, "a refusal ends the connection"
    if not transport.closing:
        connection.eof_received()
    connection.connection_lost(None)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not server.statistics().phases


def parse(data: bytes, methods: list[str]) -> list[tuple[int, bytes]]:
    """Final answers, in order. Every byte must belong to one."""
    answers: list[tuple[int, bytes]] = []
    while data:
        head, blank, data = data.partition(b"\r\n\r\n")
        assert blank, head
        status = int(head.split(b" ", 2)[1])
        if status == 100:
            continue
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        if status == 200 and methods[len(answers)] == "HEAD":
            length = 0
        assert len(data) >= length
        answers.append((status, data[:length]))
        data = data[length:]
    return answers


TARGET = Target("requests", CORPUS, WORDS, check)

if __name__ == "__main__":
    sys.exit(main(TARGET))
