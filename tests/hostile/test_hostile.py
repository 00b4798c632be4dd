"""What strangers have sent, played over a real socket against the whole server; see README.md."""

from __future__ import annotations

import asyncio
import json

import pytest
import uvloop

from standpipe.edge.config import EdgeConfig
from standpipe.edge.listen import open_tcp
from standpipe.edge.server import Server
from standpipe.engines.scripted.script import Script
from standpipe.policy.identity import Trust
from tests.edge.rig import Client
from tests.hostile.corpus import cases, raw, spelled
from tests.serve.driver import Tap

CHAT_PATHS = ("/api", "/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat", "/api/generate")
LAST = b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
POLITE = b'{"messages":[{"role":"user","content":"hello"}],"stream":false,"max_tokens":3}'
QUICK = EdgeConfig(
    first_byte_timeout=0.1, header_timeout=0.1, body_timeout=0.4, body_window=0.2, idle_timeout=0.1, linger=0.1
)
PATIENCE = 10.0
"""Real seconds after which a scene hangs. Nothing waits for it."""

SMUGGLING, REQUESTS, HEADERS, BODIES = map(cases, ("smuggling", "requests", "headers", "bodies"))


class House:
    """A whole server on a port of its own, and a look at what became of it."""

    def __init__(self, tap, server, port):
        self.tap = tap
        self.server = server
        self.port = port
        self.failures = []

    async def connect(self):
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))

    async def answers(self, data):
        """Every answer to these bytes, until the server has closed the connection."""
        client = await self.connect()
        found = []
        try:
            client.send(data)
            while True:
                found.append(await client.answer())
        except (ConnectionError, asyncio.IncompleteReadError):
            return found
        finally:
            client.leave()

    async def post(self, path, body, lines=(), host="localhost"):
        head = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", "Connection: close", *lines]
        (answer,) = await self.answers("\r\n".join([*head, "", ""]).encode("latin-1") + body)
        return answer

    async def stands(self):
        """Whether a polite stranger is served, and nothing was left behind or went wrong."""
        answer = await self.post("/api", POLITE)
        assert answer.status == 200, answer
        assert not self.failures
        assert not [line for line in self.tap.lines if line["level"] == "error"]
        self.tap.log.truncate(0)
        self.tap.log.seek(0)


@pytest.fixture(scope="module")
def play():
    """Plays a scene against one server, which has to stand afterwards."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def start():
            tap = Tap(Script(tokens=3), pace_interval=0)
            await tap.__aenter__()
            guard = tap.app.guard
            server = Server(guard, guard.refuse, QUICK, Trust())
            (sock,) = sockets = open_tcp("127.0.0.1", 0)
            server.start(sockets)
            house = House(tap, server, sock.getsockname()[1])
            asyncio.get_running_loop().set_exception_handler(lambda _, context: house.failures.append(context))
            return house

        house = runner.run(start())

        def play(scene):
            async def whole():
                async with asyncio.timeout(PATIENCE):
                    await scene(house)
                    await house.stands()

            runner.run(whole())

        yield play

        async def stop():
            await house.server.abort()
            await house.tap.__aexit__(None, None, None)
            assert house.server.limiter.total == 0

        runner.run(stop())


def sound(answer):
    """What holds for every answer: no 500, and an error that a program can read and an operator can find."""
    assert answer.whole
    assert answer.status != 500, answer.body
    if answer.status >= 400:
        error = json.loads(answer.body)
        assert error["error"]
        assert error["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(play, name):
    case = REQUESTS[name]

    async def scene(house):
        answers = await house.answers(raw(case["send"]) + (b"" if case.get("alone") else LAST))
        for answer in answers:
            sound(answer)
        statuses = [answer.status for answer in answers]
        if "all" in case:
            assert statuses
            assert set(statuses) == {case["all"]}
        else:
            assert statuses == case["status"]

    play(scene)


@pytest.mark.parametrize("name", SMUGGLING)
def test_smuggling(play, name):
    case = SMUGGLING[name]
    head = (
        b"" if case["at"] == "head" else b"POST /api HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    )

    async def scene(house):
        (answer,) = await house.answers(head + raw(case["send"]) + LAST)
        sound(answer)
        assert answer.status in case.get("status", [400])

    play(scene)


@pytest.mark.parametrize("name", HEADERS)
def test_headers(play, name):
    case = HEADERS[name]

    async def scene(house):
        lines = [spelled(line) for line in case.get("lines", ())]
        answer = await house.post("/api", POLITE, lines, case.get("host", "localhost"))
        sound(answer)
        assert answer.status == case["status"]
        for header, value in case.get("answers", {}).items():
            assert answer.headers[header] == value
        if "secret" in case:
            assert case["secret"] not in house.tap.log.getvalue()
            assert case["secret"].encode() not in answer.body
        if answer.status == 200:  # whatever was said of the client, it is who the socket says
            head = "\r\n".join(["GET /api/limits HTTP/1.1", "Host: localhost", "Connection: close", *lines, "", ""])
            (limits,) = await house.answers(head.encode("latin-1"))
            assert json.loads(limits.body)["client"]["seen_in"] == "peer"

    play(scene)


@pytest.mark.parametrize(
    ("name", "path"), [(name, path) for name in BODIES for path in BODIES[name].get("paths", CHAT_PATHS)]
)
def test_bodies(play, name, path):
    case = BODIES[name]

    async def scene(house):
        body = bytes.fromhex(case["hex"]) if "hex" in case else spelled(case["body"]).encode()
        answer = await house.post(path, body)
        sound(answer)
        assert answer.status == case["status"], answer.body
        if "param" in case:
            assert json.loads(answer.body)["error"]["param"].startswith(case["param"])

    play(scene)
