"""Standpipe inside another ASGI server: a whole one, and an adapter from scopes and messages to the edge's seam.

    uvicorn --factory standpipe.asgi:create_app         # settings from STANDPIPE_ variables
    app = create_app(Settings(engine=("http://127.0.0.1:8000/v1",)))
    app = Application(guard, guard.refuse)              # any handler of `edge.seam`, and its words for a bare error

It sees no socket and knows no particular server. What belongs to sockets is the server's: deadlines of connections,
heads and readers, caps per client, strict framing, TLS, draining. Do not put a server that lacks them on a public
address. An answer that must not look whole ends by raising `UncleanEnd`, which servers turn into a closed connection.

Three tasks serve a request: the server's own writes, one runs the handler, one receives and so sees the client leave.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from standpipe.app.app import App
from standpipe.app.center import Center
from standpipe.app.engines import open_engines
from standpipe.app.runtime import FAILURES
from standpipe.configuration import load
from standpipe.edge.config import HIGH_WATER, LOW_WATER, EdgeConfig
from standpipe.edge.intake import Incoming, Intake
from standpipe.edge.reply import Throttled, give
from standpipe.edge.seam import Handler, Headers, Refuse
from standpipe.observe import log as logs
from standpipe.settings import Settings
from standpipe.terminal import weights

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class UncleanEnd(Exception):
    """Half an answer was given: the server must close the connection without ending the body."""


def create_app(settings: Settings | None = None) -> Mounted:
    """A whole Standpipe as an ASGI 3 application. It opens engines at the lifespan's start and closes them at its end.

    Without `settings` those of the environment count. Of them, what concerns sockets (`host`, `port`, TLS, connections,
    `workers`, the admin listener, `grace`) is the server's business. Each process has a queue of its own. Raises
    SettingsError.
    """
    return Mounted(load({}, os.environ) if settings is None else settings)


class Mounted:
    """What `create_app` makes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._application: Application | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._application is None:
            raise RuntimeError("Standpipe begins with the server's lifespan events: switch them on")
        else:
            await self._application(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            try:
                app = await stack.enter_async_context(_opened(self._settings))
            except FAILURES as failure:
                await send({"type": "lifespan.startup.failed", "message": str(failure)})
                return
            self._application = Application(app.guard, app.guard.refuse)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self._application = None
        await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[App]:
    log = logs.build(settings.log_format, settings.log_level, sys.stderr)
    try:
        opened = await open_engines(settings, weights.bar, log.say)
        center = Center(settings, opened.engines, log)
        # Where it is reached from, only the server in front knows.
        async with App(settings, center, log, address=settings.public_url or "http://localhost", local=False) as app:
            yield app
    finally:
        log.close()


class Application:
    """An ASGI 3 application that runs one handler."""

    def __init__(self, handler: Handler, refuse: Refuse) -> None:
        """`refuse` makes the 500 for a handler that returns or raises without an answer."""
        self._handler = handler
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._answer(scope, receive, send)
            case "lifespan":
                while (kind := (await receive())["type"]) != "lifespan.shutdown":
                    await send({"type": f"{kind}.complete"})
                await send({"type": "lifespan.shutdown.complete"})
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            case other:
                raise NotImplementedError(f"scope type {other!r}")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Until the answer is given or the client has left, and the handler has returned."""
        wanted = asyncio.Event()
        headers = Headers([(name, value.strip(b" \t")) for name, value in scope["headers"]])
        length = headers.get(b"content-length") or ""
        intake = Intake(EdgeConfig(), int(length) if length.isdecimal() else None, wanted.set)
        peer = scope["client"][0] if scope.get("client") else None
        query = scope["query_string"].decode("latin-1")
        request = Incoming(scope["method"], scope["path"] or "/", query, headers, peer, intake)
        reply = _Reply(bodiless=scope["method"] == "HEAD")
        handling = asyncio.create_task(self._handle(request, reply))
        receiving = asyncio.create_task(_receive(receive, intake, wanted, reply))
        try:
            await reply.carry(send)
            if reply.over:
                await asyncio.wait((handling,))
        except OSError:
            pass  # how a server may say that the client has left
        finally:
            if not reply.over:
                reply.gone = True
                handling.cancel()
            receiving.cancel()
            await asyncio.wait((handling, receiving))
        if reply.cut and not reply.gone:
            raise UncleanEnd("the answer is not whole")

    async def _handle(self, request: Incoming, reply: _Reply) -> None:
        """The handler's task: whatever becomes of it, the reply is over afterwards."""
        try:
            await self._handler(request, reply)
        except Exception as error:  # noqa: BLE001  # the outermost wall: reported, and the client gets its bare 500
            asyncio.get_running_loop().call_exception_handler({"message": "a handler failed", "exception": error})
        finally:
            if reply.started or reply.over or reply.gone:
                reply.abort()
            else:
                give(self._refuse(500, "Internal server error."), reply)


async def _receive(receive: Receive, intake: Intake, wanted: asyncio.Event, reply: _Reply) -> None:
    """Carry the body in, no further than somebody wants it, and notice the client leave."""
    try:
        while (message := await receive())["type"] != "http.disconnect":
            data = message.get("body", b"")
            intake.take(data, len(data))
            if message.get("more_body", False):
                if intake.full:
                    wanted.clear()
                await wanted.wait()
            else:
                intake.end()
    except Exception as error:  # noqa: BLE001  # a server's fault: reported, and the client counts as gone
        asyncio.get_running_loop().call_exception_handler({"message": "receiving failed", "exception": error})
    if not reply.over:  # after the end, a server says this of every client
        reply.gone = True
        reply.woken.set()


class _Reply(Throttled):
    """The seam's Reply: an ordered backlog, which `carry` takes to the server."""

    def __init__(self, *, bodiless: bool) -> None:
        super().__init__()
        self._bodiless = bodiless
        self._messages: list[Message] = []
        self._waiting = 0
        self.gone = False
        self.started = False
        self.ended = False
        self.cut = False
        self.woken = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether the handler has said all that it will say."""
        return self.ended or self.cut

    def start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        if self.started:
            raise RuntimeError("an answer starts once")
        if any(b"\n" in field or b"\r" in field for header in headers for field in header):
            raise ValueError("a header field holds a line break")
        self.started = True
        self._put({"type": "http.response.start", "status": status, "headers": list(headers)})

    def write(self, data: bytes) -> None:
        if not self.started or self.ended:
            raise RuntimeError("an answer is written between its start and its end")
        if self.gone or self.cut or self._bodiless or not data:
            return
        self._waiting += len(data)
        self._put({"type": "http.response.body", "body": data, "more_body": True})
        if self._waiting > HIGH_WATER and not self._held:
            self.hold()

    def end(self) -> None:
        if not self.started or self.ended:
            raise RuntimeError("an answer ends once, after its start")
        if not self.cut:
            self.ended = True
            self.throttle(None)
            self._put({"type": "http.response.body", "body": b"", "more_body": False})

    def abort(self) -> None:
        if not self.ended:
            self.cut = True
            self.throttle(None)
            self.woken.set()

    def _put(self, message: Message) -> None:
        self._messages.append(message)
        self.woken.set()

    async def carry(self, send: Send) -> None:
        """Send what was said, in order, until it is over or the client is gone."""
        while not self.gone:
            self.woken.clear()
            messages, self._messages = self._messages, []
            for message in messages:
                await send(message)
                self._waiting -= len(message.get("body", b""))
                if self._held and self._waiting <= LOW_WATER:
                    self.release()
            if not self._messages:
                if self.over:
                    return
                await self.woken.wait()
