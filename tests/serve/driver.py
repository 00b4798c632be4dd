"""Drives an app without sockets: requests as values, replies as records, a client that can leave or stop reading."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

from standpipe.app.app import App
from standpipe.app.center import Center
from standpipe.edge.seam import BodyTooLarge, Headers
from standpipe.engines.scripted.script import Script
from standpipe.engines.scripted.scripted import Scripted
from standpipe.flow import Flow
from standpipe.observe import log
from standpipe.policy.retry import ATTEMPTS
from standpipe.serve.stream import StreamTimeouts
from standpipe.settings import Settings
from tests.virtual import run


class Request:
    def __init__(self, method: str, path: str, body: bytes, headers: dict[str, str], peer: str | None) -> None:
        self.method = method
        self.path = path
        self.query = ""
        self.headers = Headers([(name.lower().encode(), value.encode()) for name, value in headers.items()])
        self.peer = peer
        self._body = body

    async def body(self, limit: int) -> bytes:
        if len(self._body) > limit:
            raise BodyTooLarge
        return self._body

    def forget(self) -> None:
        self.headers, self._body = Headers(()), b""


class Reply:
    """Records what was sent, and when."""

    def __init__(self) -> None:
        self.gone = False
        self.started = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.writes: list[tuple[float, bytes]] = []
        self.end_kind = ""
        self.flow: Flow | None = None

    def start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        assert not self.started
        self.started = True
        self.status = status
        self.headers = {name.decode(): value.decode() for name, value in headers}
        self.started_at = asyncio.get_running_loop().time()

    def write(self, data: bytes) -> None:
        assert self.started
        assert not self.end_kind
        assert data
        self.writes.append((asyncio.get_running_loop().time(), data))

    def end(self) -> None:
        assert self.started
        assert not self.end_kind
        self.end_kind = "end"

    def abort(self) -> None:
        assert self.end_kind != "end"
        self.end_kind = "abort"

    def throttle(self, flow: Flow | None) -> None:
        self.flow = flow

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.writes)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def frames(self) -> list[Any]:
        """The data of each server-sent event; `[DONE]` as it is."""
        frames = [frame.removeprefix("data: ") for frame in self.body.decode().split("\n\n") if frame]
        return [frame if frame == "[DONE]" else json.loads(frame) for frame in frames]

    @property
    def text(self) -> str:
        """What a streamed answer said."""
        return "".join(
            choice["delta"].get("content") or ""
            for frame in self.frames
            if frame != "[DONE]"
            for choice in frame.get("choices", ())
        )


class Tap:
    """An app with scripted engines, and its clients. Its `attempts` and `StreamTimeouts` count as settings here."""

    def __init__(self, *scripts: Script, engines: Sequence[Scripted] = (), local: bool = True, **settings: Any) -> None:
        timeouts = {name: settings.pop(name) for name in StreamTimeouts.__struct_fields__ if name in settings}
        attempts = settings.pop("attempts", ATTEMPTS)
        self.engines = list(engines) or [Scripted(script) for script in scripts or (Script(),)]
        self.log = io.StringIO()
        self.settings = Settings(**settings)
        logger = log.build("json", self.settings.log_level, self.log)
        self.center = Center(self.settings, self.engines, logger, attempts=attempts)
        self.app = App(
            self.settings,
            self.center,
            logger,
            address="http://127.0.0.1:8080",
            local=local,
            timeouts=StreamTimeouts(**timeouts),
        )

    async def __aenter__(self) -> Self:
        await self.app.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.app.__aexit__(*error)

    async def send(
        self,
        method: str,
        path: str,
        body: Any = b"",
        headers: dict[str, str] | None = None,
        *,
        peer: str | None = "192.0.2.1",
        reply: Reply | None = None,
    ) -> Reply:
        reply = reply or Reply()
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.app.guard(Request(method, path, content, {"host": "localhost"} | (headers or {}), peer), reply)
        return reply

    async def ask(
        self, said: str = "hello", *, peer: str = "192.0.2.1", reply: Reply | None = None, **fields: Any
    ) -> Reply:
        headers = fields.pop("headers", None)
        body = {"messages": [{"role": "user", "content": said}]} | fields
        return await self.send("POST", "/api", body, headers, peer=peer, reply=reply)

    def leaving(self, reply: Reply, **fields: Any) -> asyncio.Task[Reply]:
        """An ask whose client can leave: cancel the task, as a shell does."""
        return asyncio.get_running_loop().create_task(self.ask(reply=reply, **fields))

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log's lines."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    @property
    def asks(self) -> list[dict[str, Any]]:
        """The log's lines about asks."""
        return [line for line in self.lines if line["event"] == "request"]


def scene(*scripts: Script, **settings: Any) -> Callable[[Callable[[Tap], Awaitable[None]]], Callable[[], None]]:
    """Turn a coroutine function of a tap into a test, on virtual time."""

    def decorate(function: Callable[[Tap], Awaitable[None]]) -> Callable[[], None]:
        async def body() -> None:
            async with Tap(*scripts, **settings) as tap:
                await function(tap)

        def test() -> None:
            run(body())

        test.__name__ = function.__name__
        return test

    return decorate
