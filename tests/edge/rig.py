"""A rig for the edge: the server on a real loopback socket, and a client that speaks and reads raw bytes.

def test_something(loop):
    async def scene(rig):
        client = await rig.connect()
        client.send(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        assert (await client.answer()).body == b"hello"

    run(loop, hello, scene)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from msgspec import Struct

from standpipe.edge.config import EdgeConfig
from standpipe.edge.listen import Tls, open_tcp
from standpipe.edge.seam import Refusal
from standpipe.edge.server import Server
from standpipe.policy.identity import Trust

LOOPS = ("uvloop", "asyncio")
PATIENCE = 5.0
"""Real seconds after which a scene hangs. Nothing waits for it."""

HOST = b"Host: x\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def refuse(status, reason):
    body = f'{{"error":"{reason}"}}'.encode()
    return Refusal(status, ((b"content-type", b"application/json"),), body)


def post(body, *lines):
    head = b"".join(line + b"\r\n" for line in (b"POST /post HTTP/1.1", b"Host: x", *lines))
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Answer(Struct, frozen=True):
    """One answer as a careful client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True


class Client:
    """One connection. Reads exactly what is framed; whatever is left over is in `rest()`."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def send(self, data):
        self.writer.write(data)

    async def head(self):
        """Status and headers, the interim 100 included."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        return int(status), {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:-2])}

    async def answer(self, *, bodiless=False):
        """One answer. `whole` is False when the connection ended before its body did."""
        status, headers = await self.head()
        body = b""
        try:
            if bodiless or status in {100, 204, 304}:
                pass
            elif headers.get("transfer-encoding") == "chunked":
                async for chunk in self.chunks():
                    body += chunk
            elif "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                body = await self.reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            return Answer(status, headers, body, whole=False)
        return Answer(status, headers, body)

    async def chunks(self):
        while True:
            size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
            data = await self.reader.readexactly(size + 2)
            assert data.endswith(b"\r\n")
            if not size:
                return
            yield data[:-2]

    async def rest(self):
        """Everything until the connection closes, which it must."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""

    async def ask(self, data):
        self.send(data)
        return await self.answer()

    @property
    def socket(self):
        return self.writer.get_extra_info("socket")

    @property
    def transport(self) -> Any:
        return self.writer.transport

    def leave(self):
        self.transport.abort()


class Rig:
    """One server, and everything that its handler failed with."""

    def __init__(self, handler, config, trust, tls, *, proxied):
        self.server = Server(handler, refuse, config, trust, proxied=proxied)
        self.tls = tls
        self.failures: list[BaseException] = []
        self._clients: list[Client] = []

    async def __aenter__(self):
        asyncio.get_running_loop().set_exception_handler(self._fail)
        (self._sock,) = sockets = open_tcp("127.0.0.1", 0)
        self.port = self._sock.getsockname()[1]
        self.server.start(sockets, self.tls)
        return self

    def _fail(self, _, context):
        self.failures.append(context.get("exception") or RuntimeError(context["message"]))

    async def __aexit__(self, *_):
        for client in self._clients:
            client.leave()
        await self.server.abort()
        assert self.server.limiter.total == 0

    async def connect(self, **options):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **options)
        client = Client(reader, writer)
        self._clients.append(client)
        return client

    async def narrow(self):
        """A client whose kernel keeps as little as it can for a reader that does not read."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=sock)
        client = Client(reader, writer)
        client.transport.pause_reading()
        self._clients.append(client)
        return client


def run(
    loop: str,
    handler: Any,
    scene: Callable[[Rig], Awaitable[Any]],
    *,
    config: EdgeConfig | None = None,
    trust: Trust | None = None,
    tls: Tls | None = None,
    proxied: bool = False,
    failures: tuple[type[BaseException], ...] = (),
) -> Any:
    """Play one scene on one kind of loop. Every task must be gone afterwards, and only `failures` be reported."""

    async def play():
        rig = Rig(handler, config or EdgeConfig(), trust or Trust(), tls, proxied=proxied)
        async with asyncio.timeout(PATIENCE), rig:
            result = await scene(rig)
        leftover = asyncio.all_tasks() - {asyncio.current_task()}
        assert not leftover, leftover
        assert [type(failure) for failure in rig.failures] == list(failures), rig.failures
        return result

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        return runner.run(play())


async def until(condition):
    """Let the loop turn until something has come true."""
    while not condition():  # noqa: ASYNC110  # what comes true is often no event of ours
        await asyncio.sleep(0.001)
