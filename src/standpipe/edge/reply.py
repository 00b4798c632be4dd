"""An answer on its way out: the seam's Reply over one HTTP/1 connection.

Knows how an answer is framed, and nothing of sockets: its connection gives it what sends. The head is kept back until
there is something to send with it, so that head and first piece are one write; an answer whose length is not known
sends it by the next turn of the loop at the latest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from enum import StrEnum
from http import HTTPStatus

from standpipe.edge.seam import Refusal, Reply
from standpipe.flow import Flow

Header = tuple[bytes, bytes]

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_BODILESS = frozenset({204, 304, *range(100, 200)})
_LAST_CHUNK = b"0\r\n\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n"
_CLOSE = b"connection: close\r\n"
_KEEP_ALIVE = b"connection: keep-alive\r\n"


class BodyEnd(StrEnum):
    """How the end of a body is told."""

    NONE = "none"
    SIZED = "sized"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


class DateCache:
    """The date as HTTP writes it, made once per second."""

    __slots__ = ("_date", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._date = b""

    def date(self) -> bytes:
        """Now."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True).encode()
        return self._date


class Throttled:
    """A reply's hold on the source of its answer: backpressure, from whoever learns that the reader is behind."""

    __slots__ = ("_flow", "_held")

    def __init__(self) -> None:
        self._flow: Flow | None = None
        self._held = False

    def throttle(self, flow: Flow | None) -> None:
        former, self._flow = self._flow, flow
        if self._held:
            if former is not None:
                former.resume()
            if flow is not None:
                flow.pause()

    def hold(self) -> None:
        """Too much waits for the reader."""
        self._held = True
        if self._flow is not None:
            self._flow.pause()

    def release(self) -> None:
        """The reader has caught up."""
        self._held = False
        if self._flow is not None:
            self._flow.resume()


class Http1Reply(Throttled):
    """One answer."""

    __slots__ = (
        "_bodiless", "_body", "_dates", "_head", "_left", "_loop", "_modern", "_on_over", "_send", "_stays_open",
        "cut", "ended", "gone", "started",
    )  # fmt: skip

    def __init__(
        self,
        send: Callable[[bytes], None],
        stays_open: Callable[[bool], bool],
        on_over: Callable[[Http1Reply], None],
        dates: DateCache,
        loop: asyncio.AbstractEventLoop,
        *,
        bodiless: bool,
        modern: bool,
    ) -> None:
        """`stays_open` decides, once per answer, whether the connection outlives it; it is told whether the end of the
        body shows without. `on_over` is called when the answer has ended or was cut. `bodiless`: a HEAD request.
        `modern`: the client speaks HTTP/1.1."""
        super().__init__()
        self._send = send
        self._stays_open = stays_open
        self._on_over = on_over
        self._dates = dates
        self._loop = loop
        self._bodiless = bodiless
        self._modern = modern
        self._body = BodyEnd.NONE
        self._head = b""
        self._left = 0
        self.gone = False
        self.started = False
        self.ended = False
        self.cut = False

    @property
    def over(self) -> bool:
        """Whether the handler has said all that it will say."""
        return self.ended or self.cut

    @property
    def ends_by_closing(self) -> bool:
        """Whether nothing but the connection's close ends the body, so that half of it looks whole without a reset."""
        return self._body is BodyEnd.UNTIL_CLOSE

    def start(self, status: int, headers: Sequence[Header]) -> None:
        if self.started:
            raise RuntimeError("an answer starts once")
        length: int | None = None
        lines = [_STATUS_LINES[status]]
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                length = int(value)
        fields = b"".join(lines)
        if fields.count(b"\n") != len(headers) + 1 or fields.count(b"\r") != len(headers) + 1:
            raise ValueError("a header field holds a line break")
        self.started = True
        if self.gone or self.cut:
            return
        self._frame(status, length)
        self._head = b"%bdate: %b\r\n%b\r\n" % (fields, self._dates.date(), self._framing())
        if self._body is not BodyEnd.SIZED:
            self._loop.call_soon(self._flush)

    def _framing(self) -> bytes:
        """The header lines that frame the body and tell what becomes of the connection."""
        framing = _CHUNKED if self._body is BodyEnd.CHUNKED else b""
        if not self._stays_open(not self.ends_by_closing):
            return framing + _CLOSE
        return framing if self._modern else _KEEP_ALIVE

    def _frame(self, status: int, length: int | None) -> None:
        if self._bodiless or status in _BODILESS:
            self._body = BodyEnd.NONE
        elif length is not None:
            self._body, self._left = BodyEnd.SIZED, length
        else:
            self._body = BodyEnd.CHUNKED if self._modern else BodyEnd.UNTIL_CLOSE

    def write(self, data: bytes) -> None:
        if not self.started or self.ended:
            raise RuntimeError("an answer is written between its start and its end")
        if self.gone or self.cut or self._body is BodyEnd.NONE or not data:
            return
        if self._body is BodyEnd.CHUNKED:
            data = b"%b%x\r\n%b\r\n" % (self._head, len(data), data)
        elif self._body is BodyEnd.SIZED:
            self._left -= len(data)
            if self._left < 0:
                self.abort()
                raise RuntimeError("an answer is longer than its content-length")
            data = self._head + data
        else:
            data = self._head + data
        self._head = b""
        self._send(data)

    def end(self) -> None:
        if not self.started or self.ended:
            raise RuntimeError("an answer ends once, after its start")
        if self.gone or self.cut:
            return
        if self._left:
            self.abort()
            raise RuntimeError("an answer is shorter than its content-length")
        self.ended = True
        self.throttle(None)
        if self._body is BodyEnd.CHUNKED:
            self._send(self._head + _LAST_CHUNK)
            self._head = b""
        else:
            self._flush()
        self._on_over(self)

    def abort(self) -> None:
        if self.ended or self.cut or self.gone:
            return
        self.cut = True
        self.throttle(None)
        self._flush()
        self._on_over(self)

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self.gone:
            self._send(head)

    def __repr__(self) -> str:
        state = "gone" if self.gone else "cut" if self.cut else "ended" if self.ended else "open"
        return f"<Http1Reply {state}, body {self._body}{', held' if self._held else ''}>"


def give(refusal: Refusal, reply: Reply) -> None:
    """Answer with a whole refusal."""
    reply.start(refusal.status, sized(refusal))
    reply.write(refusal.body)
    reply.end()


def whole(refusal: Refusal, dates: DateCache) -> bytes:
    """A refusal as the last bytes of a connection."""
    lines = [_STATUS_LINES[refusal.status]]
    for name, value in sized(refusal):
        lines += (name, b": ", value, b"\r\n")
    return b"".join([*lines, b"date: ", dates.date(), b"\r\nconnection: close\r\n\r\n", refusal.body])


def sized(refusal: Refusal) -> list[Header]:
    """A refusal's headers, with its length."""
    length = (b"content-length", str(len(refusal.body)).encode())
    return [*(header for header in refusal.headers if header[0] != b"content-length"), length]
