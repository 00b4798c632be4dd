"""What must hold for any bytes that an engine may answer with, in any pieces.

    python -m tests.http_client.fuzzing --seconds 60

Of the reader: pieces make no difference, it never raises, it keeps no more than its bound, and what it calls whole
another strict parser (h11) frames in the same way; above all, an answer that was cut is never whole. Of the
connection: an exchange returns if and only if the answer was whole, else it raises ConnectionBroken, and the receiver
got the body that the reader found.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, NamedTuple

import h11

from standpipe.http_client.transport import Connection, ConnectionBroken, ResponseReader
from tests.fuzzing import Target, cut, load, main
from tests.virtual import run

LIMIT = 2048
"""Bytes of a head, and of any run without a body."""
CORPUS = load(Path(__file__).parent / "corpus", ".http")
WORDS = (
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b",", b"0", b"\r\n\r\n", b"0\r\n\r\n", b"\0", b"\xff", b"chunked",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b"HTTP/1.0 ",
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 No\r\n", b"ffffffffffffffff", b"-1", b";a=b", b"5\r\nhello\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 2500, b"X: y\r\n" * 400, b"1;" + b"x" * 2000 + b"\r\n.\r\n",
)  # fmt: skip


class Seen(NamedTuple):
    """What a reader made of an answer whose connection then ended. `ended`: that made it whole, or it was before."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    whole: bool
    ended: bool
    keep_alive: bool
    faulty: bool


def check(data: bytes, cuts: list[int]) -> None:
    """Hold every property against these bytes, cut at these places, and broken off at each of them."""
    pieces = cut(data, cuts)
    together, apart = read([data]), read(pieces)
    if len(data) <= LIMIT:  # else the bound on bytes without a body may bite, and that counts pieces
        # Bytes that come right behind an answer end its connection; when they come later, the connection does it.
        assert together == apart._replace(keep_alive=together.keep_alive), "the pieces make a difference"
    for part in (data, *(data[: place % (len(data) + 1)] for place in cuts)):
        agree(read([part]), part)
    run(converse(pieces, apart))


def read(pieces: list[bytes]) -> Seen:
    """Feed pieces as a connection does: until the answer is whole or faulty."""
    reader = ResponseReader(LIMIT)
    body, fed, barren = b"", 0, 0
    for piece in pieces:
        got = reader.feed(piece)
        body += got
        fed += len(piece)
        barren = 0 if got else barren + len(piece)
        if reader.whole or reader.fault:
            break
        assert barren <= LIMIT, "more bytes without a body than it may take"
    assert len(body) <= fed
    joined = sum(2 * value.count(b", ") for value in reader.headers.values())
    assert sum(len(name) + len(value) for name, value in reader.headers.items()) <= LIMIT + joined
    assert not (reader.whole and reader.fault)
    headers = dict(reader.headers) if reader.status else {}  # nobody looks at half a head
    seen = Seen(reader.status, headers, body, reader.whole, reader.end(), reader.keep_alive, bool(reader.fault))
    reader.close()
    return seen


def agree(ours: Seen, data: bytes) -> None:
    """Another parser frames what was accepted in the same way, unless it is stricter about what is inside a line."""
    if ours.faulty:
        return
    engine = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    engine.send(h11.Request(method="POST", target="/", headers=[(b"host", b"x")]))
    engine.send(h11.EndOfMessage())
    engine.receive_data(data.lstrip(b"\r\n"))
    status, body, cut_off = 0, b"", False
    try:
        while not isinstance(event := engine.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif event is h11.NEED_DATA:
                cut_off = True
                engine.receive_data(b"")
    except h11.RemoteProtocolError:
        if cut_off:
            assert not ours.ended, "an answer that was cut looks whole"
        return
    assert ours.ended, "a whole answer was not taken for one"
    assert (ours.status, ours.body) == (status, body)
    if ours.keep_alive and engine.their_http_version == b"1.1":  # h11 keeps no connection of HTTP/1.0
        assert engine.their_state is h11.DONE, "the engine will close, and we would ask it again"


class Transport:
    """As much of a transport as a connection uses."""

    def __init__(self):
        self.closed = False

    def write(self, data):
        assert not self.closed

    def get_write_buffer_size(self):
        return 0

    def is_closing(self):
        return self.closed

    def abort(self):
        self.closed = True


async def converse(pieces: list[bytes], expected: Seen) -> None:
    """Let these pieces come to a connection and end it, and hold the exchange against what the reader made of them."""
    heads: list[int] = []
    bodies: list[bytes] = []
    lost: list[Connection] = []

    def on_head(status, headers, flow):
        assert not heads
        assert not bodies
        assert dict(headers) == expected.headers
        heads.append(status)

    def on_body(data):
        assert data
        assert heads
        bodies.append(data)
        return False

    transport: Any = Transport()
    connection = Connection(asyncio.get_running_loop(), LIMIT, lost.append)
    connection.connection_made(transport)
    exchange = asyncio.ensure_future(connection.exchange(b"request", on_head, on_body))
    await asyncio.sleep(0)
    for piece in pieces:
        if not transport.closed:
            connection.data_received(piece)
    if not transport.closed:
        connection.eof_received()
    connection.connection_lost(None)
    (fault,) = await asyncio.gather(exchange, return_exceptions=True)
    if expected.ended:
        assert fault is None
    else:
        assert isinstance(fault, ConnectionBroken), f"undeclared: {fault!r}"
        assert fault.begun == bool(pieces)
    assert heads == ([expected.status] if expected.status else [])
    assert b"".join(bodies) == expected.body
    assert lost == [connection]
    assert transport.closed
    assert not connection.reusable


TARGET = Target("answers", CORPUS, WORDS, check)

if __name__ == "__main__":
    sys.exit(main(TARGET))
