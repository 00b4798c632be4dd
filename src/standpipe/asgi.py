"""The seam inside any ASGI server: this shell sees scopes and messages, never a socket.

It must not know which server it runs in, and trusts none of them to tell of a client that leaves: a pump on `receive`
does. Per request there are three tasks with one owner, `_Exchange.run`: the server's own task writes, one runs the
handler, one pumps. What a server gives no words for (deadlines of connections and heads, caps per client) this shell
cannot hold; `http1` does.

Two things that ASGI lacks are taken from `scope["extensions"]` where a server of ours puts them: `standpipe.close`
(end the connection once what was written is flushed) and `standpipe.abort` (end it now). Elsewhere an answer that must
not look whole is ended by raising, which servers turn into a closed connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from standpipe.edge.config import HIGH_WATER, LOW_WATER, Limits
from standpipe.edge.head import Framing, Rejected, framing
from standpipe.edge.intake import Incoming, Intake
from standpipe.edge.reply import give, sized
from standpipe.edge.seam import Handler, Headers, Refuse
from standpipe.flow import Flow

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class UncleanEnd(Exception):
    """Half an answer was given: the server must close the connection without ending the body."""


class AsgiShell:
    """An ASGI application that runs one handler."""

    def __init__(self, handler: Handler, refuse: Refuse, limits: Limits) -> None:
        self.handler = handler
        self.refuse = refuse
        self.limits = limits
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                self._open += 1
                try:
                    await _Exchange(self, scope, receive, send).run()
                finally:
                    self._open -= 1
            case "lifespan":
                await _lifespan(receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            case other:
                raise NotImplementedError(f"scope type {other!r}")

    def statistics(self) -> dict[str, int]:
        """`asks`: requests that are being answered now."""
        return {"asks": self._open}

    def __repr__(self) -> str:
        return f"<AsgiShell {self._open} asks>"


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


class _Exchange:
    """One request and its answer: owns the tasks, and stands between the seam and the server."""

    def __init__(self, shell: AsgiShell, scope: Scope, receive: Receive, send: Send) -> None:
        self._shell = shell
        self._scope = scope
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._wake: asyncio.Future[None] | None = None
        self._want: asyncio.Future[None] = self._loop.create_future()
        self._stall = asyncio.timeout(None)
        self._reply = _Reply(self, bodiless=scope["method"] == "HEAD")

    async def run(self) -> None:
        """Until the answer is given or the client has left, and the handler has returned."""
        self._scope["headers"] = [(name, value.strip(b" \t")) for name, value in self._scope["headers"]]
        try:
            framed = self._framing()
        except Rejected as rejected:
            await self._refuse(rejected)
            return
        reply, intake = self._reply, Intake(self._shell.limits, framed.length, self._wanted)
        handling = self._loop.create_task(self._handle(self._incoming(intake)))
        pumping = self._loop.create_task(self._pump(intake, patient=framed.expects_continue))
        try:
            async with self._stall:
                await self._write()
            if reply.over:
                await asyncio.wait((handling,))
        except TimeoutError:
            self._extension("standpipe.abort")
        except OSError:
            pass  # how a server may say that the client has left
        finally:
            if not reply.over:
                reply.gone = True
                handling.cancel()
            pumping.cancel()
            await asyncio.wait((handling, pumping))

    def _framing(self) -> Framing:
        scope, limits = self._scope, self._shell.limits
        pairs: list[tuple[bytes, bytes]] = scope["headers"]
        if len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"]) > limits.request_line:
            raise Rejected(414, "The request line is too long.")
        if len(pairs) > limits.header_count or sum(len(n) + len(v) + 4 for n, v in pairs) > limits.header_bytes:
            raise Rejected(431, "The request's header is too large.")
        if scope["http_version"] not in {"1.0", "1.1"}:
            return Framing(length=None, keep_alive=True, expects_continue=False)
        return framing(pairs, modern=scope["http_version"] == "1.1")

    def _incoming(self, intake: Intake) -> Incoming:
        scope = self._scope
        client = scope.get("client")
        query = scope["query_string"].decode("latin-1")
        headers = Headers(scope["headers"])
        return Incoming(scope["method"], scope["path"] or "/", query, headers, client[0] if client else None, intake)

    async def _handle(self, request: Incoming) -> None:
        """The handler's task: whatever becomes of it, the reply is over afterwards."""
        reply = self._reply
        try:
            await self._shell.handler(request, reply)
        except Exception as error:  # noqa: BLE001  # the outermost wall: reported, and the client gets its bare 500
            self._loop.call_exception_handler({"message": "a handler failed", "exception": error})
        finally:
            if not reply.started and not reply.cut and not reply.gone:
                give(self._shell.refuse(500, "Something went wrong here."), reply)
            else:
                reply.abort()

    async def _pump(self, intake: Intake, *, patient: bool) -> None:
        """Carry the body in, and notice the client leave."""
        if patient:
            # The first `receive` makes a server send 100 Continue: not before somebody wants the body.
            await self._want
        try:
            while (message := await self._receive())["type"] != "http.disconnect":
                data = message.get("body", b"")
                intake.take(data, len(data))
                if not message.get("more_body", False):
                    intake.end()
                if intake.behind > self._shell.limits.read_ahead and not intake.whole:
                    await self._want
        except Exception as error:  # noqa: BLE001  # a server's fault: reported, and the client counts as gone
            self._loop.call_exception_handler({"message": "receiving failed", "exception": error})
        if not self._reply.over:  # after the end, a server says this of every client
            self._reply.gone = True
            self.nudge()

    def _wanted(self) -> None:
        if not self._want.done():
            self._want.set_result(None)

    async def _write(self) -> None:
        """Carry the answer out, in order. Raises TimeoutError when the reader stalls."""
        reply = self._reply
        while not reply.gone:
            if reply.head is not None:
                head, reply.head = reply.head, None
                await self._send(head)
            elif reply.ended:
                self._watch()
                await self._send({"type": "http.response.body", "body": reply.take(), "more_body": False})
                self._stall.reschedule(None)
                return
            elif reply.backlog:
                await self._send({"type": "http.response.body", "body": reply.take(), "more_body": True})
                reply.passed()
                if self._stall.when() is not None:
                    self._stall.reschedule(None)
            elif reply.cut:
                if not self._extension("standpipe.close" if reply.started else "standpipe.abort"):
                    raise UncleanEnd("the answer is not whole")
                return
            else:
                self._wake = self._loop.create_future()
                await self._wake

    def nudge(self) -> None:
        """There is something to write, or nothing more will be."""
        if self._wake is not None:
            wake, self._wake = self._wake, None
            if not wake.done():
                wake.set_result(None)
        elif self._stall.when() is None:
            # The writer still waits for the server, so from now on it is on the clock. No timer while it keeps up.
            self._watch()

    def _watch(self) -> None:
        with contextlib.suppress(RuntimeError):  # the writer has not begun yet, or is over
            self._stall.reschedule(self._loop.time() + self._shell.limits.write_stall)

    def _extension(self, name: str) -> bool:
        act: Callable[[], None] | None = (self._scope.get("extensions") or {}).get(name)
        if act is not None:
            act()
        return act is not None

    async def _refuse(self, rejected: Rejected) -> None:
        refusal = self._shell.refuse(rejected.status, rejected.reason)
        headers = [*sized(refusal), (b"connection", b"close")]
        await self._send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": refusal.body, "more_body": False})


class _Reply:
    """The seam's Reply: an ordered backlog that the exchange's writer takes from."""

    def __init__(self, exchange: _Exchange, *, bodiless: bool) -> None:
        self._exchange = exchange
        self._bodiless = bodiless
        self.gone = False
        self.started = False
        self.ended = False
        self.cut = False
        self.head: Message | None = None
        self.backlog: list[bytes] = []
        self._waiting = 0
        self._taken = 0
        self._flow: Flow | None = None
        self._held = False

    def start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        if self.started:
            raise RuntimeError("an answer starts once")
        if any(b"\n" in field or b"\r" in field for header in headers for field in header):
            raise ValueError("a header field holds a line break")
        self.started = True
        self.head = {"type": "http.response.start", "status": status, "headers": list(headers)}
        self._exchange.nudge()

    def write(self, data: bytes) -> None:
        if not self.started or self.ended:
            raise RuntimeError("an answer is written between its start and its end")
        if self.gone or self.cut or self._bodiless or not data:
            return
        self.backlog.append(data)
        self._waiting += len(data)
        if self._waiting > HIGH_WATER and not self._held:
            self._held = True
            if self._flow is not None:
                self._flow.pause()
        self._exchange.nudge()

    def end(self) -> None:
        if not self.started or self.ended:
            raise RuntimeError("an answer ends once, after its start")
        if not self.cut:
            self.ended = True
            self.throttle(None)
            self._exchange.nudge()

    def abort(self) -> None:
        if not self.ended:
            self.cut = True
            self.throttle(None)
            self._exchange.nudge()

    @property
    def over(self) -> bool:
        """Whether the handler has said all that it will say."""
        return self.ended or self.cut

    def throttle(self, flow: Flow | None) -> None:
        former, self._flow = self._flow, flow
        if self._held:
            if former is not None:
                former.resume()
            if flow is not None:
                flow.pause()

    def take(self) -> bytes:
        """Everything that waits, as one piece. `passed` tells when it is out of our hands."""
        data = self.backlog[0] if len(self.backlog) == 1 else b"".join(self.backlog)
        self.backlog.clear()
        self._taken = len(data)
        return data

    def passed(self) -> None:
        self._waiting -= self._taken
        if self._held and self._waiting <= LOW_WATER:
            self._held = False
            if self._flow is not None:
                self._flow.resume()

    def __repr__(self) -> str:
        state = "gone" if self.gone else "ended" if self.ended else "started" if self.started else "not started"
        return f"<Reply {state}, {self._waiting} bytes wait>"
