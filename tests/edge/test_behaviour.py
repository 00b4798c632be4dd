"""What a handler and its client see of the edge, over real sockets with raw bytes, on both loops."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from standpipe.edge.config import EdgeConfig
from standpipe.edge.intake import Intake
from standpipe.edge.seam import BodyTooLarge, BodyTooSlow
from tests.edge.rig import GET, HOST, post, run, until

SOON = EdgeConfig(body_timeout=0.05, body_window=0.02, write_timeout=0.05, linger=0.05)


async def hello(request, reply):
    """Say hello to the body, or to nobody."""
    body = b"hello " + (await request.body(100_000) or b"nobody")
    reply.start(200, [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))])
    reply.write(body)
    reply.end()


async def parts(request, reply):
    """Stream three parts, one per turn of the loop."""
    reply.start(200, [(b"content-type", b"text/event-stream")])
    for part in (b"one ", b"two ", b"three"):
        reply.write(part)
        await asyncio.sleep(0)
    reply.end()


def never(why="it must not be asked"):
    async def handler(request, reply):
        pytest.fail(why)

    return handler


class Witness:
    """A handler that waits, and sees what becomes of it."""

    def __init__(self, *, begin=b""):
        self.begin = begin
        self.reply: Any = None
        self.cancelled = False
        self.done = False

    async def __call__(self, request, reply):
        self.reply = reply
        try:
            if self.begin:
                reply.start(200, [])
                reply.write(self.begin)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            self.done = True


# Answers


def test_a_sized_answer_has_a_date_and_no_server_header(loop):
    async def scene(rig):
        answer = await (await rig.connect()).ask(GET)
        assert answer.status == 200
        assert answer.body == b"hello nobody"
        assert answer.headers.keys() == {"content-type", "content-length", "date"}
        assert answer.headers["date"].endswith(" GMT")

    run(loop, hello, scene)


def test_an_answer_of_unknown_length_is_chunked(loop):
    async def scene(rig):
        answer = await (await rig.connect()).ask(GET)
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.body == b"one two three"

    run(loop, parts, scene)


def test_each_part_arrives_before_the_next_one_is_written(loop):
    told: list[bytes] = []

    async def handler(request, reply):
        reply.start(200, [])
        for part in (b"one", b"two"):
            reply.write(part)
            await until(lambda expected=part: told == [expected])
            told.clear()
        reply.end()

    async def scene(rig):
        client = await rig.connect()
        client.send(GET)
        await client.head()
        async for chunk in client.chunks():
            told.append(chunk)  # noqa: PERF401  # the handler looks at it in between

    run(loop, handler, scene)


def test_a_head_goes_out_before_there_is_a_body(loop):
    async def handler(request, reply):
        reply.start(200, [])
        await request.body(10)
        await asyncio.sleep(0.02)
        reply.end()

    async def scene(rig):
        client = await rig.connect()
        client.send(GET)
        status, _ = await client.head()
        assert status == 200
        assert not [chunk async for chunk in client.chunks()]

    run(loop, handler, scene)


def test_an_empty_write_does_not_end_a_chunked_body(loop):
    async def handler(request, reply):
        reply.start(200, [])
        reply.write(b"")
        reply.write(b"all of it")
        reply.end()

    async def scene(rig):
        assert (await (await rig.connect()).ask(GET)).body == b"all of it"

    run(loop, handler, scene)


def test_a_head_request_gets_the_head_alone_and_the_connection_lives_on(loop):
    async def scene(rig):
        client = await rig.connect()
        client.send(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n" + GET)
        answer = await client.answer(bodiless=True)
        assert answer.headers["content-length"] == "12"
        assert (await client.answer()).body == b"hello nobody"

    run(loop, hello, scene)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_no_framing(loop, status):
    async def handler(request, reply):
        reply.start(status, [(b"etag", b'"x"')])
        reply.end()

    async def scene(rig):
        client = await rig.connect()
        for _ in range(2):
            answer = await client.ask(GET)
            assert answer.status == status
            assert not {"transfer-encoding", "content-length"} & answer.headers.keys()

    run(loop, handler, scene)


def test_a_large_answer_arrives_whole_at_a_slow_but_willing_reader(loop):
    whole = bytes(range(256)) * 4096

    async def handler(request, reply):
        reply.start(200, [(b"content-length", b"%d" % len(whole))])
        reply.write(whole)
        reply.end()

    async def scene(rig):
        client = await rig.narrow()
        client.transport.resume_reading()
        assert (await client.ask(GET)).body == whole

    run(loop, handler, scene)


# Requests


def test_a_request_says_what_was_sent(loop):
    seen = []

    async def handler(request, reply):
        seen.append(request)
        await hello(request, reply)

    async def scene(rig):
        client = await rig.connect()
        await client.ask(
            b"PUT /a%20b/%C3%A9?x=%20&y HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nx-two:  2 \t\r\n"
            b"X-Empty:\r\nAuthorization: secret\r\n\r\n"
        )

    run(loop, handler, scene)
    (request,) = seen
    assert (request.method, request.path, request.query) == ("PUT", "/a b/é", "x=%20&y")
    assert request.headers.all(b"x-two") == ["1", "2"]
    assert request.headers.get(b"x-empty") == ""
    assert request.headers.get(b"x-none") is None
    assert request.peer == "127.0.0.1"
    assert "secret" not in repr(request.headers)


@pytest.mark.parametrize("at_once", [True, False])
def test_bodies_arrive_sized_and_chunked(loop, at_once):
    sized = post(b"sized")
    chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"3;name=value\r\nchu\r\n4\r\nnked\r\n0\r\nTrailer: ignored\r\n\r\n"

    async def scene(rig):
        client = await rig.connect()
        for request, name in ((sized, b"sized"), (chunked, b"chunked"), (sized, b"sized")):
            for piece in (request,) if at_once else (request[i : i + 1] for i in range(len(request))):
                client.send(piece)
                if not at_once:
                    await asyncio.sleep(0)
            assert (await client.answer()).body == b"hello " + name

    run(loop, hello, scene)


def test_a_body_that_nobody_wanted_does_not_become_the_next_request(loop):
    async def handler(request, reply):
        reply.start(200, [(b"content-length", b"2")])
        reply.write(b"ok")
        reply.end()

    async def scene(rig):
        client = await rig.connect()
        smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        client.send(post(smuggled) + GET)
        assert (await client.answer()).body == b"ok"
        assert (await client.answer()).body == b"ok"

    run(loop, handler, scene)


def test_pipelined_requests_are_answered_in_order_one_at_a_time(loop):
    running = []
    most = []

    async def handler(request, reply):
        running.append(request.path)
        most.append(len(running))
        await asyncio.sleep(0.005)
        running.remove(request.path)
        body = request.path.encode() + await request.body(100)
        reply.start(200, [])
        reply.write(body)
        reply.end()

    async def scene(rig):
        client = await rig.connect()
        client.send(
            b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"
            b"POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na"
            b"POST /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n"
            b"GET /4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert [(await client.answer()).body for _ in range(4)] == [b"/1", b"/2a", b"/3b", b"/4"]
        assert await client.rest() == b""
        assert max(most) == 1

    run(loop, handler, scene)


def test_an_upgrade_that_nobody_offers_is_ignored_body_and_all(loop):
    async def scene(rig):
        client = await rig.connect()
        lines = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
        assert (await client.ask(post(b"Java", *lines))).body == b"hello Java"

    run(loop, hello, scene)


# Expect


def test_an_expectant_client_is_told_to_continue_once_the_body_is_wanted(loop):
    async def scene(rig):
        client = await rig.connect()
        head, body = post(b"deadline", b"Expect: 100-continue").split(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        assert (await client.answer()).status == 100
        assert (await client.ask(body)).body == b"hello deadline"

    run(loop, hello, scene)


def test_an_expectant_client_is_not_told_to_continue_when_its_body_is_declined(loop):
    async def handler(request, reply):
        reply.start(403, [(b"content-length", b"0")])
        reply.end()

    async def scene(rig):
        client = await rig.connect()
        head, _ = post(b"deadline", b"Expect: 100-continue").split(b"\r\n\r\n")
        assert (await client.ask(head + b"\r\n\r\n")).status == 403

    run(loop, handler, scene)


def test_a_client_that_does_not_wait_is_not_told_to_continue(loop):
    async def scene(rig):
        client = await rig.connect()
        answer = await client.ask(post(b"haste", b"Expect: 100-continue"))
        assert (answer.status, answer.body) == (200, b"hello haste")

    run(loop, hello, scene)


def test_an_unknown_expectation_fails(loop):
    async def scene(rig):
        client = await rig.connect()
        client.send(post(b"", b"Expect: miracles"))
        assert (await client.answer()).status == 417
        await client.rest()

    run(loop, never(), scene)


# Body limits


async def careful(request, reply):
    try:
        body = await request.body(1000)
    except BodyTooLarge:
        status, body = 413, b"too large"
    except BodyTooSlow:
        status, body = 408, b"too slow"
    else:
        status = 200
    reply.start(status, [(b"content-length", b"%d" % len(body))])
    reply.write(body)
    reply.end()


def test_a_body_of_exactly_the_limit_is_taken(loop):
    async def scene(rig):
        assert (await (await rig.connect()).ask(post(b"x" * 1000))).body == b"x" * 1000

    run(loop, careful, scene)


def test_a_body_that_is_declared_too_large_is_declined_before_it_comes(loop):
    async def scene(rig):
        client = await rig.connect()
        answer = await client.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n")
        assert (answer.status, answer.body) == (413, b"too large")

    run(loop, careful, scene)


def test_a_body_is_counted_as_received_and_its_413_can_be_read(loop):
    async def scene(rig):
        client = await rig.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(40):
            client.send(b"64\r\n" + b"x" * 100 + b"\r\n")
        assert (await client.answer()).status == 413

    run(loop, careful, scene, config=SOON)


def test_who_takes_more_gets_what_was_too_much_at_first(loop):
    async def handler(request, reply):
        with pytest.raises(BodyTooLarge):
            await request.body(10)
        await asyncio.sleep(0.005)
        assert await request.body(10_000_000) == b"x" * 1_000_100
        reply.start(204, [])
        reply.end()

    async def scene(rig):
        client = await rig.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await until(lambda: rig.server.limiter.total)
        await asyncio.sleep(0.005)
        client.send(b"64\r\n" + b"x" * 100 + b"\r\n")
        await asyncio.sleep(0.005)
        client.send(b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n0\r\n\r\n")
        assert (await client.answer()).status == 204

    run(loop, handler, scene)


def test_a_body_that_was_thrown_away_never_comes_back_as_whole():
    async def scene():
        intake = Intake(EdgeConfig(), None, lambda: None)
        asyncio.get_running_loop().call_soon(intake.take, b"x" * 20, 20)
        with pytest.raises(BodyTooLarge):
            await intake.body(10)
        intake.take(b"x" * 20, 20)
        intake.end()
        with pytest.raises(BodyTooLarge):
            await intake.body(10_000)

    asyncio.run(scene())


def test_a_body_may_be_read_twice(loop):
    async def handler(request, reply):
        assert await request.body(5) == await request.body(100) == b"twice"
        await hello(request, reply)

    async def scene(rig):
        assert (await (await rig.connect()).ask(post(b"twice"))).body == b"hello twice"

    run(loop, handler, scene)


def test_what_is_forgotten_is_gone_and_the_next_request_comes_whole(loop):
    async def handler(request, reply):
        body = await request.body(100)
        assert request.headers.get(b"host") == "x"
        request.forget()
        assert request.headers.get(b"host") is None
        assert await request.body(100) == b""
        reply.start(200, [(b"content-length", str(len(body)).encode())])
        reply.write(body)
        reply.end()

    async def scene(rig):
        client = await rig.connect()
        for body in (b"first", b"second"):
            client.send(post(body))
            assert (await client.answer()).body == body

    run(loop, handler, scene)


def test_a_body_that_takes_too_long_in_all_is_given_up(loop):
    async def scene(rig):
        client = await rig.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n")
        sending = asyncio.create_task(drip(client, b"x" * 40, 0.005))
        assert (await client.answer()).status == 408
        sending.cancel()

    run(loop, careful, scene, config=EdgeConfig(body_timeout=0.05, body_window=0.02))


def test_a_body_that_trickles_is_given_up_long_before(loop):
    async def scene(rig):
        client = await rig.connect()
        begun = asyncio.get_running_loop().time()
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nx")
        assert (await client.answer()).status == 408
        assert asyncio.get_running_loop().time() - begun < 4

    run(loop, careful, scene, config=EdgeConfig(body_timeout=20, body_window=0.02))


async def drip(client, piece, pause):
    while True:
        client.send(piece)
        await asyncio.sleep(pause)


# Connections


def test_a_connection_serves_many_requests(loop):
    async def scene(rig):
        client = await rig.connect()
        for _ in range(20):
            assert (await client.ask(GET)).status == 200
        assert rig.server.limiter.total == 1

    run(loop, hello, scene)


@pytest.mark.parametrize("line", [b"Connection: close", b"Connection: foo, CLOSE", b"Connection: keep-alive, close"])
def test_close_is_honoured_and_confirmed(loop, line):
    async def scene(rig):
        client = await rig.connect()
        answer = await client.ask(GET[:-2] + line + b"\r\n\r\n")
        assert answer.headers["connection"] == "close"
        assert await client.rest() == b""

    run(loop, hello, scene)


def test_http_1_0_closes_and_gets_no_chunks(loop):
    async def scene(rig):
        client = await rig.connect()
        answer = await client.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert answer.headers["connection"] == "close"
        assert "transfer-encoding" not in answer.headers
        assert answer.body == b"one two three"

    run(loop, parts, scene)


def test_http_1_0_closes_at_the_end_of_what_cannot_be_framed_even_if_asked_to_stay(loop):
    async def scene(rig):
        client = await rig.connect()
        answer = await client.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert (answer.headers["connection"], answer.body) == ("close", b"one two three")

    run(loop, parts, scene)


def test_no_line_break_gets_into_a_head(loop):
    async def handler(request, reply):
        reply.start(200, [(b"x-echo", request.query.encode() + b"\r\nset-cookie: x")])

    async def scene(rig):
        answer = await (await rig.connect()).ask(GET)
        assert (answer.status, "set-cookie" in answer.headers) == (500, False)

    run(loop, handler, scene, failures=(ValueError,))


# Leaving


def test_a_client_that_leaves_before_the_first_byte_cancels_its_handler(loop):
    witness = Witness()

    async def scene(rig):
        client = await rig.connect()
        client.send(GET)
        await until(lambda: witness.reply)
        client.leave()
        await until(lambda: witness.done)
        assert witness.cancelled
        assert witness.reply.gone

    run(loop, witness, scene)


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
def test_a_client_that_leaves_in_mid_stream_cancels_its_handler(loop, how):
    witness = Witness(begin=b"so far")

    async def scene(rig):
        client = await rig.connect()
        client.send(GET)
        await client.head()
        if how == "half-close":
            client.writer.write_eof()
        elif how == "reset":
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.leave()
        else:
            client.writer.close()
        await until(lambda: witness.done)
        assert witness.cancelled
        assert witness.reply.gone
        witness.reply.write(b"more")  # what cannot be sent is dropped
        witness.reply.end()

    run(loop, witness, scene)


def test_a_client_that_leaves_while_its_body_is_read_cancels_its_handler(loop):
    seen = []

    async def handler(request, reply):
        seen.append(reply)
        try:
            await request.body(1000)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def scene(rig):
        client = await rig.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        await until(lambda: seen)
        client.leave()
        await until(lambda: len(seen) == 2)
        assert seen[0].gone

    run(loop, handler, scene)


def test_a_client_that_pipelined_and_leaves_is_noticed(loop):
    witness = Witness()

    async def scene(rig):
        client = await rig.connect()
        client.send(GET * 3)
        await until(lambda: witness.reply)
        client.leave()
        await until(lambda: witness.cancelled)
        assert rig.server.statistics().requests == 1

    run(loop, witness, scene)


def test_after_the_end_nothing_is_cancelled(loop):
    tidy = []

    async def handler(request, reply):
        await hello(request, reply)
        await asyncio.sleep(0.02)
        tidy.append(reply.gone)

    async def scene(rig):
        client = await rig.connect()
        await client.ask(GET)
        client.leave()
        await until(lambda: tidy)
        assert tidy == [False]

    run(loop, handler, scene)


# Back-pressure


class Source:
    """A flow that writes as fast as it may."""

    def __init__(self):
        self.paused = False
        self.pauses = 0

    def pause(self):
        self.paused = True
        self.pauses += 1

    def resume(self):
        self.paused = False


def test_a_slow_reader_holds_its_source_back_and_lets_it_go_again(loop):
    source = Source()
    sent = []

    async def handler(request, reply):
        reply.start(200, [])
        reply.throttle(source)
        for turn in range(200):
            await until(lambda: not source.paused)
            reply.write(b"%04d" % turn * 4096)
            sent.append(turn)
            await asyncio.sleep(0)
        reply.end()

    async def scene(rig):
        client = await rig.narrow()
        client.send(GET)
        await until(lambda: source.paused)
        held_at = len(sent)
        assert held_at < 100
        client.transport.resume_reading()
        answer = await client.answer()
        assert answer.body == b"".join(b"%04d" % turn * 4096 for turn in range(200))
        assert not source.paused

    run(loop, handler, scene)


def test_a_flow_that_comes_while_the_reader_is_behind_waits_at_once_and_is_let_go_with_none(loop):
    first, second = Source(), Source()

    async def handler(request, reply):
        reply.start(200, [])
        reply.throttle(first)
        for _ in range(4):  # more than the kernel takes
            reply.write(b"x" * 1_000_000)
        await until(lambda: first.paused)
        reply.throttle(second)
        assert (first.paused, second.paused) == (False, True)
        reply.throttle(None)
        assert not second.paused
        reply.abort()

    async def scene(rig):
        client = await rig.narrow()
        client.send(GET)
        await until(lambda: second.pauses)

    run(loop, handler, scene, config=SOON)


def test_a_stalled_reader_is_cut_and_its_handler_cancelled(loop):
    witness = Witness(begin=b"x" * 8_000_000)

    async def scene(rig):
        client = await rig.narrow()
        client.send(GET)
        await until(lambda: witness.done)
        assert witness.cancelled
        assert witness.reply.gone
        await until(lambda: not rig.server.limiter.total)

    run(loop, witness, scene, config=SOON)


@pytest.mark.parametrize("size", [8_000_000, 100_000])
def test_a_reader_that_stalls_at_the_very_end_is_cut(loop, size):
    """A little that waits is below every mark, and would wait for ever."""

    async def handler(request, reply):
        reply.start(200, [])
        reply.write(b"x" * size)
        reply.end()

    async def scene(rig):
        client = await rig.narrow()
        client.send(GET)
        await until(lambda: rig.server.limiter.total)
        await until(lambda: not rig.server.limiter.total)

    run(loop, handler, scene, config=EdgeConfig(write_timeout=0.05, idle_timeout=0.05))


# Half an answer never looks whole


async def returns_early(request, reply):
    reply.start(200, [])
    reply.write(b"half")


async def aborts(request, reply):
    reply.start(200, [])
    reply.write(b"half")
    reply.abort()


async def raises(request, reply):
    reply.start(200, [])
    reply.write(b"half")
    raise LookupError("on purpose")


async def falls_short(request, reply):
    reply.start(200, [(b"content-length", b"5")])
    reply.write(b"half")


HALVES = {returns_early: (), aborts: (), raises: (LookupError,), falls_short: ()}


@pytest.mark.parametrize("handler", HALVES)
def test_half_an_answer_is_flushed_and_not_whole(loop, handler):
    async def scene(rig):
        client = await rig.connect()
        answer = await client.ask(GET + GET)
        assert not answer.whole
        assert answer.body == (b"" if handler is falls_short else b"half")
        assert await client.rest() == b""

    run(loop, handler, scene, config=SOON, failures=HALVES[handler])


def test_half_an_answer_until_close_is_reset(loop):
    async def scene(rig):
        client = await rig.connect()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await client.reader.read()

    run(loop, returns_early, scene, config=SOON)


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_what_was_written_before_an_unclean_end_can_be_read_before_that_end_comes(loop, version):
    """A browser throws away what its page has not taken yet when a body breaks off."""

    async def scene(rig):
        client = await rig.connect()
        client.send(b"GET / HTTP/" + version + b"\r\nHost: x\r\n\r\n")
        await client.reader.readuntil(b"half")
        for _ in range(20):
            await asyncio.sleep(0)
        assert not client.reader.at_eof()
        client.writer.close()

    run(loop, returns_early, scene, config=EdgeConfig(linger=60))


def test_a_handler_that_fails_before_it_answers_gives_a_bare_500_and_is_reported(loop):
    async def handler(request, reply):
        raise LookupError("on purpose")

    async def scene(rig):
        client = await rig.connect()
        for _ in range(2):
            answer = await client.ask(GET)
            assert (answer.status, answer.body) == (500, b'{"error":"Internal server error."}')

    run(loop, handler, scene, failures=(LookupError, LookupError))


def test_a_handler_that_does_not_answer_gives_a_bare_500(loop):
    async def handler(request, reply):
        await request.body(10)

    async def scene(rig):
        assert (await (await rig.connect()).ask(GET)).status == 500

    run(loop, handler, scene)


def test_an_abort_before_the_start_gives_no_answer(loop):
    async def handler(request, reply):
        reply.abort()

    async def scene(rig):
        client = await rig.connect()
        client.send(GET)
        assert await client.rest() == b""

    run(loop, handler, scene)


def test_the_order_of_an_answer_is_kept(loop):
    wrong = []

    async def handler(request, reply):
        for act in (lambda: reply.write(b"x"), reply.end):
            with pytest.raises(RuntimeError):
                act()
        await hello(request, reply)
        for act in (lambda: reply.write(b"x"), reply.end, lambda: reply.start(200, [])):
            with pytest.raises(RuntimeError):
                act()
        reply.abort()
        wrong.append("seen")

    async def scene(rig):
        client = await rig.connect()
        assert (await client.ask(GET)).whole
        assert (await client.ask(GET)).whole
        assert wrong == ["seen", "seen"]

    run(loop, handler, scene)


# Draining


def test_a_drain_lets_answers_finish_and_closes_the_rest(loop):
    busy_one = asyncio.Event()
    go = asyncio.Event()

    async def handler(request, reply):
        if request.path == "/slow":
            busy_one.set()
            await go.wait()
        await hello(request, reply)

    async def scene(rig):
        idle, busy = await rig.connect(), await rig.connect()
        await idle.ask(GET)
        busy.send(GET.replace(b"/ ", b"/slow ") + GET)
        await busy_one.wait()
        draining = asyncio.create_task(rig.server.drain(1))
        assert await idle.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await rig.connect()
        go.set()
        answer = await busy.answer()
        assert (answer.body, answer.headers["connection"]) == (b"hello nobody", "close")
        assert await busy.rest() == b""
        assert await draining is True

    run(loop, handler, scene, config=SOON)


def test_a_stream_that_began_before_the_drain_finishes_and_its_connection_closes(loop):
    go = asyncio.Event()

    async def handler(request, reply):
        reply.start(200, [])
        reply.write(b"one ")
        await go.wait()
        reply.write(b"two")
        reply.end()

    async def scene(rig):
        client = await rig.connect()
        client.send(GET)
        status, headers = await client.head()
        assert (status, "connection" in headers) == (200, False)
        draining = asyncio.create_task(rig.server.drain(1))
        await asyncio.sleep(0.005)
        go.set()
        assert b"".join([chunk async for chunk in client.chunks()]) == b"one two"
        assert await client.rest() == b""
        assert await draining is True

    run(loop, handler, scene)


def test_a_drain_cuts_what_outlasts_the_grace(loop):
    witness = Witness(begin=b"half")

    async def scene(rig):
        client = await rig.connect()
        client.send(GET)
        await until(lambda: witness.reply)
        assert await rig.server.drain(0.02) is False
        assert witness.cancelled
        assert not (await client.answer()).whole

    run(loop, witness, scene)


def test_an_abort_in_the_middle_of_a_drain_ends_both_at_once(loop):
    witness = Witness(begin=b"half")

    async def scene(rig):
        client = await rig.connect()
        client.send(GET)
        await until(lambda: witness.reply)
        draining = asyncio.create_task(rig.server.drain(60))
        await asyncio.sleep(0.005)
        await rig.server.abort()
        assert await draining is False
        assert witness.cancelled
        assert not (await client.answer()).whole

    run(loop, witness, scene)


def test_a_handler_that_does_not_let_itself_be_cancelled_delays_an_abort_by_little(loop, monkeypatch):
    monkeypatch.setattr("standpipe.edge.server._PARTING", 0.02)
    go = asyncio.Event()

    async def handler(request, reply):
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    async def scene(rig):
        client = await rig.connect()
        client.send(GET)
        await until(lambda: rig.server.statistics().requests)
        await rig.server.abort()
        go.set()

    run(loop, handler, scene)


def test_somebody_who_is_at_the_door_when_the_drain_begins_is_served(loop):
    async def scene(rig):
        sock = socket.socket()
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.connect(("127.0.0.1", rig.port))  # the kernel has it, the server does not know yet
        rig.server.begin_drain()
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(GET)
        assert b"hello nobody" in await reader.read()
        writer.close()

    run(loop, hello, scene)
