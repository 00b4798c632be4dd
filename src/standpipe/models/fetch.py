"""Fetch: one address into one file, resumable, with every byte reported.

Knows no index and no model. The theory: a fetch only ever adds to a partial file that the caller keeps, so whatever
interrupts it, the next try goes on from there. Whether the bytes are the right ones is decided by checksum when all
of them have come, never by what the server claims.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from msgspec import Struct

from standpipe import __version__
from standpipe.models.catalog import File

_CHUNK: Final = 1 << 18
_PATIENCE: Final = 30.0
"""Seconds that a server may be silent."""
_TRIES: Final = 4


Advance = Callable[[int], None]
"""Takes how many more bytes are done."""

Progress = Callable[[str, int], AbstractContextManager[Advance]]
"""Shows one stretch of work while it lasts: takes a few words and a number of bytes. How it looks is its business."""


def silent(title: str, total: int) -> AbstractContextManager[Advance]:  # noqa: ARG001  # it shows nothing
    """A Progress that shows nothing."""
    return nullcontext(lambda _: None)


class Route(Struct, frozen=True):
    """How to reach servers: a proxy's URL, and a file or folder of certificates to trust instead of the system's."""

    proxy: str | None = None
    certificates: str | None = None


class Unfetched(Exception):
    """It did not come. The message says why, without addresses: they may hold credentials."""


def fetch(
    url: str,
    part: Path,
    file: File,
    progress: Progress,
    *,
    route: Route,
    pause: Callable[[float], None],
) -> None:
    """Bring `url` (http, https or file) into `part`, going on from what is there.

    Tries several times while the server is merely unwell, `pause(seconds)` in between. On return `part` is whole and
    its checksum is right. Raises Unfetched.
    """
    if urllib.parse.urlsplit(url).scheme not in {"http", "https", "file"}:
        raise Unfetched("the address is neither http, https nor file")
    resumed = part.exists()
    with progress(f"fetching {file.name}", file.bytes) as advance:
        _Fetch(url, part, file.bytes, advance, _opener(route)).whole(pause)
    if digest(part) == file.sha256:
        return
    part.unlink()
    if not resumed:
        raise Unfetched(f"the downloaded file is not {file.name}: its checksum differs")
    fetch(url, part, file, progress, route=route, pause=pause)  # the old beginning may have been of something else


def digest(path: Path, advance: Advance = lambda _: None) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
            advance(len(chunk))
    return total.hexdigest()


class _Fetch:
    """One file on its way. Reports how far it has got, so that a byte that comes twice counts once."""

    def __init__(
        self, url: str, part: Path, size: int, advance: Advance, opener: urllib.request.OpenerDirector
    ) -> None:
        self._url = url
        self._part = part
        self._size = size
        self._advance = advance
        self._opener = opener
        self._reached = 0

    def whole(self, pause: Callable[[float], None]) -> None:
        """Ask until all has come. Gives up when nothing more comes in several tries. Raises Unfetched."""
        fruitless = 0
        while (have := self._have()) != self._size:
            try:
                self._once()
                continue
            except urllib.error.HTTPError as error:
                error.close()
                reason = f"the server answered with status {error.code}"
                if error.code < 500 and error.code not in {408, 429}:
                    raise Unfetched(reason) from error
            except (OSError, http.client.HTTPException) as error:
                reason = str(getattr(error, "reason", None) or error) or type(error).__name__
                if self._url.startswith("file:"):
                    raise Unfetched(reason) from error
            fruitless = 1 if self._have() > have else fruitless + 1
            if fruitless == _TRIES:
                raise Unfetched(reason)
            pause(float(2 ** (fruitless - 1)))
        self._report(self._size)

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _report(self, size: int) -> None:
        size = min(size, self._size)
        if size > self._reached:
            self._advance(size - self._reached)
            self._reached = size

    def _once(self) -> None:
        """One request. What it brings is in the file afterwards. Raises OSError or HTTPException when it is cut."""
        have = self._have()
        if have > self._size:
            self._part.unlink()
            have = 0
        request = urllib.request.Request(self._url)  # noqa: S310  # the scheme was checked by `fetch`
        request.add_header("User-Agent", f"standpipe/{__version__}")
        request.add_header("Accept-Encoding", "identity")
        if have:
            request.add_header("Range", f"bytes={have}-")
        with self._opener.open(request, timeout=_PATIENCE) as response, self._part.open("ab") as file:
            begins = re.match(r"bytes (\d+)-", response.headers.get("Content-Range") or "")
            if have and not (response.status == 206 and begins and int(begins[1]) == have):
                file.truncate(0)
                have = 0
            self._report(have)
            while have < self._size and (chunk := response.read(_CHUNK)):
                file.write(chunk)
                have += len(chunk)
                self._report(have)
        if have < self._size:
            raise ConnectionError("the connection was lost")
        if have > self._size:
            self._part.unlink()
            raise Unfetched("the server sent more than the whole file")


def _opener(route: Route) -> urllib.request.OpenerDirector:
    """Without a proxy of its own, a route takes the environment's."""
    handlers: list[urllib.request.BaseHandler] = []
    if route.proxy:
        handlers.append(urllib.request.ProxyHandler({"http": route.proxy, "https": route.proxy}))
    trust = ssl.create_default_context()
    if route.certificates:
        folder = Path(route.certificates).is_dir()
        try:
            trust = ssl.create_default_context(
                capath=route.certificates if folder else None, cafile=None if folder else route.certificates
            )
        except OSError as error:
            raise Unfetched(f"the certificates at {route.certificates} cannot be read") from error
    return urllib.request.build_opener(*handlers, urllib.request.HTTPSHandler(context=trust))
