"""Response framing without I/O: bytes of an engine's answer in, its head and body out.

llhttp does the parsing, so the framing holds at any split of the bytes. What is ours is the bounding: a head of at
most so many bytes, no endless run of bytes that carry no body (interim responses, chunk extensions, trailers), no
transfer coding but chunked, and the knowledge of whether an answer that ended is whole. This module knows no socket,
no clock and no engine.
"""

from __future__ import annotations

from collections.abc import Mapping

import httptools

Headers = Mapping[bytes, bytes]
"""Names in lower case; the values of a name that came more than once are joined by a comma."""


class _Malformed(Exception):
    """Raised inside a callback to stop llhttp; its message becomes the fault."""


class ResponseReader:
    """Reads the answers that come on one connection, one after another.

    `status` is 0 until the head of the answer is complete, interim (1xx) heads not counted. `whole` tells that the
    body is complete, `fault` what is wrong with the bytes, and `keep_alive` whether the engine would take another
    request on this connection. The `on_*` methods are llhttp's callbacks and nobody else's.
    """

    __slots__ = (
        "_barren",
        "_head_limit",
        "_parser",
        "_pieces",
        "_size",
        "fault",
        "headers",
        "keep_alive",
        "on_body",
        "status",
        "until_close",
        "whole",
    )

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
