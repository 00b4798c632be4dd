"""The seam: all that a handler ever sees of HTTP.

Whoever serves (the edge, or `standpipe.asgi` inside another server) makes a `Request` and runs the handler in a task of
its own with a `Reply` to write to. The contract between them:

* When the client leaves, in any phase, the server sets `reply.gone` and cancels the handler's task. That is the only
  way in which a handler learns of it, and it needs no other. After `end` or `abort` nothing is cancelled any more: the
  handler has said all that it will say, and may tidy up. A client that shuts down its sending side while it is being
  answered has left, as far as anybody can know; so has one whose body breaks the framing, or whose reading stalls.
* `Reply` methods never block and never raise because the client has left: what cannot be sent is dropped.
* A handler that returns without `end` after `start`, or raises after `start`, has its connection closed unclean, so
  that half a body never looks like a whole one. Returning or raising before `start` gives the client a bare 500. What
  it raised goes to the loop's exception handler.
* The server holds all deadlines and caps of the wire, and calls `refuse` for a response body when it must turn somebody
  away before there is a Request.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from msgspec import Struct

from standpipe.flow import Flow


class Headers:
    """Request headers, names in lower case, in the order in which they came. A name may come more than once."""

    __slots__ = ("_first", "_pairs")

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """`pairs` has its names in lower case already."""
        self._pairs = pairs
        self._first: dict[bytes, bytes] = dict(reversed(pairs))
        """A request is asked for many names that it does not have."""

    def get(self, name: bytes) -> str | None:
        """The first value of this name, decoded as Latin-1, or None."""
        value = self._first.get(name)
        return None if value is None else value.decode("latin-1")

    def all(self, name: bytes) -> list[str]:
        """Every value of this name, in order."""
        if name not in self._first:
            return []
        return [value.decode("latin-1") for key, value in self._pairs if key == name]

    def __repr__(self) -> str:
        # Values may be secrets (Authorization) or personal; names are neither.
        return f"<Headers {[key.decode('latin-1') for key, _ in self._pairs]}>"


class BodyTooLarge(Exception):
    """More bytes arrived than the handler takes."""


class BodyTooSlow(Exception):
    """The body did not arrive in time."""


class Request(Protocol):
    """One request, its head complete."""

    method: str
    path: str
    """The path as sent, percent-decoded once; never empty; without the query."""
    query: str
    """The query as sent, without `?`; may be empty."""
    headers: Headers
    peer: str | None
    """The address of whoever holds the other end of the socket (or, with PROXY protocol from a trusted peer, the
    address that it vouches for), without port. None on a UNIX socket."""

    async def body(self, limit: int) -> bytes:
        """The whole body, counted as received (with a chunked body's framing). Raises BodyTooLarge, BodyTooSlow."""
        ...

    def forget(self) -> None:
        """Let go of headers and body, which nobody will ask for again: an answer may last for minutes."""
        ...


class Reply(Protocol):
    """The answer to one request. Each method may be called only in this order: start, write*, end."""

    gone: bool
    """Whether the client has left."""
    started: bool
    """Whether `start` was called: after that there is no other status to give."""

    def start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the head, header names in lower case. With a `content-length` the body is sized, without it chunked
        (until close for HTTP/1.0). The server adds `date` and connection headers, nothing else. A HEAD request's body
        is dropped. It goes out with the first `write` or `end`, or by the loop's next turn."""
        ...

    def write(self, data: bytes) -> None:
        """Send some of the body. One call is one write to the socket wherever that is possible."""
        ...

    def end(self) -> None:
        """The body is whole."""
        ...

    def abort(self) -> None:
        """Close the connection unclean, after what was written has been flushed and the client has had a moment to read
        it: the body is not whole. Before `start` the client gets no answer at all. After `end` it does nothing."""
        ...

    def throttle(self, flow: Flow | None) -> None:
        """Hold this flow back while more than 64 KiB of what was written waits for a slow client. None lets go,
        and so do `end` and `abort`. A flow that is let go, or replaced, while it is held back is resumed."""
        ...


class Refusal(Struct, frozen=True):
    """A whole response for somebody who did not get as far as a Request."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


Handler = Callable[[Request, Reply], Coroutine[Any, Any, None]]
Refuse = Callable[[int, str], Refusal]
"""Status and a short public reason to a whole response."""
