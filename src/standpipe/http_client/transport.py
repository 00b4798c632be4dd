"""One connection to an engine: sends a request, pushes what comes back, and dies at once when told to.

Bytes go straight from `data_received` to `on_body`, one call per read of the socket: no queue and no task per chunk.
The only thing that is awaited is the end of the answer. Deadlines cost nothing per chunk: a read stores the time, and
one timer, armed anew only when it fires, compares it. That works because the timer is never set further away than
the shortest deadline, so it always fires before any deadline that began after it was set.

Knows neither the pool that it may go back to nor what the bytes mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from standpipe.flow import Flow
from standpipe.http_client.response import Headers, ResponseReader

OnHead = Callable[[int, Headers, Flow], None]
"""Status, headers, and the flow to pause while the receiver is behind. Called once, before any body."""

OnBody = Callable[[bytes], bool]
"""Some of the body, never empty. True says that the receiver has all it wants, and it is not called again. The end of
the answer may still come for a moment, so that the connection can be used again, but its absence is no fault."""

LINGER = 1.0
"""Seconds to wait for the end of an answer whose receiver has all it wants."""
LINGER_BYTES = 65_536
"""Bytes of such an answer's body that are read, to get to its end."""

_RESOLUTION = 0.001
"""Loops fire timers up to this much early (seconds; uvloop counts in milliseconds)."""


class HttpFault(Exception):
    """What can go wrong between us and an engine. The message is for the log: it may name the engine's host."""


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
    """It did not come within so many `seconds`; `kind` says what."""

    def __init__(self, kind: Literal["connection", "first byte", "next byte", "whole answer"], seconds: float) -> None:
        super().__init__(f"no {kind} within {seconds:g} s")
        self.kind = kind
        self.seconds = seconds


class Bounds(Struct, frozen=True, kw_only=True):
    """How long and how much, all of it per connection but `kept`. Times in seconds, sizes in bytes.

    `first_byte` runs from the request to the first byte of the answer's body, so an engine may send its head at once
    and read the prompt after it; `next_byte` runs from each read to the next. `keep` is how long an unused connection
    is kept, to be set below the engine's own patience (5 s in many servers). `head` also bounds any run of bytes that
    carry no body.
    """

    connect: float = 5.0
    first_byte: float = 120.0
    next_byte: float = 60.0
    keep: float = 4.0
    kept: int = 64
    head: int = 65_536


class Connection(asyncio.Protocol):
    """Carries one exchange at a time. It is a Flow for as long as that exchange lasts.

    `open` turns False for ever when either side closes. `reusable` is true between two exchanges, and only if the
    engine would take another one.
    """

    __slots__ = (
        "_begun",
        "_bodied",
        "_bounds",
        "_done",
        "_enough",
        "_headed",
        "_loop",
        "_on_body",
        "_on_head",
        "_on_lost",
        "_paused",
        "_reader",
        "_shortest",
        "_since",
        "_spilled",
        "_timer",
        "_transport",
        "open",
        "reusable",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, bounds: Bounds, on_lost: Callable[[Connection], None]) -> None:
        """`on_lost` is called once, when the socket is closed."""
        self._loop = loop
        self._bounds = bounds
        self._shortest = min(bounds.first_byte, bounds.next_byte)
        self._on_lost = on_lost
        self._reader = ResponseReader(bounds.head)
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._done: asyncio.Future[None] | None = None
        self._on_head: OnHead
        self._on_body: OnBody
        self._since = 0.0
        self._begun = self._headed = self._bodied = self._enough = self._paused = False
        self.open = self.reusable = False

    async def exchange(self, request: bytes, on_head: OnHead, on_body: OnBody) -> None:
        """Send a request; returns when the answer is whole.

        Cancelling this closes the socket at once. Whatever `on_head` or `on_body` raises ends the exchange the same
        way, and comes out here. Raises ConnectionBroken, DeadlinePassed.
        """
        if not self.open:
            raise ConnectionBroken("the connection was closed before it was used", begun=False)
        self.reusable = False
        self._done = done = self._loop.create_future()
        self._on_head, self._on_body = on_head, on_body
        self._begun = self._headed = self._bodied = self._enough = False
        self._reader.begin()
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._shortest, self._tick)
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
            self._since = self._loop.time()
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
            if body:
                self._bodied = True
                self._since = self._loop.time()
                if self._on_body(body):
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
            self._lose("the connection was closed before the answer was whole")

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
            self._stop_timer()
            self._timer = self._loop.call_later(min(LINGER, self._shortest), self._tick)

    def _spill(self, data: bytes) -> bool:
        self._spilled += len(data)
        if self._spilled > LINGER_BYTES:
            self._finish(reusable=False)
        return False

    def _tick(self) -> None:
        self._timer = None
        if self._done is None:
            return  # between two exchanges: the next one sets a timer
        now = self._loop.time()
        kind: Literal["first byte", "next byte"] = "next byte" if self._bodied else "first byte"
        patience = self._bounds.next_byte if self._bodied else self._bounds.first_byte
        if self._paused:
            self._since = now  # it is we who hold it back
        if self._enough:
            self._finish(reusable=False)
        elif now - self._since >= patience - _RESOLUTION:
            self._fail(DeadlinePassed(kind, patience))
        else:
            self._timer = self._loop.call_later(min(self._since + patience - now, self._shortest), self._tick)

    def _finish(self, *, reusable: bool) -> None:
        """The answer is whole, or as much of it as was wanted."""
        done, self._done = self._done, None
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
        self._stop_timer()
        if self.open:
            self.open = False
            self._transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __repr__(self) -> str:
        state = "closed" if not self.open else "kept" if self._done is None else "paused" if self._paused else "busy"
        return f"<Connection {state} {self._reader!r}>"
