"""A request, its body on its way in: what has come, how much of it is taken, and how long to wait for the rest.

A connection puts bytes in as they come; one handler waits for the whole. Knows no socket. Nothing is kept beyond what
the handler takes, and what comes before a handler wants it is the connection's to hold back (`full`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from standpipe.edge.config import BODY_RATE, EdgeConfig, RateDeadline
from standpipe.edge.seam import BodyTooLarge, BodyTooSlow, Headers


class Intake:
    """One body."""

    __slots__ = (
        "_arrival", "_config", "_data", "_declared", "_limit", "_pieces", "_received", "_void", "_wanted", "whole",
    )  # fmt: skip

    def __init__(self, config: EdgeConfig, declared: int | None, wanted: Callable[[], None]) -> None:
        """`declared` is the length that the head declares, if it does. `wanted` is called when a handler asks."""
        self.whole = False
        self._config = config
        self._declared = declared
        self._wanted = wanted
        self._pieces: list[bytes] = []
        self._received = 0
        self._data = 0
        self._void = False
        self._limit: int | None = None
        self._arrival: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        """Whether more has come than a handler takes, or than is kept for one that has not asked. To read on then would
        keep the loop from letting the handler say so."""
        return self._void or self._received > (self._config.read_ahead if self._limit is None else self._limit)

    def take(self, data: bytes, received: int) -> None:
        """More of the body; `received` bytes of the wire brought it."""
        before, self._received = self._received, self._received + received
        self._data += len(data)
        framing = self._received - self._data
        tiny = framing > max(self._data, self._config.read_ahead)  # chunks that cost the parser as much as large ones
        if not tiny and (self._limit is None or before <= self._limit):
            self._pieces.append(data)  # also what crosses the limit: a handler may take more after all
        else:
            self._pieces.clear()
            self._void = True
        self._arrived()

    def end(self) -> None:
        """The body is whole."""
        self.whole = True
        self._arrived()

    async def body(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes as received. May be called again, also with another limit, as long as
        nothing was thrown away. Raises BodyTooLarge, also where chunks are mostly framing, and BodyTooSlow."""
        self._limit = limit
        if self._declared is not None and self._declared > limit:
            raise BodyTooLarge(f"{self._declared} bytes are declared, the limit is {limit}")
        if not self.whole and not self._void:
            self._wanted()
            await self._wait(limit)
        if self._received > limit or self._void:
            raise BodyTooLarge(f"more than {limit} bytes have come")
        if len(self._pieces) != 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    async def _wait(self, limit: int) -> None:
        loop = asyncio.get_running_loop()
        config = self._config
        deadline = RateDeadline(
            loop.time(),
            window=config.body_window,
            total=config.body_timeout,
            earns=BODY_RATE,
            passed=self._received,
        )
        while self._received <= limit and not (self.whole or self._void):
            self._arrival = loop.create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline.due):
                    await self._arrival
            if not (self.whole or self._void) and deadline.missed(loop.time(), self._received):
                raise BodyTooSlow(f"{self._received} bytes have come in time")

    def forget(self) -> None:
        """Let go of a body that has been taken."""
        self._pieces.clear()

    def _arrived(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def __repr__(self) -> str:
        return f"<Intake {self._received} bytes{', whole' if self.whole else ''}>"


_NONE = Headers(())


class Incoming:
    """The seam's Request: a head that is complete, and a body on its way in, if there is one."""

    __slots__ = ("_intake", "headers", "method", "path", "peer", "query")

    def __init__(
        self, method: str, path: str, query: str, headers: Headers, peer: str | None, intake: Intake | None
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.peer = peer
        self._intake = intake

    async def body(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes as received. Raises BodyTooLarge, BodyTooSlow."""
        return b"" if self._intake is None else await self._intake.body(limit)

    def forget(self) -> None:
        """Let go of headers and body."""
        self.headers = _NONE
        if self._intake is not None:
            self._intake.forget()

    def __repr__(self) -> str:
        return f"<Incoming {self.method} {self.path} {self._intake}>"
