"""Reader: bytes of one connection to heads and bodies, strictly. Which requests are refused, and why, is all here.

Pure: no socket, no clock. Two theories. What two parties frame differently can be played against one of them (request
smuggling), so whatever has two readings is refused instead of read: RFC 9112, sections 3 and 6, with every "may be
lenient" declined. And a connection is in step as long as the parser and we agree about where each message ends.
llhttp parses every byte, but never sees further than that: a head ends at its blank line, a sized body after its
length, and a chunked body always ends right behind some blank line, so it is fed from blank line to blank line.
Whenever the parser then disagrees with our own reading, the connection is out of step, which is an error and never a
guess.

The order is: `head` until it gives one, then `body` while not `whole`, then `head` again. After Rejected, nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser
from msgspec import Struct

from standpipe.edge.config import EdgeConfig
from standpipe.edge.seam import Headers

Pair = tuple[bytes, bytes]


class Rejected(Exception):
    """A request that gets a status and nothing else, after which its connection is closed."""

    def __init__(self, status: int, reason: str) -> None:
        """`reason` is short and public."""
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Framing(Struct, frozen=True, gc=False):
    """How a request's body is delimited, and what the client wants of the connection.

    `length` in bytes is 0 without a body, and None when the body is chunked.
    """

    length: int | None
    keep_alive: bool
    expects_continue: bool


class Head(Struct, frozen=True, gc=False):
    """One request's head, complete and accepted."""

    method: str
    path: str
    query: str
    headers: Headers
    length: int | None
    keep_alive: bool
    expects_continue: bool
    modern: bool
    """HTTP/1.1, as opposed to 1.0."""


_BLANK = b"\r\n\r\n"
_BLANK_LINES = re.compile(rb"\A(?:\r\n)+")
_BEGINNING = re.compile(rb"\r?\Z|[A-Z]+(?: |\Z)")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_START = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.([01])\r\n")
_OTHER_VERSION = re.compile(rb"[A-Z]+ [!-~]+ HTTP/[0-9](?:\.[0-9])?\r\n")
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r]*", re.IGNORECASE)
_MALFORMED = "Malformed request."
_TELLING = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"})
_HOST = re.compile(rb"(?:[A-Za-z0-9_.~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_LONGEST_LENGTH = 18
"""Digits of a Content-Length: more than that no computer has."""
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]+)(.*)", re.DOTALL)


class Reader:
    """Takes bytes, gives requests."""

    __slots__ = (
        "_buffer", "_complete", "_config", "_keep_alive", "_left", "_pairs", "_parser", "_pieces", "_searched",
        "_tail", "received", "whole",
    )  # fmt: skip

    def __init__(self, config: EdgeConfig) -> None:
        self.whole = True
        """Whether the request whose head came last is complete."""
        self.received = 0
        """Bytes of the wire that the last call of `body` took."""
        self._config = config
        self._parser = HttpRequestParser(self)
        self._buffer = b""
        self._searched = 0
        self._left: int | None = 0
        self._tail = b""
        self._pairs: list[Pair] | None = None
        self._pieces: list[bytes] = []
        self._complete = False
        self._keep_alive = False

    @property
    def waiting(self) -> int:
        """Bytes that are not taken yet."""
        return len(self._buffer)

    def receive(self, data: bytes) -> None:
        """Bytes have come."""
        self._buffer = self._buffer + data if self._buffer else data

    def discard(self) -> None:
        """Forget what is not taken yet. Nothing may be read afterwards."""
        self._buffer = b""

    def head(self) -> Head | None:
        """The next request's head, or None while it is not complete. Raises Rejected."""
        buffer = self._buffer
        if self._searched < 2 and buffer.startswith(b"\r\n"):
            # Blank lines before a request are forgiven (RFC 9112, 2.2).
            buffer = self._buffer = _BLANK_LINES.sub(b"", buffer, 1)
            self._searched = 0
        end = buffer.find(_BLANK, max(self._searched - 3, 0)) + 4
        if end < 4:
            self._check_partial(buffer)
            self._searched = len(buffer)
            return None
        self._searched = 0
        self._buffer, head = buffer[end:], buffer[:end]
        return self._parse(head)

    def _check_partial(self, buffer: bytes) -> None:
        """Turn away as early as it is clear that no good head will come of it."""
        if not _BEGINNING.match(buffer) or _BARE_LF.search(buffer, self._searched):
            raise Rejected(400, _MALFORMED)
        line = buffer.find(b"\r\n")
        self._check_sizes(len(buffer) if line < 0 else line, len(buffer))

    def _check_sizes(self, line: int, total: int) -> None:
        if line > self._config.request_line:
            raise Rejected(414, f"The request line is longer than {self._config.request_line} bytes.")
        if total - line > self._config.header_bytes:
            raise Rejected(431, f"The request header is larger than {self._config.header_bytes} bytes.")

    def _parse(self, head: bytes) -> Head:
        self._check_sizes(head.find(b"\r\n"), len(head))
        start = _START.match(head)
        if start is None:
            if _OTHER_VERSION.match(head):
                raise Rejected(505, "Unsupported HTTP version; only HTTP/1.1 and HTTP/1.0 are supported.")
            raise Rejected(400, _MALFORMED)
        if head.count(b"\n") - 2 > self._config.header_count:
            raise Rejected(431, f"The request has more than {self._config.header_count} header fields.")
        if start[1] == b"CONNECT":
            raise Rejected(501, "CONNECT is not supported.")
        self._pairs, self._complete = [], False
        try:
            self._feed(head)
        except HttpParserUpgrade:
            # We upgrade to nothing, and then the request means what it means without the wish (RFC 9110, 7.8).
            self._pairs, self._complete = [], False
            self._parser = HttpRequestParser(self)
            self._feed(_UPGRADE.sub(b"", head))
        pairs, self._pairs = self._pairs, None
        if b" \r\n" in head or b"\t\r\n" in head:
            pairs = [(name, value.rstrip(b" \t")) for name, value in pairs]
        modern = start[3] == b"1"
        framed = framing(pairs, modern=modern)
        self._left, self._tail, self.whole = framed.length, b"", self._complete
        if self.whole != (framed.length == 0):
            raise Rejected(400, _MALFORMED)
        headers = Headers(pairs)
        method = start[1].decode()
        path, query = target(start[2], headers.get(b"host"), method)
        keep_alive = framed.keep_alive and self._keep_alive
        return Head(method, path, query, headers, framed.length, keep_alive, framed.expects_continue, modern)

    def body(self) -> bytes:
        """More of the body. Sets `received`, and `whole` with the last of it. Raises Rejected."""
        buffer, left = self._buffer, self._left
        self._pieces = []
        if left is None:
            end = self._feed_chunked(buffer)
        else:
            end = min(left, len(buffer))
            self._feed(buffer if end == len(buffer) else buffer[:end])
            self._left = left - end
            if self._complete != (self._left == 0):
                raise Rejected(400, _MALFORMED)
        self._buffer = buffer[end:]
        self.received, self.whole = end, self._complete
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _feed_chunked(self, buffer: bytes) -> int:
        """Feed up to the end of the body at most, and tell how much that was."""
        done, tail = 0, self._tail
        straddling = (tail + buffer[:3]).find(_BLANK)
        end = straddling + 4 - len(tail) if straddling >= 0 else 0
        while done < len(buffer) and not self._complete:
            if end <= done:
                found = buffer.find(_BLANK, done)
                end = found + 4 if found >= 0 else len(buffer)
            self._feed(buffer[done:end])
            done = end
        self._tail = (tail + buffer[max(done - 3, 0) : done])[-3:]
        return done

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserInvalidMethodError:
            raise Rejected(501, "Unknown method.") from None
        except HttpParserError:
            raise Rejected(400, _MALFORMED) from None

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if (pairs := self._pairs) is not None:  # else it is a trailer, and those are ignored
            pairs.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        self._complete = True

    def __repr__(self) -> str:
        return f"<Reader {'between requests' if self.whole else 'in a body'}, {self.waiting} bytes wait>"


def framing(pairs: Iterable[Pair], *, modern: bool) -> Framing:
    """What the fields say about framing. Names are in lower case, values stripped. Raises Rejected."""
    telling: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in _TELLING:
            if name not in telling:
                telling[name] = value
            elif name == b"connection":
                telling[name] += b"," + value
            else:
                raise Rejected(400, f"Duplicate {name.decode().title()} header.")
    _check_host(telling.get(b"host"), modern=modern)
    return Framing(
        _length(telling.get(b"content-length"), telling.get(b"transfer-encoding"), modern=modern),
        _keep_alive(telling.get(b"connection"), modern=modern),
        modern and b"expect" in telling and _expects_continue(telling[b"expect"]),
    )


def _check_host(host: bytes | None, *, modern: bool) -> None:
    if host is None:
        if modern:
            raise Rejected(400, "Missing Host header.")
    elif not _HOST.fullmatch(host):
        raise Rejected(400, "Malformed Host header.")


def _length(length: bytes | None, coding: bytes | None, *, modern: bool) -> int | None:
    if coding is not None:
        if length is not None:
            raise Rejected(400, "Both Content-Length and Transfer-Encoding are present.")
        if not modern:
            raise Rejected(400, "Transfer-Encoding is not allowed in HTTP/1.0.")
        if coding.lower() != b"chunked":
            raise Rejected(501, "Unsupported Transfer-Encoding; only chunked is supported.")
        return None
    if length is None:
        return 0
    if not length.isdigit() or len(length) > _LONGEST_LENGTH:
        raise Rejected(400, "Malformed Content-Length header.")
    return int(length)


def _keep_alive(connection: bytes | None, *, modern: bool) -> bool:
    if connection is None:
        return modern
    options = {option.strip(b" \t") for option in connection.lower().split(b",")}
    return b"close" not in options and (modern or b"keep-alive" in options)


def _expects_continue(expect: bytes) -> bool:
    if expect.lower() != b"100-continue":
        raise Rejected(417, "Unsupported Expect value; only 100-continue is supported.")
    return True


def target(raw: bytes, host: str | None, method: str) -> tuple[str, str]:
    """The path, decoded once, and the query of a request target. Raises Rejected.

    The absolute form is taken only if it names the same host as `Host` does: two names for one request are two
    readings of it.
    """
    if not raw.startswith(b"/"):
        if raw == b"*" and method == "OPTIONS":
            return "*", ""
        absolute = _ABSOLUTE.fullmatch(raw)
        if absolute is None:
            raise Rejected(400, "Malformed request target.")
        if host is None or absolute[1].decode("latin-1").lower() != host.lower():
            raise Rejected(400, "The request target and Host name different hosts.")
        raw = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
    if b"#" in raw:
        raise Rejected(400, "The request target must not contain a fragment.")
    path, _, query = raw.decode("latin-1").partition("?")
    return (unquote(path) if "%" in path else path), query
