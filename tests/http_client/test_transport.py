"""One connection over a pretended socket, in virtual time: every byte and every second is chosen by the test."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.http_client.transport import (
    LINGER,
    LINGER_BYTES,
    Connection,
    ConnectionBroken,
)
from tests.virtual import run

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD_LIMIT = 65_536


class Socket:
    """A transport that is told what arrives."""

    def __init__(self) -> None:
        self.written = b""
        self.unsent = 0
        self.paused = False
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        assert not self.closed
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert not self.closed
        assert self.paused
        self.paused = False

    def abort(self) -> None:
        self.closed = True


class Scene:
    """A connection, its socket, and what its receiver got."""

    def __init__(self) -> None:
        self.socket = Socket()
        self.lost: list[Connection] = []
        self.connection = Connection(asyncio.get_running_loop(), HEAD_LIMIT, self.lost.append)
        self.connection.connection_made(self.socket)  # type: ignore[arg-type]  # as much of a transport as is used
        self.heads: list[tuple[int, dict[bytes, bytes]]] = []
        self.bodies: list[bytes] = []
        self.enough_after: int | None = None

    def on_head(self, status, headers, flow) -> None:
        assert flow is self.connection
        self.heads.append((status, dict(headers)))

    def on_body(self, data) -> bool:
        self.bodies.append(data)
        return self.enough_after is not None and len(self.bodies) >= self.enough_after

    def begin(self) -> asyncio.Task[None]:
        return asyncio.ensure_future(self.connection.exchange(b"request", self.on_head, self.on_body))

    async def begun(self) -> asyncio.Task[None]:
        task = self.begin()
        await asyncio.sleep(0)
        return task

    def arrives(self, data: bytes) -> None:
        assert not self.socket.paused
        self.connection.data_received(data)

    def closes(self, error: Exception | None = None) -> None:
        if error is None:
            self.connection.eof_received()
        self.connection.connection_lost(error)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_one_read_of_the_socket_is_one_call_of_the_receiver():
    async def scene() -> Any:
        it = Scene()
        task = await it.begun()
        assert it.socket.written == b"request"
        it.arrives(CHUNKED + b"1\r\na\r\n2\r\nbc\r\n")
        assert it.heads == [(200, {b"transfer-encoding": b"chunked"})]
        it.arrives(b"1\r\nd\r\n0\r\n\r\n")
        await task
        assert it.bodies == [b"abc", b"d"]
        assert it.connection.reusable
        assert not it.socket.closed

    run(scene())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 200), max_size=30), st.sampled_from(["sized", "chunked", "until close"]))
def test_any_split_pushes_the_same_head_once_and_the_same_body(places, framing):
    body = b"The quick brown fox jumps over the lazy dog."
    data = {
        "sized": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        "chunked": CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(w), w) for w in (body[:9], body[9:])) + b"0\r\n\r\n",
        "until close": b"HTTP/1.1 200 OK\r\n\r\n" + body,
    }[framing]

    async def scene() -> Any:
        it = Scene()
        task = await it.begun()
        edges = sorted({0, len(data), *(place % len(data) for place in places)})
        for start, stop in pairwise(edges):
            it.arrives(data[start:stop])
        if framing == "until close":
            it.closes()
        await task
        assert [status for status, _ in it.heads] == [200]
        assert b"".join(it.bodies) == body
        assert all(it.bodies)
        assert it.connection.reusable == (framing != "until close")

    run(scene())


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 2", SIZED, SIZED + b"hell", CHUNKED + b"5\r\nhello\r\n"])
@pytest.mark.parametrize("how", ["end", "reset"])
def test_an_answer_that_is_cut_breaks_and_tells_whether_it_had_begun(sent, how):
    async def scene() -> Any:
        it = Scene()
        task = await it.begun()
        if sent:
            it.arrives(sent)
        it.closes(ConnectionResetError("reset by peer") if how == "reset" else None)
        with pytest.raises(ConnectionBroken) as caught:
            await task
        assert caught.value.begun == bool(sent)
        assert it.lost == [it.connection]
        assert not it.connection.open

    run(scene())


def test_a_body_until_close_that_is_reset_is_not_whole():
    async def scene() -> Any:
        it = Scene()
        task = await it.begun()
        it.arrives(b"HTTP/1.1 200 OK\r\n\r\nhello")
        it.closes(ConnectionResetError("reset by peer"))
        with pytest.raises(ConnectionBroken):
            await task

    run(scene())


def test_nonsense_breaks_and_closes():
    async def scene() -> Any:
        it = Scene()
        task = await it.begun()
        it.arrives(b"SSH-2.0-OpenSSH\r\n")
        assert it.socket.closed
        with pytest.raises(ConnectionBroken, match="malformed"):
            await task

    run(scene())


@pytest.mark.parametrize("where", ["head", "body"])
def test_what_the_receiver_raises_closes_the_connection_and_comes_out(where):
    class Mine(Exception):
        pass

    async def scene() -> Any:
        it = Scene()

        def fail(*_):
            raise Mine

        on_head, on_body = (fail, it.on_body) if where == "head" else (it.on_head, fail)
        task = asyncio.ensure_future(it.connection.exchange(b"request", on_head, on_body))
        await asyncio.sleep(0)
        it.arrives(SIZED + b"hello")
        assert it.socket.closed
        with pytest.raises(Mine):
            await task

    run(scene())


def test_cancelling_closes_the_socket_and_delivers_nothing_more():
    async def scene() -> Any:
        it = Scene()
        task = await it.begun()
        it.arrives(SIZED + b"he")
        task.cancel()
        it.arrives(b"llo")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert it.socket.closed
        assert it.bodies == [b"he"]
        assert not it.connection.reusable

    run(scene())


def test_cancelling_just_after_the_whole_answer_came_closes_the_connection_too():
    async def scene() -> Any:
        it = Scene()
        task = await it.begun()
        it.arrives(SIZED + b"hello")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert it.socket.closed

    run(scene())


def test_a_paused_connection_reads_on_once_it_is_resumed():
    async def scene() -> Any:
        it = Scene()
        task = await it.begun()
        it.arrives(CHUNKED + b"1\r\na\r\n")
        it.connection.pause()
        it.connection.pause()
        paused = [it.socket.paused]
        await asyncio.sleep(1000)
        it.connection.resume()
        it.connection.resume()
        paused.append(it.socket.paused)
        it.arrives(b"1\r\nb\r\n0\r\n\r\n")
        await task
        assert it.bodies == [b"a", b"b"]
        return paused

    assert run(scene()) == [True, False]


def test_a_receiver_that_pauses_at_the_last_byte_does_not_leave_a_paused_connection():
    async def scene() -> Any:
        it = Scene()
        it.on_body = lambda data: it.connection.pause() or False  # type: ignore[func-returns-value,method-assign]
        task = await it.begun()
        it.arrives(SIZED + b"hello")
        await task
        assert it.connection.reusable
        assert not it.socket.paused
        it.connection.pause()  # a flow that was held for too long does nothing
        assert not it.socket.paused

    run(scene())


def test_pausing_a_closed_connection_does_nothing():
    async def scene() -> Any:
        it = Scene()
        task = await it.begun()
        it.arrives(CHUNKED + b"1\r\na\r\n")
        it.connection.pause()
        it.connection.abort()
        it.connection.resume()
        it.connection.pause()
        with pytest.raises(ConnectionBroken):
            await task

    run(scene())


def test_a_receiver_with_enough_still_gets_a_reusable_connection_when_the_end_comes_soon():
    async def scene() -> Any:
        it = Scene()
        it.enough_after = 1
        task = await it.begun()
        it.arrives(CHUNKED + b"1\r\na\r\n")
        await asyncio.sleep(LINGER / 2)
        it.arrives(b"0\r\n\r\n")
        await task
        assert it.connection.reusable
        it.enough_after = None
        task = await it.begun()
        await asyncio.sleep(LINGER * 2)  # nothing of the lingering is left to cut this one short
        it.arrives(SIZED + b"hello")
        await task

    run(scene())


@pytest.mark.parametrize("end", ["silence", "end", "reset", "nonsense"])
def test_a_receiver_with_enough_suffers_nothing_from_how_the_connection_ends(end):
    async def scene() -> Any:
        it = Scene()
        it.enough_after = 1
        task = await it.begun()
        it.arrives(CHUNKED + b"1\r\na\r\n")
        match end:
            case "end":
                it.closes()
            case "reset":
                it.closes(ConnectionResetError())
            case "nonsense":
                it.arrives(b"nonsense")
        await task
        assert not it.connection.reusable
        assert it.socket.closed
        assert it.bodies == [b"a"]
        return now()

    assert run(scene()) == (pytest.approx(LINGER) if end == "silence" else 0)


def test_an_endless_answer_whose_receiver_has_enough_is_not_read_for_long():
    async def scene() -> Any:
        it = Scene()
        it.enough_after = 1
        task = await it.begun()
        it.arrives(CHUNKED + b"1\r\na\r\n")
        read = 0
        while not it.socket.closed:
            it.arrives(b"2000\r\n" + b"x" * 8192 + b"\r\n")
            read += 8192
        await task
        assert it.bodies == [b"a"]
        return now(), read

    assert run(scene()) == (0, LINGER_BYTES + 8192)


@pytest.mark.parametrize("engine", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"stray"])
def test_bytes_that_nobody_asked_for_close_a_kept_connection(engine):
    async def scene() -> Any:
        it = Scene()
        task = await it.begun()
        it.arrives(SIZED + b"hello")
        await task
        it.arrives(engine)
        assert it.socket.closed
        assert not it.connection.reusable

    run(scene())


def test_an_answer_that_came_before_the_request_was_sent_ends_the_connection():
    async def scene() -> Any:
        it = Scene()
        it.socket.unsent = 1
        task = await it.begun()
        it.arrives(SIZED + b"hello")
        await task
        assert it.socket.closed

    run(scene())


def test_a_closed_connection_refuses_an_exchange_as_not_begun():
    async def scene() -> Any:
        it = Scene()
        it.closes()
        with pytest.raises(ConnectionBroken) as caught:
            await it.begin()
        assert not caught.value.begun

    run(scene())


def test_a_closed_connection_leaves_no_timer():
    async def scene() -> Any:
        it = Scene()
        task = await it.begun()
        it.arrives(SIZED + b"hello")
        await task
        it.connection.abort()
        loop = asyncio.get_running_loop()
        return [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]

    assert run(scene()) == []


def test_it_tells_its_state():
    async def scene() -> Any:
        it = Scene()
        states = [repr(it.connection).split()[1]]
        task = await it.begun()
        states.append(repr(it.connection).split()[1])
        it.arrives(CHUNKED)
        it.connection.pause()
        states.append(repr(it.connection).split()[1])
        it.connection.abort()
        states.append(repr(it.connection).split()[1])
        with pytest.raises(ConnectionBroken):
            await task
        return states

    assert run(scene()) == ["kept", "busy", "paused", "closed"]
