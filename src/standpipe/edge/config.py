"""Limits: every deadline and cap of the wire as one frozen value, and the arithmetic of a flow that is too slow.

Pure: time is an argument. The theory of deadlines: a client may be slow, but never so slow that it holds a connection
for nothing. A deadline alone would cut honest slow clients or be useless against patient dishonest ones; so whatever
may be long (a body, an unread answer) is held against a least rate, window by window, and only what is short (a head,
a first byte) against a plain deadline.
"""

from __future__ import annotations

import math

from msgspec import Struct

HIGH_WATER = 65_536
"""Bytes that may wait for a slow reader before the source is held back."""
LOW_WATER = 16_384
"""Bytes at which the source may go on."""
LEAST_RATE = 1024
"""Bytes per second that a body must bring, and that the reader of a backlog must take."""


class Limits(Struct, frozen=True):
    """Deadlines in seconds, sizes in bytes, the rest are counts."""

    first_byte: float = 5.0
    """From a new connection to its first byte."""
    head: float = 10.0
    """From the first byte of a request to the end of its head; also a TLS handshake."""
    body: float = 20.0
    """From the moment that a handler wants the body to its end."""
    body_window: float = 5.0
    """Over which the least rate of a body is measured."""
    idle: float = 75.0
    """Between two requests of a connection."""
    write_stall: float = 30.0
    """How long a reader may take less than the least rate while a backlog waits for it."""
    linger: float = 2.0
    """How long what is still arriving is thrown away after a refusal, so that the refusal can be read."""
    linger_bytes: int = 4_194_304
    """How much is thrown away at most."""
    request_line: int = 8192
    header_bytes: int = 16_384
    header_count: int = 100
    read_ahead: int = 65_536
    """How much of later requests, or of a body that no handler wants yet, is kept."""
    connections: int = 10_000
    connections_per_client: int = 32
    """Of one address, or one IPv6 /64."""
    connections_per_block: int = 128
    """Of one /24, or one IPv6 /48."""
    asks_per_connection: int = 1000


class Patience:
    """How long to wait for bytes to pass: `window` by `window` at the least rate, and `total` in all."""

    __slots__ = ("_end", "_mark", "_need", "_window", "due")

    def __init__(self, now: float, *, window: float, total: float = math.inf, passed: int = 0) -> None:
        """`now`, `window` and `total` in seconds. `passed` is what a count of bytes says at the start."""
        self._end = now + total
        self._window = window
        self._need = LEAST_RATE * window
        self._mark = passed
        self.due = min(self._end, now + window)
        """When to look next."""

    def lost(self, now: float, passed: int) -> bool:
        """Whether to give up. Ask at `due`, with the count of bytes that have passed by now."""
        if now < self.due:
            return False
        if now >= self._end or passed - self._mark < self._need:
            return True
        self._mark = passed
        self.due = min(self._end, now + self._window)
        return False

    def __repr__(self) -> str:
        return f"<Patience until {self.due:.3f}, {self._need:.0f} bytes per {self._window} s>"
