"""The ASGI adapter in a tiny server of our own: what it asks of any server, message by message, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from standpipe.asgi import Application, UncleanEnd, create_app
from standpipe.edge.config import HIGH_WATER
from standpipe.edge.seam import BodyTooLarge, BodyTooSlow
from standpipe.settings import Settings
from tests.edge.rig import refuse
from tests.virtual import run


class Server:
    """One request's side of an ASGI server. `sent` is what the application gave it; it stalls while `open` is unset."""

    def __init__(self, *, method="GET", headers=((b"host", b"x"),), body=(), http_version="1.1", **scope):
        self.scope: dict[str, Any] = {
            "type": "http", "http_version": http_version, "method": method, "path": "/a b", "raw_path": b"/a%20b",
            "query_string": b"q=1", "headers": list(headers), "client": ("192.0.2.7", 5000), **scope,
        }  # fmt: skip
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for piece in body:
            self.put(piece)
        if not body:
            self.put(b"", more=False)
        self.sent: list[dict[str, Any]] = []
        self.received = 0
        self.open = asyncio.Event()
        self.open.set()

    def put(self, piece, *, more=True):
        self.incoming.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def leave(self):
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def receive(self):
        self.received += 1
        return await self.incoming.get()

    async def send(self, message):
        await self.open.wait()
        self.sent.append(message)

    async def serve(self, handler):
        await Application(handler, refuse)(self.scope, self.receive, self.send)

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def body(self):
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def whole(self):
        return self.sent[-1].get("more_body") is False


async def echo(request, reply):
    body = await request.body(1000)
    reply.start(200, [(b"x-path", request.path.encode()), (b"x-peer", str(request.peer).encode())])
    reply.write(body)
    reply.end()


async def never(request, reply):
    pytest.fail("it must not be asked")


def test_a_request_and_its_answer():
    async def scene():
        server = Server(method="POST", body=(b"hel", b"lo"))
        server.put(b"!", more=False)
        await server.serve(echo)
        assert server.status == 200
        assert server.sent[0]["headers"] == [(b"x-path", b"/a b"), (b"x-peer", b"192.0.2.7")]
        assert server.body == b"hello!"
        assert server.whole

    run(scene())


def test_no_header_that_a_proxy_could_have_set_changes_the_peer():
    async def scene():
        server = Server(headers=[(b"host", b"x"), (b"x-forwarded-for", b"198.51.100.1")])
        await server.serve(echo)
        assert (b"x-peer", b"192.0.2.7") in server.sent[0]["headers"]

    run(scene())


def test_a_server_without_a_client_has_no_peer():
    async def scene():
        server = Server(client=None)
        await server.serve(echo)
        assert (b"x-peer", b"None") in server.sent[0]["headers"]

    run(scene())


def test_a_client_that_leaves_cancels_the_handler():
    seen = []

    async def handler(request, reply):
        seen.append(reply)
        await asyncio.sleep(3600)

    async def scene():
        server = Server()
        asyncio.get_running_loop().call_later(5, server.leave)
        await server.serve(handler)
        assert asyncio.get_running_loop().time() == pytest.approx(5)
        assert server.sent == []
        assert seen[0].gone

    run(scene())


def test_a_client_that_leaves_in_its_body_cancels_the_handler():
    async def scene():
        server = Server(method="POST", body=(b"half",))
        server.leave()
        await server.serve(echo)
        assert server.sent == []

    run(scene())


def test_a_server_that_fails_to_receive_or_to_send_has_lost_its_client():
    async def handler(request, reply):
        reply.start(200, [])
        reply.write(b"x")
        await asyncio.sleep(3600)

    async def scene():
        server = Server()

        async def broken(_):
            raise BrokenPipeError

        await Application(handler, refuse)(server.scope, server.receive, broken)

    run(scene())


def test_a_server_that_stops_takes_its_handlers_along():
    seen = []

    async def handler(request, reply):
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append(reply.gone)

    async def scene():
        serving = asyncio.create_task(Server().serve(handler))
        await asyncio.sleep(1)
        serving.cancel()
        await asyncio.wait((serving,))
        assert serving.cancelled()
        assert seen == [True]

    run(scene())


def test_a_body_too_large_is_told_at_once():
    async def handler(request, reply):
        with pytest.raises(BodyTooLarge):
            await request.body(5)
        reply.start(413, [])
        reply.end()

    async def scene():
        for headers in ([(b"host", b"x")], [(b"host", b"x"), (b"content-length", b"6")]):
            server = Server(method="POST", headers=headers, body=(b"123", b"456"))
            await server.serve(handler)
            assert server.status == 413

    run(scene())


@pytest.mark.parametrize(("pause", "expected"), [(0.5, 20.0), (30, 5.0)])
def test_a_slow_body_is_given_up_at_its_end_or_window(pause, expected):
    async def handler(request, reply):
        with pytest.raises(BodyTooSlow):
            await request.body(10**9)
        assert asyncio.get_running_loop().time() == pytest.approx(expected, abs=1)
        reply.start(408, [])
        reply.end()

    async def scene():
        server = Server(method="POST", body=(b"x",))

        async def drip():
            while True:
                await asyncio.sleep(pause)
                server.put(b"x" * 1024)

        dripping = asyncio.create_task(drip())
        await server.serve(handler)
        dripping.cancel()
        await asyncio.wait((dripping,))
        assert server.status == 408

    run(scene())


def test_a_body_that_nobody_wants_is_not_read_on():
    async def handler(request, reply):
        await asyncio.sleep(1)
        assert server.received == 1
        await echo(request, reply)

    async def scene():
        await server.serve(handler)
        assert server.status == 200

    server = Server(method="POST", body=[b"x" * 100] * 5)
    server.put(b"", more=False)
    run(scene())


def test_a_flow_is_held_back_above_64_kib_and_let_go_below():
    moves = []

    class Source:
        def pause(self):
            moves.append("pause")

        def resume(self):
            moves.append("resume")

    async def handler(request, reply):
        reply.start(200, [])
        reply.throttle(Source())
        reply.write(b"x" * HIGH_WATER)
        await asyncio.sleep(1)
        assert moves == []
        reply.write(b"x")
        assert moves == ["pause"]
        server.open.set()
        await asyncio.sleep(1)
        assert moves == ["pause", "resume"]
        reply.end()

    async def scene():
        server.open.clear()
        await server.serve(handler)
        assert server.body == b"x" * (HIGH_WATER + 1)

    server = Server()
    run(scene())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_head_requests_body_is_dropped(method):
    async def handler(request, reply):
        reply.start(200, [(b"content-length", b"4")])
        reply.write(b"body")
        reply.end()

    async def scene():
        server = Server(method=method)
        await server.serve(handler)
        assert server.body == (b"body" if method == "GET" else b"")
        assert server.whole

    run(scene())


def test_half_an_answer_raises_where_the_server_has_no_other_word_for_it():
    async def handler(request, reply):
        reply.start(200, [])
        reply.write(b"half")

    async def scene():
        server = Server()
        with pytest.raises(UncleanEnd):
            await server.serve(handler)
        assert server.body == b"half"
        assert not server.whole

    run(scene())


def test_a_handler_that_fails_first_gives_500_and_is_reported():
    reported = []

    async def handler(request, reply):
        raise LookupError("on purpose")

    async def scene():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        server = Server()
        await server.serve(handler)
        assert (server.status, server.whole) == (500, True)

    run(scene())
    assert [type(error) for error in reported] == [LookupError]


def test_lifespan_is_acknowledged():
    async def scene():
        messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent = []

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message["type"])

        await Application(never, refuse)({"type": "lifespan"}, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    run(scene())


def test_a_websocket_is_declined():
    async def scene():
        server = Server(type="websocket")
        await server.serve(never)
        assert server.sent == [{"type": "websocket.close", "code": 1000}]

    run(scene())


def test_an_unknown_scope_is_an_error():
    async def scene():
        with pytest.raises(NotImplementedError):
            await Server(type="smoke signals").serve(never)

    run(scene())


class Lifespan:
    """The other scope of an ASGI server: its start and its end."""

    def __init__(self, app):
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task = asyncio.ensure_future(app({"type": "lifespan"}, self.incoming.get, self.sent.put))

    async def say(self, kind):
        self.incoming.put_nowait({"type": f"lifespan.{kind}"})
        return await self.sent.get()


def test_a_whole_standpipe_lives_as_long_as_the_server():
    ask = b'{"messages":[{"role":"user","content":"Hello!"}],"stream":false}'
    headers = ((b"host", b"chat.example.org"), (b"content-type", b"application/json"))

    async def scene():
        app = create_app(Settings(engine=("scripted:?tokens=3",), log_level="error"))
        server = Server(method="POST", path="/api", headers=headers, body=())
        with pytest.raises(RuntimeError, match="lifespan"):
            await app(server.scope, server.receive, server.send)
        lifespan = Lifespan(app)
        assert (await lifespan.say("startup"))["type"] == "lifespan.startup.complete"
        server = Server(method="POST", path="/api", headers=headers, body=(b"",))
        server.put(ask, more=False)
        await app(server.scope, server.receive, server.send)
        assert server.status == 200
        assert b'"completion_tokens":3' in server.body
        assert (await lifespan.say("shutdown"))["type"] == "lifespan.shutdown.complete"
        await lifespan.task

    run(scene())


def test_what_is_wrong_at_the_start_is_told_to_the_server():
    async def scene():
        lifespan = Lifespan(create_app(Settings(engine=("nonsense",), log_level="error")))
        told = await lifespan.say("startup")
        assert told["type"] == "lifespan.startup.failed"
        assert "an engine must be one of" in told["message"]
        await lifespan.task

    run(scene())
