"""A request's head: what its fields say about framing, and which heads are refused.

Pure; knows no socket and no parser. The theory: two parties that frame the same bytes differently can be played
against each other, so whatever has two readings is refused instead of read (RFC 9112, sections 3 and 6, with every
"may be lenient" declined). The parser refuses malformed bytes; this module refuses well-formed bytes that contradict
each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from msgspec import Struct

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


_TELLING = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"})
_HOST = re.compile(rb"(?:[A-Za-z0-9_.~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_LONGEST_LENGTH = 18
"""Digits of a Content-Length: more than that no computer has."""
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]+)(.*)", re.DOTALL)


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
                raise Rejected(400, f"A request has one {name.decode().title()} at most.")
    _check_host(telling.get(b"host"), modern=modern)
    return Framing(
        _length(telling.get(b"content-length"), telling.get(b"transfer-encoding"), modern=modern),
        _keep_alive(telling.get(b"connection"), modern=modern),
        modern and b"expect" in telling and _expects_continue(telling[b"expect"]),
    )


def _check_host(host: bytes | None, *, modern: bool) -> None:
    if host is None:
        if modern:
            raise Rejected(400, "A request needs a Host.")
    elif not _HOST.fullmatch(host):
        raise Rejected(400, "Host is malformed.")


def _length(length: bytes | None, coding: bytes | None, *, modern: bool) -> int | None:
    if coding is not None:
        if length is not None:
            raise Rejected(400, "Content-Length and Transfer-Encoding exclude each other.")
        if not modern:
            raise Rejected(400, "HTTP/1.0 has no Transfer-Encoding.")
        if coding.lower() != b"chunked":
            raise Rejected(501, "Only the transfer coding chunked is known here.")
        return None
    if length is None:
        return 0
    if not length.isdigit() or len(length) > _LONGEST_LENGTH:
        raise Rejected(400, "Content-Length is malformed.")
    return int(length)


def _keep_alive(connection: bytes | None, *, modern: bool) -> bool:
    if connection is None:
        return modern
    options = {option.strip(b" \t") for option in connection.lower().split(b",")}
    return b"close" not in options and (modern or b"keep-alive" in options)


def _expects_continue(expect: bytes) -> bool:
    if expect.lower() != b"100-continue":
        raise Rejected(417, "Only the expectation 100-continue is known here.")
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
            raise Rejected(400, "The request target is malformed.")
        if host is None or absolute[1].decode("latin-1").lower() != host.lower():
            raise Rejected(400, "The request target and Host name different hosts.")
        raw = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
    if b"#" in raw:
        raise Rejected(400, "A request target has no fragment.")
    path, _, query = raw.decode("latin-1").partition("?")
    return (unquote(path) if "%" in path else path), query
