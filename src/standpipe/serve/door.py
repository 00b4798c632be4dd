"""The door: who is let in by what a browser says of itself, the name in `Host` and the page that asks.

Programs say neither, or what they like; this protects people, whose browsers run pages of strangers. Three rules:

* `Origins.ANY`: a public server. Pages of any origin may ask and read (CORS).
* `Origins.LOCAL`: a server for its own machine. Pages that come from this machine, and apps on it, may ask and read.
* `Origins.OWN`: the operator's listener. No page of another origin may ask, and none may read.

`Host` closes the way around: a page may point a name of its own at our address (DNS rebinding), and is then of our
origin, but it cannot hide the name. Chrome's question whether a public page may reach a private network
(`Access-Control-Request-Private-Network`) is never answered with yes. Must not know what is asked for.
"""

from __future__ import annotations

import ipaddress
from enum import Enum, auto
from functools import lru_cache
from urllib.parse import urlsplit

from standpipe.chat.errors import Forbidden
from standpipe.edge.seam import Request
from standpipe.serve.exchange import Header

EXPOSED = (
    "retry-after, retry-after-ms, x-should-retry, x-request-id, x-standpipe-waited, x-standpipe-attempts, "
    "x-standpipe-dropped, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests"
)
"""Headers that a web page of another origin may read."""

_SAFE: tuple[Header, ...] = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
OPEN: tuple[Header, ...] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", EXPOSED.encode()),
    *_SAFE,
    (b"cross-origin-resource-policy", b"cross-origin"),
)
"""What an answer carries that pages of other origins may read."""
CLOSED: tuple[Header, ...] = (*_SAFE, (b"cross-origin-resource-policy", b"same-origin"))
"""What any other answer carries."""


class Origins(Enum):
    """Whose web pages may use a listener: anybody's, this machine's, or only its own."""

    ANY = auto()
    LOCAL = auto()
    OWN = auto()


class Door:
    """The rules of one listener."""

    def __init__(self, hosts: tuple[str, ...], *, local: bool, origins: Origins, setting: str = "hosts") -> None:
        """`hosts` are the names that are served, from this `setting`. With `local`, addresses and local names are
        served as well, and without `hosts` nothing else is. Neither means any name."""
        self._hosts = frozenset(host.lower() for host in hosts)
        self._local = local
        self.origins = origins
        self._setting = setting
        self.headers = CLOSED if origins is Origins.OWN else OPEN
        """What answers carry to those that were let in."""
        self._serves = lru_cache(maxsize=256)(self._judge_host)

    def check(self, request: Request) -> None:
        """Raises Forbidden."""
        headers = request.headers
        host = headers.get(b"host") or ""
        if not self._serves(host):
            raise Forbidden(f"This server does not serve this host name. Its operator can add it to `{self._setting}`.")
        if self.origins is Origins.ANY:
            return
        origin = headers.get(b"origin")
        if self.origins is Origins.LOCAL:
            if origin is not None and not is_local(origin):
                raise Forbidden("Web pages of other sites may not use this server unless its operator sets `hosts`.")
        elif headers.get(b"sec-fetch-site") in {"cross-site", "same-site"} or (
            origin is not None and origin.partition("://")[2] != host
        ):
            raise Forbidden("Web pages of other origins may not use the admin listener.")

    def _judge_host(self, host: str) -> bool:
        if not self._hosts and not self._local:
            return True
        name = (host[1:].partition("]") if host.startswith("[") else host.partition(":"))[0].lower()
        return name in self._hosts or (self._local and (_is_localhost(name) or _address(name) is not None))


def is_local(origin: str) -> bool:
    """Whether a page of this origin comes from this machine: from a server on it, or from an app (`vscode-webview:`).
    `null`, the origin of sandboxed frames, comes from anywhere."""
    try:
        parts = urlsplit(origin)
        name = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme not in {"http", "https"}:
        return bool(parts.scheme and parts.netloc)
    address = _address(name)
    return bool(name) and _is_localhost(name) if address is None else address.is_loopback


def _is_localhost(name: str) -> bool:
    return name in {"", "localhost"} or name.endswith(".localhost")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
