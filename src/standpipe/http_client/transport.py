"""One connection to a server: sends a request, pushes what comes back, and dies at once when told to.

Bytes go straight from `data_received` to `on_body`, one call per read of the socket: no queue, no timer and no task
per chunk. The only thing that is awaited is the end of the answer; how long to wait for it is the caller's to decide,
by cancelling.

llhttp does the parsing, so the framing holds at any split of the bytes. `ResponseReader` adds the bounds (a head of at
most so many bytes, no endless run of bytes that carry no body, no transfer coding but chunked) and the knowledge of
whether an answer that ended is whole.

Knows neither the pool that it may go back to nor what the bytes mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import httptools

from standpipe.flow import Flow

Headers = Mapping[bytes, bytes]
"""Names in lower case; the values of a name that came more than once are joined by a comma."""

OnHead = Callable[[int, Headers, Flow], None]
"""Status, headers, and the flow to pause while the receiver is behind. Called once, before any body."""

OnBody = Callable[[bytes], bool]
"""Some of the body, never empty. True says that the receiver has all it wants, and it is not called again. The end of
the answer may still come for a moment, so that the connection can be used again, but its absence is no fault."""

LINGER = 1.0
"""Seconds to wait for the end of an answer whose receiver has all it wants."""
LINGER_BYTES = 65_536
"""Bytes of such an answer's body that are read, to get to its end."""


class HttpFault(Exception):
    """What can go wrong between us and a server. The message is for the log: it may name the server's host."""


class ConnectFailed(HttpFault):
    """No connection came about: refused, no such host or socket, or a certificate that is not to be trusted."""


class ConnectionBroken(HttpFault):
    """The connection ended, or spoke something that is not HTTP, before the answer was whole.

    `begun` tells whether any byte of the answer had arrived.
    """

    def __init__(self, message: str, *, begun: bool) -> None:
        super().__init__(message)
        self.begun = begun


class DeadlinePassed(HttpFault):
    """Something did not come within so many `seconds`."""

    def __init__(self, what: str, seconds: float) -> None:
        """`what` is "connection" or "whole answer"."""
        super().__init__(f"no {what} within {seconds:g} s")
        self.what = what
        self.seconds = seconds


class _Malformed(Exception):
    """Raised inside a callback to stop llhttp; its message becomes the fault."""


class ResponseReader:
    """Reads the answers that come on one connection, one after another.

    `status` is 0 until the head of the answer is complete, interim (1xx) heads not counted. `whole` tells that the
    body is complete, `fault` what is wrong with the bytes, and `keep_alive` whether the engine would take another
    request on this connection. The `on_*` methods are llhttp's callbacks and nobody else's.
    """

    __slots__ = (
        "_barren", "_head_limit", "_parser", "_pieces", "_size",
        "fault", "headers", "keep_alive", "on_body", "status", "until_close", "whole",
    )  # fmt: skip

    def __init__(self, head_limit: int) -> None:
        """`head_limit` is in bytes."""
        self._head_limit = head_limit
        self._pieces: list[bytes] = []
        # Straight into the list: no Python frame for a piece of the body.
        self.on_body = self._pieces.append
        self.begin()
        self._parser = httptools.HttpResponseParser(self)

    def begin(self) -> None:
        """Expect an answer."""
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.whole = False
        self.fault: str | None = None
        self.keep_alive = False
        self.until_close = False
        self._size = 0
        self._barren = 0

    def feed(self, data: bytes) -> bytes:
        """Take what was read; gives the bytes of the body in it, maybe none. Look at `status`, `whole` and `fault`
        after it. Nothing may be fed after a fault or after the whole.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fault = "it switched protocols"
        except httptools.HttpParserError as error:
            self.keep_alive = False
            if not self.whole:
                self.fault = str(error.__context__ or error)
        pieces = self._pieces
        if not pieces:
            self._barren += len(data)
            if self._barren > self._head_limit and not self.whole and self.fault is None:
                self.fault = "too many bytes without any of a body"
            return b""
        self._barren = 0
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return body

    def end(self) -> bool:
        """The connection was closed: whether that completes the answer."""
        return self.whole or (self.until_close and self.fault is None)

    def close(self) -> None:
        """Take the parser apart: it holds our methods, we hold it, and a cycle is work for the collector."""
        del self._parser

    def on_message_begin(self) -> None:
        if self.whole:
            raise _Malformed("bytes after the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:
            return  # a trailer
        self._size += len(name) + len(value)
        if self._size > self._head_limit:
            raise _Malformed("its head is too large")
        name = name.lower()
        # llhttp leaves white space behind a value. With a tab there it does not know the coding: then neither do we.
        value = value.rstrip(b" " if name == b"transfer-encoding" else None)
        known = self.headers.get(name)
        self.headers[name] = value if known is None else known + b", " + value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        coding = self.headers.get(b"transfer-encoding")
        if status < 200:
            if status < 100:
                raise _Malformed("its status is no status")
            # It may have none (RFC 9112, 6.3); after most statuses llhttp would read one, out of the answer behind it.
            if coding is not None or self.headers.get(b"content-length", b"0") != b"0":
                raise _Malformed("an interim answer announces a body")
            self.headers = {}
            return
        if coding is not None and coding.lower() != b"chunked":
            raise _Malformed("its transfer coding is not chunked")
        self.until_close = coding is None and b"content-length" not in self.headers
        self.status = status

    def on_message_complete(self) -> None:
        if self.status:
            self.whole = True
            # HTTP/1.0 has no chunks: who sends them may mean anything by what follows (RFC 9112, 6.1).
            faithful = b"transfer-encoding" not in self.headers or self._parser.get_http_version() == "1.1"
            self.keep_alive = faithful and self._parser.should_keep_alive()

    def __repr__(self) -> str:
        return f"<ResponseReader status={self.status} whole={self.whole} fault={self.fault!r}>"


class Connection(asyncio.Protocol):
    """Carries one exchange at a time. It is a Flow for as long as that exchange lasts.

    `open` turns False for ever when either side closes. `reusable` is true between two exchanges, and only if the
    engine would take another one.
    """

    __slots__ = (
        "_begun", "_done", "_enough", "_headed", "_lingering", "_loop", "_on_body", "_on_head", "_on_lost", "_paused",
        "_reader", "_spilled", "_transport", "open", "reusable",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, head_limit: int, on_lost: Callable[[Connection], None]) -> None:
        """`head_limit` is in bytes. `on_lost` is called once, when the socket is closed."""
        self._loop = loop
        self._on_lost = on_lost
        self._reader = ResponseReader(head_limit)
        self._transport: asyncio.Transport
        self._lingering: asyncio.TimerHandle | None = None
        self._done: asyncio.Future[None] | None = None
        self._on_head: OnHead
        self._on_body: OnBody
        self._begun = self._headed = self._enough = self._paused = False
        self.open = self.reusable = False

    async def exchange(self, request: bytes, on_head: OnHead, on_body: OnBody) -> None:
        """Send a request; returns when the answer is whole.

        Cancelling this closes the socket at once. Whatever `on_head` or `on_body` raises ends the exchange the same
        way, and comes out here. Raises ConnectionBroken.
        """
        if not self.open:
            raise ConnectionBroken("the connection was closed before it was used", begun=False)
        self.reusable = False
        self._done = done = self._loop.create_future()
        self._on_head, self._on_body = on_head, on_body
        self._begun = self._headed = self._enough = False
        self._reader.begin()
        self._transport.write(request)
        try:
            await done
        except BaseException:
            self.abort()
            raise
        finally:
            del self._on_head, self._on_body  # a kept connection does not keep its last receiver

    def pause(self) -> None:
        if self._done is not None and not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def abort(self) -> None:
        """Close the socket now, unsent and unread bytes and all. Idempotent."""
        self._fail(ConnectionBroken("we closed the connection", begun=self._begun))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of a stream, it is one
        self._transport = transport
        self.open = True

    def data_received(self, data: bytes) -> None:
        done = self._done
        if done is None or done.done():
            self.abort()  # nobody asked for these bytes, or not any more
            return
        self._begun = True
        reader = self._reader
        body = reader.feed(data)
        try:
            if reader.status and not self._headed:
                self._headed = True
                self._on_head(reader.status, reader.headers, self)
            if body and self._on_body(body):
                self._linger()
        except Exception as error:  # noqa: BLE001  # the receiver's fault, whatever it is, goes to who awaits the exchange
            self._fail(error)
            return
        if reader.whole:
            self._finish(reusable=reader.keep_alive and not self._transport.get_write_buffer_size())
        elif reader.fault is not None:
            self._lose(f"the answer is malformed: {reader.fault}")

    def eof_received(self) -> None:
        # Not left to connection_lost, which may wait for bytes to be written that the engine no longer reads.
        if self._reader.end():
            self._finish(reusable=False)
        else:
            self._lose("the connection was closed before the response was complete")

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose("the connection was lost" if exc is None else f"the connection was lost: {exc}")
        self._reader.close()
        self._on_lost(self)

    def _linger(self) -> None:
        """The receiver has enough: the rest of the answer gets a moment."""
        self._enough = True
        self._on_body = self._spill
        self._spilled = 0
        if not self._reader.whole:
            self._lingering = self._loop.call_later(LINGER, self._lingered)

    def _spill(self, data: bytes) -> bool:
        self._spilled += len(data)
        if self._spilled > LINGER_BYTES:
            self._finish(reusable=False)
        return False

    def _lingered(self) -> None:
        self._finish(reusable=False)

    def _finish(self, *, reusable: bool) -> None:
        """The answer is whole, or as much of it as was wanted."""
        done, self._done = self._done, None
        self._stop_lingering()
        if self._paused:
            self.resume()
        self.reusable = reusable and self.open
        if not self.reusable:
            self._shut()
        if done is not None and not done.done():
            done.set_result(None)

    def _lose(self, why: str) -> None:
        """The engine ended it: a fault, unless the receiver had enough or there was no exchange at all."""
        if self._enough:
            self._finish(reusable=False)
        else:
            self._fail(ConnectionBroken(why, begun=self._begun))

    def _fail(self, error: Exception) -> None:
        done, self._done = self._done, None
        self.reusable = False
        self._shut()
        if done is not None and not done.done():
            done.set_exception(error)

    def _shut(self) -> None:
        self._stop_lingering()
        if self.open:
            self.open = False
            self._transport.abort()

    def _stop_lingering(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    def __repr__(self) -> str:
        state = "closed" if not self.open else "kept" if self._done is None else "paused" if self._paused else "busy"
        return f"<Connection {state} {self._reader!r}>"
