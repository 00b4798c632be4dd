"""An exchange: one request and its answer, with the headers that every answer of ours carries.

Handlers get this instead of the bare seam, so that no answer, and no error, can forget its request id or its CORS
headers. Knows nothing of chat.
"""

from __future__ import annotations

from collections.abc import Sequence

from standpipe.edge.seam import Reply, Request

Header = tuple[bytes, bytes]

EXPOSED = (
    "retry-after, retry-after-ms, x-should-retry, x-request-id, x-standpipe-waited, x-standpipe-attempts, "
    "x-standpipe-dropped, ratelimit, ratelimit-policy, x-ratelimit-limit-requests, "
    "x-ratelimit-remaining-requests, x-ratelimit-reset-requests"
)
"""Headers that a web page of another origin may read."""

COMMON: tuple[Header, ...] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", EXPOSED.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"cross-origin"),
)

JSON = b"application/json"


class Exchange:
    """One request on its way to one answer."""

    __slots__ = ("extra", "id", "reply", "request")

    def __init__(self, request: Request, reply: Reply, request_id: str) -> None:
        self.request = request
        self.reply = reply
        self.id = request_id
        self.extra: list[Header] = []
        """Headers that whatever answer comes will carry; the walk adds to them as it learns things."""

    def tell_dropped(self, fields: Sequence[str]) -> None:
        """Let whatever answer comes name the fields of the request that were not read."""
        if fields:
            self.extra.append((b"x-standpipe-dropped", ", ".join(fields).encode("ascii", "replace")))

    def start(self, status: int, headers: Sequence[Header]) -> None:
        """Begin an answer whose length is not known."""
        self.reply.start(status, [*headers, *self.extra, (b"x-request-id", self.id.encode()), *COMMON])

    def send(self, status: int, body: bytes, content_type: bytes = JSON, headers: Sequence[Header] = ()) -> None:
        """Give a whole answer."""
        length = (b"content-length", str(len(body)).encode())
        self.start(status, [(b"content-type", content_type), length, *headers])
        if body:
            self.reply.write(body)
        self.reply.end()

    def send_empty(self, status: int, headers: Sequence[Header] = ()) -> None:
        """Give an answer that has no body by its status: 204 or 304."""
        self.start(status, headers)
        self.reply.end()

    def __repr__(self) -> str:
        return f"<Exchange {self.id} {self.request.method} {self.request.path}>"
