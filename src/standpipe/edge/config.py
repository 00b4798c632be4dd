"""Every deadline and size of the wire as one frozen value, and the minimum rate of whatever may take long.

Pure: time is an argument. The theory of deadlines: a client may be slow, but never so slow that it holds a connection
for nothing. A deadline alone would cut honest slow clients or be useless against patient dishonest ones; so what may
be long (a body, an unread answer) is held to a minimum rate, window by window, and only what is short (a head, a first
byte) to a plain deadline.
"""

from __future__ import annotations

import math

from msgspec import Struct

HIGH_WATER = 65_536
"""Bytes that may wait for a slow reader before the source is held back. asyncio's own default, too."""
LOW_WATER = 16_384
"""Bytes at which the source may go on: a quarter, as in asyncio."""
MINIMUM_RATE = 1024
"""Bytes per second that a body must bring, and that the reader of a backlog must take. Apache's mod_reqtimeout asks
for 500."""
BODY_RATE = 65_536
"""Bytes of a body that earn it another second, beyond `body_timeout`: what a thin uplink (half a megabit) brings. As
mod_reqtimeout's MinRate."""


class EdgeConfig(Struct, frozen=True):
    """Deadlines in seconds, sizes in bytes, the rest are counts. Fields are named as the settings are."""

    first_byte_timeout: float = 5.0
    """From a new connection to its first byte."""
    header_timeout: float = 10.0
    """From the first byte of a request to the end of its head; also a TLS handshake. nginx and Node have 60, Apache 20:
    browsers and clients of an API send a head at once."""
    body_timeout: float = 20.0
    """From the moment that a handler wants the body to its end, and what the body earns while it comes (`BODY_RATE`).
    mod_reqtimeout begins with 20, too; Node has 300."""
    body_window: float = 5.0
    """Over which the minimum rate of a body is measured."""
    idle_timeout: float = 75.0
    """Between two requests of a connection (RFC 9112, 9.5). As nginx: longer than the 60 of common load balancers,
    which must not find closed what they think is open."""
    write_timeout: float = 30.0
    """How long a reader may take less than the minimum rate while a backlog waits for it. nginx has 60, for a reader
    that takes nothing at all."""
    linger: float = 2.0
    """How long a connection stays open after its last answer was refused or broke off, so that the client can read
    that; what is still arriving is thrown away (RFC 9112, 9.6). nginx has 5."""
    linger_bytes: int = 16_777_216
    """How much is thrown away at most."""
    request_line: int = 8192
    """RFC 9112, 3: at least 8,000 are recommended. nginx 8 KiB, Apache 8,190."""
    header_bytes: int = 16_384
    """All fields of a head together (RFC 6585, 431). Node 16 KiB, nginx 32, Tomcat 8."""
    header_count: int = 100
    """As Apache and Tomcat."""
    read_ahead: int = 65_536
    """How much of later requests, or of a body that no handler wants yet, is kept."""
    connections: int = 10_000
    connections_per_client: int = 32
    """Of one address, or one IPv6 /64. Browsers open 6 to one host."""
    connections_per_block: int = 128
    """Of one /24, or one IPv6 /48."""
    requests_per_connection: int = 1000
    """As nginx."""


class RateDeadline:
    """How long to wait for bytes to pass: `window` by `window` at the minimum rate, and `total` in all, and another
    second for every so many bytes."""

    __slots__ = ("_earns", "_end", "_mark", "_need", "_window", "due")

    def __init__(
        self, now: float, *, window: float, total: float = math.inf, earns: float = math.inf, passed: int = 0
    ) -> None:
        """`now`, `window` and `total` in seconds. `earns` is the bytes that are good for another one. `passed` is what
        a count of bytes says at the start."""
        self._earns = earns
        self._end = now + total - passed / earns
        self._window = window
        self._need = MINIMUM_RATE * window
        self._mark = passed
        self.due = min(self._end, now + window)
        """When to look next."""

    def missed(self, now: float, passed: int) -> bool:
        """Whether to give up. Ask at `due`, with the count of bytes that have passed by now."""
        if now < self.due:
            return False
        end = self._end + passed / self._earns
        if now >= end or passed - self._mark < self._need:
            return True
        self._mark = passed
        self.due = min(end, now + self._window)
        return False

    def __repr__(self) -> str:
        return f"<RateDeadline {self.due:.3f}, {self._need:.0f} bytes per {self._window} s>"
