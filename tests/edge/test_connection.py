"""One connection on a transport that only writes down, in virtual time: what reaches the socket, when, at what cost."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import Any

import pytest

from standpipe.edge.config import HIGH_WATER, MINIMUM_RATE, EdgeConfig
from standpipe.edge.server import Server
from standpipe.policy.identity import Trust
from tests.edge.fuzzing import Transport
from tests.edge.rig import GET, refuse
from tests.virtual import run


class Notebook(Transport):
    """Remembers each write, and pretends that as much waits as the test says."""

    def __init__(self):
        super().__init__()
        self.writes: list[bytes] = []
        self.waiting = 0
        self.aborted = False
        self.connection: Any = None

    def write(self, data):
        super().write(data)
        self.writes.append(data)

    def abort(self):
        self.closing = self.aborted = True
        asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def get_write_buffer_size(self):
        return self.waiting


class Scene:
    """A server with one connection."""

    def __init__(self, handler, config=None):
        self.server = Server(handler, refuse, config or EdgeConfig(), Trust())
        self.connection, self.transport = self.connect()

    def connect(self) -> tuple[Any, Any]:
        connection: Any = self.server.protocol(self.server.limiter.lease("192.0.2.7"))
        transport = Notebook()
        transport.connection = connection
        connection.connection_made(transport)
        return connection, transport

    async def send(self, data):
        self.connection.data_received(data)
        await turns()

    async def close(self):
        if not self.transport.aborted:
            self.connection.connection_lost(None)
        await turns()
        assert not self.server.statistics().phases


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


async def sized(request, reply):
    reply.start(200, [(b"content-length", b"4")])
    reply.write(b"body")
    reply.end()


def test_a_sized_answer_is_one_write():
    async def play():
        scene = Scene(sized)
        await scene.send(GET)
        (answer,) = scene.transport.writes
        assert answer.endswith(b"\r\n\r\nbody")
        await scene.close()

    run(play())


def test_a_stream_writes_once_per_piece_and_the_head_rides_with_the_first():
    async def handler(request, reply):
        reply.start(200, [])
        for piece in (b"first", b"second"):
            reply.write(piece)
            await asyncio.sleep(0)
        reply.end()

    async def play():
        scene = Scene(handler)
        await scene.send(GET)
        first, *rest = scene.transport.writes
        assert first.endswith(b"\r\n\r\n5\r\nfirst\r\n")
        assert rest == [b"6\r\nsecond\r\n", b"0\r\n\r\n"]
        await scene.close()

    run(play())


def test_a_head_without_a_body_yet_goes_out_by_the_next_turn():
    async def handler(request, reply):
        reply.start(200, [])
        await asyncio.sleep(3600)

    async def play():
        scene = Scene(handler)
        await scene.send(GET)
        assert len(scene.transport.writes) == 1
        await scene.close()

    run(play())


def streaming(piece, pause):
    async def handler(request, reply):
        reply.start(200, [])
        while True:
            reply.write(piece)
            await asyncio.sleep(pause)

    return handler


@pytest.mark.parametrize(("rate", "survives"), [(MINIMUM_RATE + 100, True), (MINIMUM_RATE - 100, False)])
def test_a_reader_of_a_backlog_must_take_the_least_rate(rate, survives):
    async def play():
        scene = Scene(streaming(b"x" * 1000, 1))
        await scene.send(GET)
        scene.transport.waiting = HIGH_WATER + 1
        scene.connection.pause_writing()
        for _ in range(120):
            # As much comes on top of the backlog as the reader takes, and a little less or more.
            await asyncio.sleep(1)
            scene.transport.waiting += 1007 - rate
        assert scene.transport.aborted is not survives
        assert scene.server.statistics().overdue == ({} if survives else {"write_stall": 1})
        await scene.close()

    run(play())


def test_a_backlog_outlives_its_answer_as_long_as_it_is_read():
    async def play():
        scene = Scene(sized, EdgeConfig(idle_timeout=10))
        scene.transport.waiting = 200_000
        scene.connection.pause_writing()
        await scene.send(GET)
        for _ in range(60):
            await asyncio.sleep(1)
            scene.transport.waiting -= 2000
        assert not scene.transport.closing
        scene.connection.resume_writing()
        await asyncio.sleep(9)
        assert not scene.transport.closing
        scene.transport.waiting = 5000
        await asyncio.sleep(2)
        assert scene.transport.closing
        assert not scene.transport.aborted
        await asyncio.sleep(35)
        assert scene.transport.aborted, "what is not read after the close is cut, too"
        await scene.close()

    run(play())


def test_no_request_is_taken_up_while_the_former_answer_waits_for_its_reader():
    async def play():
        scene = Scene(sized)
        scene.connection.pause_writing()
        await scene.send(GET + GET)
        await scene.send(GET)
        assert scene.server.statistics().requests == 1
        scene.connection.resume_writing()
        await turns()
        assert scene.server.statistics().requests == 3
        scene.connection.pause_writing()
        await scene.send(GET[:10])
        scene.connection.resume_writing()
        assert scene.connection.phase == "head"
        await scene.send(GET[10:])
        assert scene.server.statistics().requests == 4
        await scene.close()

    run(play())


def test_who_sends_too_much_behind_an_unread_answer_is_closed_once_that_is_read():
    async def play():
        scene = Scene(sized, EdgeConfig(read_ahead=1000))
        scene.connection.pause_writing()
        await scene.send(GET)
        await scene.send(GET * 100)
        scene.connection.resume_writing()
        await turns()
        assert scene.server.statistics().requests == 1
        assert scene.transport.closing
        await scene.close()

    run(play())


def test_what_is_thrown_away_is_not_kept():
    async def handler(request, reply):
        await asyncio.sleep(3600)

    async def play():
        scene = Scene(handler, EdgeConfig(read_ahead=1000))
        await scene.send(GET)
        for _ in range(100):
            await scene.send(b"x" * 900)
            assert scene.connection._reader.waiting <= 1000
        await scene.close()

    run(play())


def test_a_quiet_server_sets_no_timer():
    async def play():
        scene = Scene(sized)
        await scene.close()
        await asyncio.sleep(10)
        before = asyncio.get_running_loop().time()
        assert before == pytest.approx(10)

    run(play())


def test_an_idle_connection_costs_little_memory():
    count = 500

    async def play():
        scene = Scene(sized)
        await scene.send(GET)
        gc.collect()
        tracemalloc.start()
        kept = [scene.connect() for _ in range(count)]
        for connection, _ in kept:
            connection.data_received(GET)
        await turns()
        for _, transport in kept:
            transport.writes.clear()
            transport.written = b""
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for connection, _ in kept:
            connection.connection_lost(None)
        await scene.close()
        return size / count

    assert run(play()) < 4096
