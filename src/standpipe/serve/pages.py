"""Pages: the static site, read once at start, with ETag and a strict Content-Security-Policy."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping
from importlib import resources
from string import Template

from standpipe.serve.exchange import Exchange, Header
from standpipe.serve.routes import Route

_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Page:
    """One file, ready to send."""

    def __init__(self, content: bytes, content_type: bytes) -> None:
        self._content = content
        self._type = content_type
        tag = b'"' + hashlib.blake2s(content, digest_size=12).hexdigest().encode() + b'"'
        self._headers: tuple[Header, ...] = (
            (b"etag", tag),
            (b"cache-control", b"no-cache"),
            (b"content-security-policy", _POLICY),
            (b"cross-origin-opener-policy", b"same-origin"),
        )
        self._tag = tag.decode()

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.request.headers.get(b"if-none-match") == self._tag:
            exchange.send_empty(304, self._headers)
        else:
            exchange.send(200, self._content, self._type, self._headers)


def site(words: Mapping[str, str]) -> dict[str, Route]:
    """The routes of the site. `words` fill the `$name` places of HTML files, escaped."""
    root = resources.files("standpipe") / "web"
    escaped = {key: html.escape(value) for key, value in words.items()}
    routes: dict[str, Route] = {}
    index = Template((root / "index.html").read_text(encoding="utf-8")).safe_substitute(escaped)
    routes["/"] = Route({"GET": Page(index.encode(), _TYPES[".html"])})
    for file in (root / "assets").iterdir():
        kind = _TYPES["." + file.name.rpartition(".")[2]]
        routes[f"/assets/{file.name}"] = Route({"GET": Page(file.read_bytes(), kind)})
    return routes
