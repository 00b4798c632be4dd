"""What strangers meet before a handler does: deadlines, caps, framing refused early, PROXY protocol, and partings that
hold no memory."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress

import pytest

from standpipe.edge.config import EdgeConfig
from standpipe.edge.seam import BodyTooLarge, BodyTooSlow
from standpipe.policy.identity import Trust
from tests.edge.rig import GET, HOST, post, run, until

LOOPBACK = Trust.parse(["127.0.0.0/8"])


async def hello(request, reply):
    body = b"hello " + (await request.body(1_000_000) or b"nobody")
    reply.start(200, [(b"content-length", b"%d" % len(body))])
    reply.write(body)
    reply.end()


async def who(request, reply):
    peer = str(request.peer).encode()
    reply.start(200, [(b"content-length", b"%d" % len(peer))])
    reply.write(peer)
    reply.end()


async def never(request, reply):
    pytest.fail("it must not be asked")


async def refused(client, status):
    """The connection ends with this refusal, and nothing else."""
    answer = await client.answer()
    assert answer.status == status
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == "application/json"
    assert "date" in answer.headers
    assert await client.rest() == b""
    return answer


# Deadlines


def test_a_head_that_takes_too_long_gets_408_however_it_trickles(loop):
    async def scene(rig):
        client = await rig.connect()

        async def trickle():
            client.send(GET[:-2] + b"X: ")
            while True:
                client.send(b"x")
                await asyncio.sleep(0.005)

        trickling = asyncio.create_task(trickle())
        await refused(client, 408)
        trickling.cancel()
        assert rig.server.statistics().overdue == {"head": 1}
        assert rig.server.statistics().rejected == {408: 1}

    run(loop, never, scene, config=EdgeConfig(header_timeout=0.05, linger=0.02))


def test_a_second_head_that_takes_too_long_gets_408_too(loop):
    async def scene(rig):
        client = await rig.connect()
        assert (await client.ask(GET + b"GET ")).status == 200
        await refused(client, 408)

    run(loop, hello, scene, config=EdgeConfig(header_timeout=0.04, linger=0.02))


def test_a_new_connection_that_says_nothing_is_closed_without_a_word(loop):
    async def scene(rig):
        client = await rig.connect()
        assert await client.rest() == b""
        assert rig.server.statistics().overdue == {"first_byte": 1}

    run(loop, never, scene, config=EdgeConfig(first_byte_timeout=0.03))


def test_an_idle_connection_is_closed_without_a_word(loop):
    async def scene(rig):
        client = await rig.connect()
        assert (await client.ask(GET)).status == 200
        assert await client.rest() == b""
        assert rig.server.statistics().overdue == {"idle": 1}

    run(loop, hello, scene, config=EdgeConfig(idle_timeout=0.03))


def test_a_long_answer_outlasts_every_deadline_of_the_request(loop):
    async def handler(request, reply):
        await asyncio.sleep(0.3)
        await hello(request, reply)

    async def scene(rig):
        assert (await (await rig.connect()).ask(GET)).status == 200

    run(
        loop,
        handler,
        scene,
        config=EdgeConfig(
            first_byte_timeout=0.2, header_timeout=0.2, body_timeout=0.2, idle_timeout=0.2, write_timeout=0.2
        ),
    )


# Caps on connections


def test_over_all_connections_one_more_is_told_503_and_many_more_are_cut(loop):
    async def scene(rig):
        kept = [await rig.connect() for _ in range(4)]
        for client in kept:
            assert (await client.ask(GET)).status == 200
        over = await rig.connect()
        over.send(GET)
        cut = await rig.connect()
        assert await cut.rest() == b""
        await refused(over, 503)
        kept[0].leave()
        await until(lambda: rig.server.limiter.total < 4)
        assert (await (await rig.connect()).ask(GET)).status == 200
        assert rig.server.limiter.refused["connections"] == 2

    run(loop, hello, scene, config=EdgeConfig(connections=4, linger=0.02))


@pytest.mark.parametrize("cap", ["connections_per_client", "connections_per_block"])
def test_over_a_clients_own_share_one_more_is_told_429(loop, cap):
    async def scene(rig):
        kept = [await rig.connect() for _ in range(2)]
        for client in kept:
            assert (await client.ask(GET)).status == 200
        over = await rig.connect()
        over.send(GET)
        await refused(over, 429)
        assert rig.server.statistics().refused == {cap: 1}

    run(loop, hello, scene, config=EdgeConfig(**{cap: 2}, linger=0.02))


def test_a_trusted_proxy_has_no_share_of_its_own(loop):
    async def scene(rig):
        for _ in range(5):
            assert (await (await rig.connect()).ask(GET)).status == 200

    run(loop, hello, scene, config=EdgeConfig(connections_per_client=2, connections_per_block=2), trust=LOOPBACK)


def test_a_connection_ends_after_its_last_ask(loop):
    async def scene(rig):
        client = await rig.connect()
        first, second = await client.ask(GET), await client.ask(GET + GET)
        assert "connection" not in first.headers
        assert second.headers["connection"] == "close"
        assert await client.rest() == b""

    run(loop, hello, scene, config=EdgeConfig(requests_per_connection=2, linger=0.02))


# Caps on heads

SMALL = EdgeConfig(request_line=100, header_bytes=200, header_count=5, linger=0.02)


@pytest.mark.parametrize("ending", [b"", b" HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_long_request_line_gets_414_complete_or_not(loop, ending):
    async def scene(rig):
        client = await rig.connect()
        client.send(b"GET /" + b"x" * 100 + ending)
        await refused(client, 414)

    run(loop, never, scene, config=SMALL)


@pytest.mark.parametrize("ending", [b"", b"\r\n\r\n"])
def test_a_large_header_gets_431_complete_or_not(loop, ending):
    async def scene(rig):
        client = await rig.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 200 + ending)
        await refused(client, 431)

    run(loop, never, scene, config=SMALL)


def test_many_header_fields_get_431(loop):
    async def scene(rig):
        client = await rig.connect()
        assert (await client.ask(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 4 + b"\r\n")).status == 200
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 5 + b"\r\n")
        await refused(client, 431)

    run(loop, hello, scene, config=SMALL)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello?",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"\n",
        b"GET /\r\n \n",
    ],
)
def test_what_cannot_become_a_request_is_refused_at_once(loop, garbage):
    async def scene(rig):
        client = await rig.connect()
        client.send(garbage)
        await refused(client, 400)

    run(loop, never, scene)


# Versions, methods, targets


def test_http_1_0_is_kept_alive_if_it_asks(loop):
    async def scene(rig):
        client = await rig.connect()
        for _ in range(2):
            answer = await client.ask(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            assert answer.headers["connection"] == "keep-alive"

    run(loop, hello, scene)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"PRI * HTTP/2.0", 505),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/0.9", 505),
        (b"CONNECT x:443 HTTP/1.1", 501),
        (b"FROBNICATE / HTTP/1.1", 501),
        (b"get / HTTP/1.1", 400),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET /  HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET /#fragment HTTP/1.1", 400),
        (b"GET / HTTP/1.11", 400),
        (b"GET x HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"GET http://other/ HTTP/1.1", 400),
        (b"GET ftp://x/ HTTP/1.1", 400),
        (b"GET /\xc3\xa9 HTTP/1.1", 400),
        (b"GET /\x00 HTTP/1.1", 400),
    ],
)
def test_a_request_line_has_one_form(loop, line, status):
    async def scene(rig):
        client = await rig.connect()
        client.send(line + b"\r\nHost: x\r\n\r\n")
        await refused(client, status)

    run(loop, never, scene)


@pytest.mark.parametrize(
    ("method", "target", "path", "query"),
    [
        ("GET", "http://x/a?b", "/a", "b"),
        ("GET", "HTTP://X?b", "/", "b"),
        ("GET", "https://x", "/", ""),
        ("OPTIONS", "*", "*", ""),
        ("GET", "//double?", "//double", ""),
        ("DELETE", "/%2e%2E/%ff", "/../�", ""),
    ],
)
def test_a_target_is_read_once(loop, method, target, path, query):
    seen = []

    async def handler(request, reply):
        seen.append((request.method, request.path, request.query))
        await hello(request, reply)

    async def scene(rig):
        assert (
            await (await rig.connect()).ask(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        ).status == 200

    run(loop, handler, scene)
    assert seen == [(method, path, query)]


def test_what_the_parser_takes_for_a_close_is_one(loop):
    async def scene(rig):
        client = await rig.connect()
        answer = await client.ask(GET[:-2] + b"Proxy-Connection: close\r\n\r\n" + GET)
        assert answer.headers["connection"] == "close"
        assert await client.rest() == b""

    run(loop, hello, scene, config=EdgeConfig(linger=0.02))


def test_blank_lines_before_a_request_are_forgiven(loop):
    async def scene(rig):
        client = await rig.connect()
        assert (await client.ask(b"\r\n\r\n" + GET)).status == 200
        client.send(b"\r")
        await asyncio.sleep(0)
        assert (await client.ask(b"\n" + GET)).status == 200

    run(loop, hello, scene)


# Partings


def test_after_a_refusal_what_still_comes_is_thrown_away_so_that_the_refusal_can_be_read(loop):
    async def scene(rig):
        client = await rig.connect()
        client.send(b"nonsense " + b"x" * 500_000)
        await asyncio.sleep(0.01)
        client.send(b"x" * 500_000)
        await refused(client, 400)

    run(loop, never, scene)


def test_what_is_thrown_away_is_bounded_in_time(loop):
    async def scene(rig):
        client = await rig.connect()
        client.send(b"nonsense")
        assert (await client.answer()).status == 400
        await until(lambda: rig.server.statistics().connections == 0)

    run(loop, never, scene, config=EdgeConfig(linger=0.02))


def test_what_is_thrown_away_is_bounded_in_bytes(loop):
    async def scene(rig):
        client = await rig.connect()
        client.send(b"nonsense")
        assert (await client.answer()).status == 400
        client.send(b"x" * 50_000)
        await until(lambda: rig.server.statistics().connections == 0)

    run(loop, never, scene, config=EdgeConfig(linger=60, linger_bytes=10_000))


@pytest.mark.parametrize("at_once", [True, False])
def test_more_than_may_be_read_ahead_is_thrown_away_and_the_connection_closes_after_the_answer(loop, at_once):
    go = asyncio.Event()

    async def handler(request, reply):
        await go.wait()
        await hello(request, reply)

    async def scene(rig):
        client = await rig.connect()
        client.send(GET + (post(b"x" * 5000) if at_once else b""))
        await until(lambda: rig.server.statistics().requests)
        if not at_once:
            client.send(post(b"x" * 5000))
        await asyncio.sleep(0.01)
        go.set()
        assert (await client.answer()).status == 200
        assert await client.rest() == b""
        assert rig.server.statistics().requests == 1

    run(loop, handler, scene, config=EdgeConfig(read_ahead=1000, linger=0.02))


def test_a_body_that_nobody_asks_for_is_not_kept_beyond_the_bound(loop):
    go = asyncio.Event()

    async def handler(request, reply):
        await go.wait()
        assert len(await request.body(30_000_000)) == 20_000_000
        await hello(request, reply)

    async def scene(rig):
        client = await rig.connect()
        client.send(post(b"x" * 20_000_000))
        await until(lambda: rig.server.statistics().requests)
        await asyncio.sleep(0.02)
        assert client.transport.get_write_buffer_size() > 1_000_000
        go.set()
        assert (await client.answer()).status == 500, "hello takes less"

    run(loop, handler, scene, config=EdgeConfig(read_ahead=1000, linger=0.02), failures=(BodyTooLarge,))


def test_a_body_that_nobody_ever_asks_for_is_thrown_away_within_bounds(loop):
    go = asyncio.Event()

    async def handler(request, reply):
        await go.wait()
        reply.start(403, [(b"content-length", b"0")])
        reply.end()

    async def scene(rig):
        client = await rig.connect()
        client.send(post(b"x" * 20_000_000))
        await until(lambda: rig.server.statistics().requests)
        await asyncio.sleep(0.01)
        go.set()
        await until(lambda: rig.server.statistics().connections == 0)

    run(loop, handler, scene, config=EdgeConfig(read_ahead=1000, linger=60, linger_bytes=1_000_000))


def test_no_continue_is_said_in_the_middle_of_an_answer(loop):
    async def handler(request, reply):
        reply.start(200, [])
        reply.write(b"so: ")
        reply.write(await request.body(100))
        reply.end()

    async def scene(rig):
        client = await rig.connect()
        head, body = post(b"body", b"Expect: 100-continue").split(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        status, _ = await client.head()
        assert status == 200
        client.send(body)
        assert b"".join([chunk async for chunk in client.chunks()]) == b"so: body"

    run(loop, handler, scene)


def test_somebody_who_says_nothing_does_not_hold_up_a_drain(loop):
    async def scene(rig):
        client = await rig.connect()
        await until(lambda: rig.server.statistics().connections)
        assert await rig.server.drain(1)
        assert await client.rest() == b""

    run(loop, never, scene, config=EdgeConfig(first_byte_timeout=4, linger=0.02))


def test_an_answer_given_before_the_body_came_closes_the_connection(loop):
    async def handler(request, reply):
        reply.start(200, [(b"content-length", b"2")])
        reply.write(b"ok")
        reply.end()

    async def scene(rig):
        client = await rig.connect()
        answer = await client.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        assert (answer.body, answer.headers["connection"]) == (b"ok", "close")
        client.send(GET)
        assert await client.rest() == b""
        assert rig.server.statistics().requests == 1

    run(loop, handler, scene, config=EdgeConfig(linger=0.02))


def test_a_broken_body_cancels_its_handler_and_gets_400(loop):
    seen = []

    async def handler(request, reply):
        try:
            await request.body(1000)
        except asyncio.CancelledError:
            seen.append(reply.gone)
            raise

    async def scene(rig):
        client = await rig.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await until(lambda: rig.server.statistics().requests)
        client.send(b"nonsense\r\n" + GET)
        await refused(client, 400)
        assert seen == [True]
        assert rig.server.statistics().requests == 1

    run(loop, handler, scene, config=EdgeConfig(linger=0.02))


def test_a_broken_body_under_an_answer_that_has_begun_cuts_it(loop):
    async def handler(request, reply):
        reply.start(200, [])
        reply.write(b"half")
        await request.body(1000)

    async def scene(rig):
        client = await rig.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.head()
        client.send(b"nonsense\r\n" + GET)
        assert await client.rest() == b"4\r\nhalf\r\n"

    run(loop, handler, scene)


def test_an_answer_longer_than_it_said_is_a_bug_and_not_whole(loop):
    async def handler(request, reply):
        reply.start(200, [(b"content-length", b"4")])
        reply.write(b"too long")

    async def scene(rig):
        client = await rig.connect()
        assert not (await client.ask(GET)).whole

    run(loop, handler, scene, config=EdgeConfig(linger=0.02), failures=(RuntimeError,))


# PROXY protocol


def version_2(address, extra=b"", command=0x21):
    source = ipaddress.ip_address(address)
    family = 0x11 if source.version == 4 else 0x21
    block = source.packed * 2 + b"\0\1\0\2" + extra
    return b"\r\n\r\n\x00\r\nQUIT\n" + bytes([command, family]) + len(block).to_bytes(2, "big") + block


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n", b"192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 80\r\n", b"2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", b"127.0.0.1"),
        (version_2("192.0.2.7"), b"192.0.2.7"),
        (version_2("2001:db8::7", b"\x04\0\0"), b"2001:db8::7"),
        (version_2("192.0.2.7", command=0x20), b"127.0.0.1"),
    ],
)
def test_a_trusted_proxy_vouches_for_its_client(loop, header, peer, at_once):
    async def scene(rig):
        client = await rig.connect()
        for piece in (header + GET,) if at_once else [bytes([byte]) for byte in header + GET]:
            client.send(piece)
            if not at_once:
                await asyncio.sleep(0)
        assert (await client.answer()).body == peer
        assert (await client.ask(GET)).body == peer

    run(loop, who, scene, trust=LOOPBACK, proxied=True)


@pytest.mark.parametrize(
    "data", [GET, b"PROXY TCP4 a b 1 2\r\n" + GET, b"PROXY " + b"x" * 200, version_2("192.0.2.7")[:-8] * 9]
)
def test_a_trusted_proxy_must_begin_with_its_header(loop, data):
    async def scene(rig):
        client = await rig.connect()
        client.send(data)
        await refused(client, 400)

    run(loop, never, scene, trust=LOOPBACK, proxied=True, config=EdgeConfig(linger=0.02))


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n", version_2("192.0.2.7")])
def test_nobody_else_vouches_for_anybody(loop, header):
    async def scene(rig):
        client = await rig.connect()
        client.send(header + GET)
        await refused(client, 400)
        assert (await (await rig.connect()).ask(GET)).body == b"127.0.0.1"

    run(loop, who, scene, proxied=True, config=EdgeConfig(linger=0.02))


def test_the_cap_on_connections_holds_behind_a_proxy(loop):
    async def scene(rig):
        async def knock(n):
            client = await rig.connect()
            client.send(b"PROXY TCP4 10.0.%d.7 192.0.2.1 5000 80\r\n" % n + GET)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                return (await client.answer()).status
            return None

        assert [await knock(n) for n in range(30)] == [*[200] * 20, *[503] * 5, *[None] * 5]

    run(loop, who, scene, trust=LOOPBACK, proxied=True, config=EdgeConfig(connections=20, linger=60))


def test_clients_behind_a_trusted_proxy_have_their_own_shares(loop):
    async def scene(rig):
        async def knock(address):
            client = await rig.connect()
            client.send(b"PROXY TCP4 %b 192.0.2.1 5000 80\r\n" % address + GET)
            return (await client.answer()).status

        assert [await knock(b"192.0.2.7") for _ in range(3)] == [200, 200, 429]
        assert await knock(b"198.51.100.8") == 200

    run(loop, who, scene, trust=LOOPBACK, proxied=True, config=EdgeConfig(connections_per_client=2))


def test_a_proxy_header_has_the_deadline_of_a_first_byte(loop):
    async def scene(rig):
        client = await rig.connect()
        client.send(b"PROXY TCP4 ")
        assert await client.rest() == b""

    run(loop, never, scene, trust=LOOPBACK, proxied=True, config=EdgeConfig(first_byte_timeout=0.03))


# What it says of itself


def test_statistics_tell_what_connections_do(loop):
    go = asyncio.Event()

    async def handler(request, reply):
        if request.method == "POST":
            await go.wait()
        await hello(request, reply)

    async def scene(rig):
        idle, busy, partial, _new = [await rig.connect() for _ in range(4)]
        await idle.ask(GET)
        busy.send(post(b""))
        partial.send(b"GET / HT")
        await until(lambda: rig.server.statistics().phases == {"idle": 1, "answering": 1, "head": 1, "new": 1})
        assert rig.server.statistics().requests == 2
        assert "4 connections" in repr(rig.server)
        go.set()
        await busy.answer()

    run(loop, handler, scene)


def test_a_client_that_goes_silent_in_a_body_is_told_by_its_handler(loop):
    async def scene(rig):
        client = await rig.connect()
        client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\n")
        assert (await client.answer()).status == 500
        assert await client.rest() == b""

    run(loop, hello, scene, config=EdgeConfig(body_timeout=0.03, linger=0.02), failures=(BodyTooSlow,))
