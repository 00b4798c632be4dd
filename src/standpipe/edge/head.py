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


class Framing(Struct, frozen=True):
    """How a request's body is delimited, and what the client wants of the connection.

    `length` in bytes is 0 without a body, and None when the body is chunked.
    """

    length: int | None
    keep_alive: bool
    expects_continue: bool


class Head(Struct, frozen=True):
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


_BARE = Framing(length=0, keep_alive=True, expects_continue=False)
_TELLING = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"})
_HOST = re.compile(rb"(?:[A-Za-z0-9_.~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]+)(.*)", re.DOTALL)


def framing(pairs: Iterable[Pair], *, modern: bool) -> Framing:
    """What the fields say about framing. Names are in lower case, values stripped. Raises Rejected."""
    telling = [pair for pair in pairs if pair[0] in _TELLING]
    if modern and len(telling) == 1 and telling[0][0] == b"host" and _HOST.fullmatch(telling[0][1]):
        return _BARE
    hosts = [value for name, value in telling if name == b"host"]
    if len(hosts) > 1 or (modern and not hosts):
        raise Rejected(400, "A request needs exactly one Host.")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise Rejected(400, "Host is malformed.")
    options = {
        option.strip().lower() for name, value in telling if name == b"connection" for option in value.split(b",")
    }
    return Framing(
        length=_length(telling, modern=modern),
        keep_alive=b"close" not in options and (modern or b"keep-alive" in options),
        expects_continue=_expects([value for name, value in telling if name == b"expect"], modern=modern),
    )


def _length(telling: list[Pair], *, modern: bool) -> int | None:
    lengths = [value for name, value in telling if name == b"content-length"]
    codings = [value.lower() for name, value in telling if name == b"transfer-encoding"]
    if codings:
        if lengths:
            raise Rejected(400, "Content-Length and Transfer-Encoding exclude each other.")
        if not modern or len(codings) > 1:
            raise Rejected(400, "Transfer-Encoding is malformed.")
        if codings[0] != b"chunked":
            raise Rejected(501, "Only the transfer coding chunked is known here.")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise Rejected(400, "Content-Length is malformed.")
    return int(lengths[0])


def _expects(values: list[bytes], *, modern: bool) -> bool:
    if not values or not modern:
        return False  # an older client's Expect is to be ignored (RFC 9110, 10.1.1)
    if len(values) > 1 or values[0].lower() != b"100-continue":
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
