"""Pretended engines for tests: raw bytes on real sockets, under the stdlib's virtual loop or under uvloop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop

from standpipe.http_client.client import Client

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def run_on_uvloop(scene: Coroutine[Any, Any, Any]) -> Any:
    faults: list[str] = []

    async def watched() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(str(context)))
        async with asyncio.timeout(5):
            result = await scene
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    result = uvloop.run(watched())
    assert not faults
    return result


class Peer:
    """The engine's end of one connection."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self._reader = reader
        self._writer = writer

    async def request(self) -> tuple[str, dict[str, str], bytes]:
        """The next request: its first line, headers and body. Raises IncompleteReadError when there is none."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return first, headers, await self._reader.readexactly(int(headers.get("content-length", 0)))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def sent(self) -> None:
        await self._writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed."""
        try:
            while await self._reader.read(65_536):
                pass
        except ConnectionError:
            pass

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        self._writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class Engine:
    """Where a script listens, and what happened there."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.url = ""
        self.peers: list[Peer] = []
        self.gone = asyncio.Event()
        """Set when a script came to its end."""
        self.second = asyncio.Event()
        """Set when there is a second connection."""
        self.tasks: set[asyncio.Task[Any]] = set()
        self.stop: Callable[[], None] = lambda: None
        """Take no more connections."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.tasks.add(task)
        peer = Peer(len(self.peers), reader, writer)
        self.peers.append(peer)
        if peer.number == 1:
            self.second.set()
        try:
            await self._script(peer)
            self.gone.set()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self.tasks.discard(task)


@asynccontextmanager
async def engine(
    script: Script, *, socket: Path | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Engine]:
    """A scripted engine on a loopback port, or on a UNIX socket."""
    it = Engine(script)
    if socket:
        server = await asyncio.start_unix_server(it, str(socket))
        it.url = f"http+unix://{socket}:/v1"
    else:
        server = await asyncio.start_server(it, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        it.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/v1"
    it.stop = server.close
    try:
        yield it
    finally:
        server.close()
        for task in it.tasks:
            task.cancel()
        if it.tasks:
            await asyncio.wait(it.tasks)
        await turns()


async def turns(count: int = 10) -> None:
    """Let the loop go round, so that sockets are really closed and both ends know."""
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def using(client: Client) -> AsyncIterator[Client]:
    try:
        yield client
    finally:
        await client.close()


class Received:
    """A receiver that collects."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.flow: Any = None
        self.bodies: list[bytes] = []
        self.first = asyncio.Event()

    def on_head(self, status, headers, flow) -> None:
        self.status, self.headers, self.flow = status, dict(headers), flow

    def on_body(self, data) -> bool:
        self.bodies.append(data)
        self.first.set()
        return False

    @property
    def body(self) -> bytes:
        return b"".join(self.bodies)


def asked(client: Client, into: Received, path: str = "/chat/completions", **options: Any) -> Coroutine[Any, Any, None]:
    return client.request("POST", path, on_head=into.on_head, on_body=into.on_body, body=b'{"a":1}', **options)


async def answers_plainly(peer: Peer) -> None:
    while True:
        await peer.request()
        peer.send(PLAIN)


def counts(client: Client) -> SimpleNamespace:
    """A client's connections, as they are now."""
    return SimpleNamespace(
        open=len(client.open),
        kept=len(client.kept),
        opened=client.opened,
        reused=client.reused,
        retried=client.retried,
    )
