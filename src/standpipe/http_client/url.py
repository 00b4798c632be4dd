"""Where an engine is: `http://host:8000/v1`, `https://...` or `http+unix:///run/engine.sock:/v1`, read once.

A URL may carry credentials and the path of a socket may say something of this machine, so no error message and no
`repr` here repeats what was given: `describe_url` is the one form in which an engine's URL is shown.
"""

from __future__ import annotations

import base64
import re
from ipaddress import IPv6Address
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Struct

_ALLOWED = "http://host[:port][/path], https://host[:port][/path] or http+unix:///path/to/socket[:/path]"
_UNIX = "http+unix://"
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_BASE = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")

_SOCKET_PATH_LIMIT = 107
"""Bytes that fit into `sun_path` on Linux (unix(7)), its closing NUL not counted."""


class EngineUrl(Struct, frozen=True):
    """A URL, read.

    `host` and `port` are where to connect, unless `socket` is the path of a UNIX socket. `authority` is the Host
    header. `base` comes before every path: empty, or begins with a slash and does not end with one. `authorization`
    is the header that the URL's user information stands for.
    """

    secure: bool
    host: str
    port: int
    authority: str
    base: str = ""
    socket: str | None = None
    authorization: str | None = None

    def __str__(self) -> str:
        """Scheme and place: no credentials, no path."""
        if self.socket is not None:
            return _UNIX + self.socket.rpartition("/")[2]
        return f"{'https' if self.secure else 'http'}://{self.authority}"

    def __repr__(self) -> str:
        return f"<EngineUrl {self}>"


def parse_url(url: str) -> EngineUrl:
    """Raises ValueError, with a message that tells what is wrong and what is allowed, and repeats no part of `url`."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(
            f"an engine's URL must have only printable ASCII characters (a host in its xn-- form); allowed: {_ALLOWED}"
        )
    if url.startswith(_UNIX):
        return _parse_unix(url.removeprefix(_UNIX))
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"an engine's URL has a malformed host; allowed: {_ALLOWED}") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"an engine's URL must begin with http://, https:// or http+unix://; allowed: {_ALLOWED}")
    if "?" in url or "#" in url:
        raise ValueError(f"an engine's URL must have no query and no fragment; allowed: {_ALLOWED}")
    host = _host(parts)
    standard = 443 if parts.scheme == "https" else 80
    port = _port(parts, standard)
    shown = f"[{host}]" if ":" in host else host
    return EngineUrl(
        secure=parts.scheme == "https",
        host=host,
        port=port,
        authority=shown if port == standard else f"{shown}:{port}",
        base=_base(parts.path),
        authorization=_authorization(parts),
    )


def describe_url(url: str) -> str:
    """A name that may be shown: `http://host:8000`, or `http+unix://engine.sock`. Raises ValueError as `parse_url`."""
    return str(parse_url(url))


def _parse_unix(rest: str) -> EngineUrl:
    path, _, base = rest.partition(":")
    if not path.startswith("/") or path.endswith("/"):
        raise ValueError(f"a UNIX socket is given by its absolute path; allowed: {_ALLOWED}")
    if len(path) > _SOCKET_PATH_LIMIT:
        raise ValueError(f"the path of a UNIX socket must have at most {_SOCKET_PATH_LIMIT} characters")
    return EngineUrl(secure=False, host="localhost", port=0, authority="localhost", base=_base(base), socket=path)


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host or "[" in parts.netloc:
        try:
            return str(IPv6Address(host))
        except ValueError:
            raise ValueError(f"an engine's URL has a malformed IPv6 address; allowed: {_ALLOWED}") from None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.removesuffix(".").split(".")):
        raise ValueError(f"an engine's URL has a missing or malformed host; allowed: {_ALLOWED}")
    return host


def _port(parts: SplitResult, standard: int) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0  # not a number, or out of range
    if port == 0:
        raise ValueError("an engine's port must be a number from 1 to 65535")
    return standard if port is None else port


def _base(path: str) -> str:
    base = path.removesuffix("/")
    if not _BASE.fullmatch(base):
        raise ValueError(f"an engine's URL has a malformed path after its host or socket; allowed: {_ALLOWED}")
    return base


def _authorization(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")
