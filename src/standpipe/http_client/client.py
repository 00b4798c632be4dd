"""The HTTP/1.1 client that engines use: a pool of kept connections to one place, and nothing else.

Pushes an answer's bytes into callables as they arrive (see `transport`), or fetches a small whole answer. Bodies that
are sent are JSON. HTTP proxies are not supported, whatever the environment says: an engine is reached directly, and
whoever needs a proxy puts one in the engine's place. Knows no chat: its faults are renamed by whoever uses it. It
limits how long a connection may take to open, and sizes; how long an answer may take is its caller's to decide.

Servers close connections that they still advertise, so a request on a kept connection that dies at once, before any
byte of an answer, is sent once more, on a new connection. One that dies later may have died of the work: whether to
repeat that is the caller's to decide. So it is when no new connection opens, because the server has gone with the old.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct

from standpipe.flow import Flow
from standpipe.http_client.transport import (
    ConnectFailed,
    Connection,
    ConnectionBroken,
    DeadlinePassed,
    Headers,
    HttpFault,
    OnBody,
    OnHead,
)
from standpipe.http_client.url import EngineUrl, parse_url

Method = Literal["GET", "POST"]

CONNECT_TIMEOUT = 5.0
"""Seconds that a connection may take to open, TLS included."""
KEEP_TIMEOUT = 4.0
"""Seconds that an unused connection is kept: below the servers' own patience, which is 5 in many."""
STALE = 0.5
"""Seconds after a request within which a kept connection shows that the server had closed it: a long round trip."""
KEPT = 64
"""Unused connections that are kept at most."""
HEAD_BYTES = 65_536
"""Of an answer's head, and of any run of bytes that carry no body."""


class AnswerTooLarge(HttpFault):
    """A fetched body is larger than its limit."""


class Answer(Struct, frozen=True):
    """A whole answer, whatever its status."""

    status: int
    headers: Headers
    body: bytes


class Client:
    """Sends requests to one engine. Belongs to the event loop on which it is first used."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        """Connects to nothing yet.

        Args:
            url: `http://host:8000/v1`, `https://...` or `http+unix:///path/to/socket:/v1`. Its path comes before the
                path of every request; its user information becomes Basic authorization.
            key: sent as a Bearer token with every request, instead of the URL's user information.
            headers: further headers of every request.
            ssl_context: for https; by default certificates are verified against the system's authorities.
            connect_timeout: in seconds.

        Raises ValueError for a malformed URL, key or header, and repeats none of their values.
        """
        self._url: EngineUrl = parse_url(url)
        self._connect_timeout = connect_timeout
        self._ssl = (ssl_context or verifying()) if self._url.secure else None
        authorization = self._url.authorization if key is None else f"Bearer {key}"
        fixed = {"host": self._url.authority, "user-agent": "standpipe", "accept-encoding": "identity"}
        if authorization is not None:
            fixed["authorization"] = authorization
        self._fixed = _head_lines((fixed | dict(headers or {})).items())
        self.open: set[Connection] = set()
        self.kept: dict[Connection, float] = {}
        """Unused connections and since when (loop's time), in that order: the newest is used first."""
        self.opened = self.reused = self.retried = 0
        """Since the start: new connections, requests on kept ones, and those of them that had to be sent again."""
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed: asyncio.Future[None] | None = None

    async def request(
        self,
        method: Method,
        path: str,
        *,
        on_head: OnHead,
        on_body: OnBody,
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        keep: bool = True,
        below: bool = True,
    ) -> None:
        """Send a request and push its answer, of any status, into `on_head` and `on_body`; returns when it is whole.

        `path` begins with a slash and may have a query. With `keep` false the connection is closed after the answer,
        and with `below` false the path begins at the server's root and not below the URL's path.
        Cancelling this closes the connection at once. What the callables raise comes out here, with the connection
        closed. Raises ConnectFailed, ConnectionBroken, and DeadlinePassed when no connection opens in time.
        """
        time = asyncio.get_running_loop().time
        request = self._compose(method, path, headers, body, self._url.base if below else "")
        del body  # an answer may last for minutes, and one copy of a long prompt is enough
        connection = self._take()
        stale: ConnectionBroken | None = None
        if connection is not None:
            sent = time()
            try:
                await connection.exchange(request, on_head, on_body)
            except ConnectionBroken as broken:
                if broken.begun or (method != "GET" and time() - sent > STALE):
                    raise
                self.retried += 1
                connection, stale = None, broken
        if connection is None:
            try:
                connection = await self._connect()
            except ConnectFailed:
                if stale is not None:
                    raise stale from None
                raise
            await connection.exchange(request, on_head, on_body)
        if keep and connection.reusable:
            self._put(connection)
        else:
            connection.abort()

    async def fetch(
        self,
        method: Method,
        path: str,
        *,
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        limit: int = 1_048_576,
        within: float = 10.0,
        below: bool = True,
    ) -> Answer:
        """Send a request and collect its answer, of any status, as long as its body has at most `limit` bytes and is
        there within so many seconds. Raises AnswerTooLarge and what `request` raises.
        """
        head: list[tuple[int, Headers]] = []
        pieces: list[bytes] = []
        size = 0

        def on_head(status: int, headers: Headers, _: Flow) -> None:
            head.append((status, headers))

        def on_body(data: bytes) -> bool:
            nonlocal size
            size += len(data)
            if size > limit:
                raise AnswerTooLarge(f"more than {limit} bytes from {self._url}")
            pieces.append(data)
            return False

        try:
            async with asyncio.timeout(within):
                await self.request(
                    method, path, on_head=on_head, on_body=on_body, body=body, headers=headers, below=below
                )
        except TimeoutError:
            raise DeadlinePassed("whole answer", within) from None
        return Answer(*head[0], b"".join(pieces))

    async def close(self) -> None:
        """Close every connection, busy ones too, and wait until their sockets are. Idempotent."""
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
        self._stop_sweeping()
        for connection in list(self.open):
            connection.abort()
        if not self.open and not self._closed.done():
            self._closed.set_result(None)
        await asyncio.shield(self._closed)

    def __repr__(self) -> str:
        return f"<Client {self._url} {len(self.open)} open, {len(self.kept)} of them kept>"

    def _compose(self, method: Method, path: str, headers: Iterable[tuple[str, str]], body: bytes, base: str) -> bytes:
        if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
            raise ValueError("the path of a request begins with a slash and has printable ASCII characters only")
        head = f"{method} {base}{path} HTTP/1.1\r\n{self._fixed}"
        if headers:
            head += _head_lines(headers)
        if body:
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        elif method == "POST":
            head += "content-length: 0\r\n"
        return f"{head}\r\n".encode("latin-1") + body

    async def _connect(self) -> Connection:
        loop, url = asyncio.get_running_loop(), self._url
        self._refuse_when_closed()

        def protocol() -> Connection:
            return Connection(loop, HEAD_BYTES, self._lost)

        try:
            async with asyncio.timeout(self._connect_timeout):
                if url.socket is not None:
                    _, connection = await loop.create_unix_connection(protocol, url.socket)
                else:
                    _, connection = await loop.create_connection(protocol, url.host, url.port, ssl=self._ssl)
        except TimeoutError:
            raise DeadlinePassed("connection", self._connect_timeout) from None
        except OSError as error:
            raise ConnectFailed(f"no connection to {url}: {error.strerror or error}") from error
        self.opened += 1
        if connection.open:  # else it may have been lost already, which is told only once
            self.open.add(connection)
        try:
            self._refuse_when_closed()
        except ConnectFailed:
            connection.abort()
            raise
        return connection

    def _refuse_when_closed(self) -> None:
        if self._closed is not None:
            raise ConnectFailed(f"the client of {self._url} is closed")

    def _take(self) -> Connection | None:
        """The kept connection that was used last, if it is still fresh and open."""
        if not self.kept:
            return None
        oldest = asyncio.get_running_loop().time() - KEEP_TIMEOUT
        while self.kept:
            connection, since = self.kept.popitem()
            if since > oldest and connection.reusable:
                self.reused += 1
                return connection
            connection.abort()
        return None

    def _put(self, connection: Connection) -> None:
        if len(self.kept) >= KEPT or self._closed is not None:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        self.kept[connection] = loop.time()
        if self._sweeper is None:
            self._sweeper = loop.call_later(KEEP_TIMEOUT, self._sweep)

    def _sweep(self) -> None:
        """Close what was kept for too long; come back when the next one will have been."""
        self._sweeper = None
        loop = asyncio.get_running_loop()
        while self.kept:
            connection, since = next(iter(self.kept.items()))
            if since + KEEP_TIMEOUT > loop.time():
                self._sweeper = loop.call_at(since + KEEP_TIMEOUT, self._sweep)
                return
            del self.kept[connection]
            connection.abort()

    def _stop_sweeping(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _lost(self, connection: Connection) -> None:
        self.open.discard(connection)
        self.kept.pop(connection, None)
        if not self.open and self._closed is not None and not self._closed.done():
            self._closed.set_result(None)


def verifying(authorities: str | None = None) -> ssl.SSLContext:
    """How a server's certificate is checked: against the system's authorities, or those of a PEM file."""
    context = ssl.create_default_context(cafile=authorities)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _head_lines(headers: Iterable[tuple[str, str]]) -> str:
    lines = []
    for name, value in headers:
        if not (name.isascii() and name.replace("-", "").isalnum()):
            raise ValueError("a header's name has letters, digits and hyphens only")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"the value of the header {name} has printable ASCII characters only")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines)
