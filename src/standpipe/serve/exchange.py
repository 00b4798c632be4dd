"""An exchange: one request and its answer, with all that every answer of ours carries.

Handlers get this instead of the bare seam, so that no answer, and no error, can forget its request id or its CORS
headers. It is also where a body that cannot be read becomes a failure, and where a failure becomes HTTP. It must not
know what is asked, nor of whom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from standpipe.chat.errors import (
    LONGEST_RETRY,
    SHORTEST_RETRY,
    Compressed,
    Failure,
    Internal,
    MethodNotAllowed,
    TooLarge,
    TooSlow,
    UpgradeRequired,
)
from standpipe.dialects.dialect import Dialect
from standpipe.dialects.openai.faults import failure_body
from standpipe.edge.seam import BodyTooLarge, BodyTooSlow, Reply, Request

Header = tuple[bytes, bytes]

JSON = b"application/json"


class Exchange:
    """One request on its way to one answer."""

    __slots__ = ("common", "id", "id_header", "learned", "reply", "request")

    def __init__(self, request: Request, reply: Reply, request_id: str, common: Sequence[Header]) -> None:
        """`common` are headers of every answer."""
        self.request = request
        self.reply = reply
        self.id = request_id
        self.common = common
        self.id_header: bytes | None = None
        """A second name under which this path's clients look for the id."""
        self.learned: Callable[[], Sequence[Header]] = tuple
        """Gives the headers that whatever answer comes owes to what was learned on the way; set by the walk."""

    @property
    def declared(self) -> int | None:
        """How many bytes the body has, by its own word."""
        length = self.request.headers.get(b"content-length")
        return int(length) if length is not None and length.isdecimal() else None

    async def body(self, limit: int) -> bytes:
        """The whole body, of at most `limit` bytes. May be called again with a higher one. Raises Compressed, TooLarge,
        TooSlow."""
        coding = self.request.headers.get(b"content-encoding")
        if coding is not None and coding.lower() not in {"", "identity"}:
            raise Compressed("Compressed request bodies are not supported. Send the body without Content-Encoding.")
        try:
            return await self.request.body(limit)
        except BodyTooLarge:
            # Agents shorten their conversation when they read that a prompt is too long, and give up on a bare 413.
            raise TooLarge(f"The request body is larger than {limit} bytes: the prompt is too long.") from None
        except BodyTooSlow:
            raise TooSlow("The request body did not arrive in time.") from None

    def start(self, status: int, headers: Sequence[Header]) -> None:
        """Begin an answer whose length is not known."""
        request_id = self.id.encode()
        ids: tuple[Header, ...] = ((b"x-request-id", request_id),)
        if self.id_header is not None:
            ids = (*ids, (self.id_header, request_id))
        self.reply.start(status, [*headers, *self.learned(), *ids, *self.common])

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

    def fail(self, failure: Failure, dialect: Dialect | None) -> None:
        """Answer with a failure, or end an answer that had begun as one that is not whole."""
        if self.reply.started:
            self.reply.abort()
        else:
            # Where no dialect has been chosen: OpenAI's shape, which most programs can read.
            content = dialect.failure(failure, self.id) if dialect else failure_body(failure, self.id)
            self.send(failure.status, content, JSON, failure_headers(failure))

    def __repr__(self) -> str:
        return f"<Exchange {self.id} {self.request.method} {self.request.path}>"


def bug(request_id: str) -> Internal:
    """What the public is told of a bug of ours: the id under which the log has the rest."""
    return Internal(f"Internal server error. If it persists, report this id to the operator: {request_id}.")


def failure_headers(failure: Failure) -> list[Header]:
    """When to come back, in both spellings; or that it makes no sense to."""
    found: list[Header] = []
    if failure.retry_after is not None or failure.status in {429, 503}:
        wait = min(max(failure.retry_after or SHORTEST_RETRY, SHORTEST_RETRY), LONGEST_RETRY)
        found.append((b"retry-after", str(math.ceil(wait)).encode()))
        found.append((b"retry-after-ms", str(math.ceil(wait * 1000)).encode()))
    if not failure.may_retry and failure.status != 500:  # a bug of ours may pass
        found.append((b"x-should-retry", b"false"))
    if isinstance(failure, Compressed):
        found.append((b"accept-encoding", b"identity"))  # RFC 9110, 15.5.16
    if isinstance(failure, UpgradeRequired):
        found.append((b"upgrade", b"HTTP/1.1"))  # RFC 9110, 15.5.22: the protocol that is required
    if isinstance(failure, MethodNotAllowed):
        found.append((b"allow", ", ".join(failure.allowed).encode()))
    return found
