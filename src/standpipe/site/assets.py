"""Assets: the files of the site, read once from the package, and how they are sent.

Everything has an ETag and, where it pays, a form in gzip, or in brotli if that module is installed. Scripts and styles
live under a folder that is named after their contents, so that browsers may keep them for ever; under any other name
they are served too, but not kept, because a page that was open before an upgrade may still ask for them. Knows nothing
of what is on the pages.
"""

from __future__ import annotations

import gzip
import hashlib
import posixpath
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from importlib.util import find_spec

from standpipe.chat.errors import NotFound
from standpipe.serve.exchange import Exchange, Header

_TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "md": b"text/markdown; charset=utf-8",
    "txt": b"text/plain; charset=utf-8",
    "json": b"application/json",
    "webmanifest": b"application/manifest+json",
    "svg": b"image/svg+xml",
    "png": b"image/png",
    "ico": b"image/x-icon",
    "woff2": b"font/woff2",
}
_PACKED = frozenset({"png", "ico", "woff2"})
"""Kinds that are compressed already."""

FRESH: Header = (b"cache-control", b"no-cache")
_KEPT: Header = (b"cache-control", b"public, max-age=31536000, immutable")
_IMPORT = re.compile(r"""(?:^|;)(?:import|export)\b[^'"();]*['"](\.[^'"]+\.js)['"]""", re.MULTILINE)


class Content:
    """Some bytes of one kind, ready to send."""

    def __init__(self, data: bytes, kind: str) -> None:
        self.data = data
        self.kind = kind
        self._tag = hashlib.blake2s(data, digest_size=12).hexdigest()
        self._small: dict[str, bytes] = {}

    def send(self, exchange: Exchange, *headers: Header) -> None:
        """Answer with it, or tell that the client has it."""
        asked = exchange.request.headers
        coding = None if self.kind in _PACKED else _coding(asked.get(b"accept-encoding") or "")
        tag = f'"{self._tag}{f"-{coding}" if coding else ""}"'
        headers = (*headers, (b"etag", tag.encode()), (b"vary", b"accept-encoding"))
        if tag in (asked.get(b"if-none-match") or ""):
            exchange.send_empty(304, headers)
        elif coding:
            if coding not in self._small:
                self._small[coding] = _CODINGS[coding](self.data)
            exchange.send(
                200, self._small[coding], _TYPES[self.kind], ((b"content-encoding", coding.encode()), *headers)
            )
        else:
            exchange.send(200, self.data, _TYPES[self.kind], headers)


def _brotli(data: bytes) -> bytes:
    import brotli  # noqa: PLC0415  # where it is installed

    small: bytes = brotli.compress(data)
    return small


_CODINGS: dict[str, Callable[[bytes], bytes]] = {"gzip": lambda data: gzip.compress(data, mtime=0)}
if find_spec("brotli") is not None:
    _CODINGS = {"br": _brotli, **_CODINGS}


def _coding(header: str) -> str | None:
    """The best form that a client takes."""
    refused = r"(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))"
    return next((coding for coding in _CODINGS if re.search(rf"\b{coding}\b{refused}", header)), None)


_OURS: tuple[Header, ...] = ((b"x-content-type-options", b"nosniff"),)
"""What files carry instead of what every answer carries: they are for our own pages, and there are many of them."""


class File:
    """The handler of one file that never changes while we run."""

    def __init__(self, content: Content) -> None:
        self._content = content

    async def __call__(self, exchange: Exchange) -> None:
        exchange.common = _OURS
        self._content.send(exchange, (b"cache-control", b"public, max-age=86400"))


class Assets:
    """The handler of scripts, styles and libraries, all below one folder."""

    def __init__(self, files: Mapping[str, Content]) -> None:
        self._files = files
        digest = hashlib.blake2s(digest_size=8)
        for name in sorted(files):
            digest.update(name.encode() + b"\0" + files[name].data + b"\0")
        self.tag = digest.hexdigest()
        self.prefix = f"/assets/{self.tag}"

    async def __call__(self, exchange: Exchange) -> None:
        _, _, tag, name = exchange.request.path.split("/", 3) if exchange.request.path.count("/") > 2 else [""] * 4
        content = self._files.get(name)
        if content is None:
            raise NotFound("Not found.")
        exchange.common = _OURS
        content.send(exchange, _KEPT if tag == self.tag else FRESH)


def _root() -> Traversable:
    return resources.files("standpipe") / "web"


@cache
def text(name: str) -> str:
    """A text of the site, by its path below `web`."""
    return (_root() / name).read_text(encoding="utf-8")


@cache
def files(folder: str) -> dict[str, Content]:
    """All files below a folder of the site that have a kind we serve, by their path."""
    found: dict[str, Content] = {}
    for item in (_root() / folder).iterdir():
        name = f"{folder}/{item.name}"
        kind = item.name.rpartition(".")[2]
        if item.is_dir():
            found |= files(name)
        elif kind in _TYPES:
            found[name] = Content(item.read_bytes(), kind)
    return found


@cache
def modules(entry: str) -> tuple[str, ...]:
    """A script and all that it imports at once, by their paths: what a page may fetch early."""
    found = [entry]
    for name in found:  # which grows meanwhile
        folder = posixpath.dirname(name)
        for target in _IMPORT.findall(text(name)):
            path = posixpath.normpath(posixpath.join(folder, target))
            if path not in found:
                found.append(path)
    return tuple(found)
