"""The client against raw bytes on real sockets, on the virtual loop and, where time plays no part, on uvloop too."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from standpipe.http_client.client import AnswerTooLarge, Client
from standpipe.http_client.transport import ConnectFailed, ConnectionBroken, DeadlinePassed
from tests.engines.peers import (
    CHUNKED,
    PLAIN,
    Received,
    answers_plainly,
    asked,
    counts,
    engine,
    run_on_uvloop,
    turns,
    using,
)
from tests.virtual import run as run_virtually


@pytest.fixture(params=[run_virtually, run_on_uvloop], ids=["stdlib", "uvloop"])
def run(request):
    return request.param


def test_a_request_as_the_engine_sees_it(run):
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def script(peer):
        for _ in range(2):
            seen.append(await peer.request())
            peer.send(PLAIN)

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url, key="k", headers={"x-room": "4"})) as client:
            into = Received()
            await asked(client, into, headers=[("x-one", "1")])
            assert (into.status, into.body) == (200, b"hello")
            await client.fetch("GET", "/models?all=1")
            return it.url.removeprefix("http://").removesuffix("/v1")

    authority = run(scene())
    fixed = {
        "host": authority,
        "user-agent": "standpipe",
        "accept-encoding": "identity",
        "authorization": "Bearer k",
        "x-room": "4",
    }
    sized = {"content-type": "application/json", "content-length": "7"}
    assert seen == [
        ("POST /v1/chat/completions HTTP/1.1", {**fixed, "x-one": "1", **sized}, b'{"a":1}'),
        ("GET /v1/models?all=1 HTTP/1.1", fixed, b""),
    ]


def test_a_connection_is_used_again_and_again(run):
    async def scene() -> Any:
        async with engine(answers_plainly) as it, using(Client(it.url)) as client:
            for _ in range(5):
                assert (await client.fetch("GET", "/models")).body == b"hello"
            assert len(it.peers) == 1
            return counts(client)

    stats = run(scene())
    assert (stats.opened, stats.reused, stats.open, stats.kept) == (1, 4, 1, 1)


def test_concurrent_requests_have_a_connection_each_and_only_so_many_are_kept(run, monkeypatch):
    monkeypatch.setattr("standpipe.http_client.client.KEPT", 2)

    async def scene() -> Any:
        async with engine(answers_plainly) as it, using(Client(it.url)) as client:
            answers = await asyncio.gather(*(client.fetch("GET", "/models") for _ in range(5)))
            assert [answer.body for answer in answers] == [b"hello"] * 5
            await turns()
            return counts(client)

    stats = run(scene())
    assert (stats.opened, stats.open, stats.kept) == (5, 2, 2)


def test_a_connection_that_is_not_to_be_kept_is_closed(run):
    async def script(peer):
        await peer.request()
        peer.send(PLAIN)
        await peer.gone()

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            await asked(client, Received(), keep=False)
            await it.gone.wait()
            return len(client.kept)

    assert run(scene()) == 0


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_kept_connection_that_dies_before_an_answer_is_replaced_once(run, how):
    async def script(peer):
        await peer.request()
        peer.send(PLAIN)
        await peer.request()
        if peer.number == 0:
            getattr(peer, how)()
        else:
            peer.send(PLAIN)

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            await client.fetch("GET", "/models")
            into = Received()
            await asked(client, into)
            assert into.body == b"hello"
            return counts(client)

    stats = run(scene())
    assert (stats.opened, stats.reused, stats.retried) == (2, 1, 1)


@pytest.mark.parametrize(("method", "after", "times"), [("POST", 0.4, 2), ("POST", 0.6, 1), ("GET", 0.6, 2)])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_work_that_a_kept_connection_dies_of_is_not_repeated_but_what_changes_nothing_is(method, after, times, how):
    """Who dies at once had not read the request; who dies later may have died of it."""
    seen = []

    async def script(peer):
        if peer.number == 0:
            await peer.request()
            peer.send(PLAIN)
        seen.append((await peer.request())[0])
        if peer.number == 0:
            await asyncio.sleep(after)
            getattr(peer, how)()
        else:
            peer.send(PLAIN)

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            await client.fetch("GET", "/models")
            into = Received()
            asking = client.request(method, "/x", on_head=into.on_head, on_body=into.on_body, body=b"")
            if times == 1:
                with pytest.raises(ConnectionBroken) as caught:
                    await asking
                assert not caught.value.begun
            else:
                await asking
                assert into.body == b"hello"
            return counts(client)

    assert run_virtually(scene()).opened == times
    assert len(seen) == times


def test_a_server_that_is_gone_with_the_kept_connection_may_have_died_of_the_request(run):
    async def scene() -> Any:
        async def script(peer):
            await peer.request()
            peer.send(PLAIN)
            await peer.request()
            it.stop()
            peer.reset()

        async with engine(script) as it, using(Client(it.url)) as client:
            await client.fetch("GET", "/models")
            with pytest.raises(ConnectionBroken):
                await asked(client, Received())
            with pytest.raises(ConnectFailed):
                await asked(client, Received())

    run(scene())


def test_a_new_connection_that_dies_is_not_replaced(run):
    async def script(peer):
        await peer.request()
        peer.close()

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            with pytest.raises(ConnectionBroken) as caught:
                await asked(client, Received())
            assert not caught.value.begun
            return len(it.peers)

    assert run(scene()) == 1


def test_a_kept_connection_that_dies_after_the_first_byte_is_not_replaced(run):
    async def script(peer):
        await peer.request()
        peer.send(PLAIN)
        await peer.request()
        peer.send(b"H")
        await peer.sent()
        peer.close()

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            await client.fetch("GET", "/models")
            with pytest.raises(ConnectionBroken) as caught:
                await asked(client, Received())
            assert caught.value.begun
            return len(it.peers)

    assert run(scene()) == 1


def test_a_kept_connection_that_the_engine_closed_is_not_used(run):
    async def script(peer):
        await peer.request()
        peer.send(PLAIN)
        peer.close()

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            for _ in range(3):
                await client.fetch("GET", "/models")
                await turns()
            return counts(client)

    stats = run(scene())
    assert (stats.opened, stats.retried, stats.open) == (3, 0, 0)


def test_kept_connections_are_closed_after_their_time():
    async def script(peer):
        await answers_plainly(peer)

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            await asyncio.gather(client.fetch("GET", "/a"), client.fetch("GET", "/b"))
            await asyncio.sleep(3)
            await client.fetch("GET", "/c")
            await asyncio.sleep(1.1)
            after_4 = len(client.kept)
            await asyncio.sleep(3)
            await turns()
            return after_4, counts(client)

    kept, stats = run_virtually(scene())
    assert kept == 1
    assert (stats.kept, stats.open) == (0, 0)


def test_a_connection_that_was_kept_too_long_is_not_used_even_if_the_sweep_is_late():
    async def scene() -> Any:
        async with engine(answers_plainly) as it, using(Client(it.url)) as client:
            await client.fetch("GET", "/a")
            asyncio.get_running_loop().skip(5)  # type: ignore[attr-defined]  # of the virtual loop
            await client.fetch("GET", "/b")
            return len(it.peers)

    assert run_virtually(scene()) == 2


@pytest.mark.parametrize("stage", ["before the head", "in the body"])
def test_cancelling_closes_the_socket_at_once(run, stage):
    asked_for = asyncio.Event()

    async def script(peer):
        await peer.request()
        if stage == "in the body":
            peer.send(CHUNKED + b"1\r\na\r\n")
        asked_for.set()
        await peer.gone()

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            into = Received()
            task = asyncio.ensure_future(asked(client, into))
            await (asked_for if stage == "before the head" else into.first).wait()
            before = asyncio.get_running_loop().time()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await it.gone.wait()
            assert len(client.open) == 0
            return asyncio.get_running_loop().time() - before

    assert run(scene()) < 0.1


def test_what_a_receiver_raises_closes_the_socket_at_once(run):
    class Mine(Exception):
        pass

    async def script(peer):
        await peer.request()
        peer.send(CHUNKED + b"1\r\na\r\n")
        await peer.gone()

    def on_body(data):
        raise Mine

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            with pytest.raises(Mine):
                await client.request("GET", "/", on_head=Received().on_head, on_body=on_body)
            await it.gone.wait()

    run(scene())


def test_a_paused_flow_holds_the_engine_back_and_loses_nothing(run):
    size = 32 * 1024 * 1024
    written = asyncio.Event()

    async def script(peer):
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = b"x" * 65_536
        for _ in range(size // len(piece)):
            peer.send(piece)
            await peer.sent()
        written.set()

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            into = Received()

            def on_body(data):
                into.on_body(data)
                if len(into.bodies) == 1:
                    into.flow.pause()
                return False

            task = asyncio.ensure_future(client.request("GET", "/", on_head=into.on_head, on_body=on_body))
            await into.first.wait()
            await turns(500)
            assert len(into.bodies) == 1
            assert not written.is_set()
            into.flow.resume()
            await task
            assert sum(map(len, into.bodies)) == size

    run(scene())


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"50\r\nhello",
    ],
    ids=["sized", "chunked", "in a chunk"],
)
def test_a_truncated_body_breaks(run, cut):
    async def script(peer):
        await peer.request()
        peer.send(cut)
        await peer.sent()

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            into = Received()
            with pytest.raises(ConnectionBroken) as caught:
                await asked(client, into)
            assert caught.value.begun
            assert into.body == b"hello"

    run(scene())


def test_a_body_until_close(run):
    async def script(peer):
        await peer.request()
        peer.send(b"HTTP/1.1 503 Loading\r\nContent-Type: text/plain\r\n\r\nhold on")
        await peer.sent()

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            answer = await client.fetch("GET", "/health")
            assert (answer.status, answer.headers[b"content-type"], answer.body) == (503, b"text/plain", b"hold on")
            return len(client.kept)

    assert run(scene()) == 0


def test_a_unix_socket(run, tmp_path):
    seen = []

    async def script(peer):
        seen.append(await peer.request())
        peer.send(PLAIN)

    async def scene() -> Any:
        async with engine(script, socket=tmp_path / "engine.sock") as it, using(Client(it.url)) as client:
            return (await client.fetch("GET", "/models")).body

    assert run(scene()) == b"hello"
    assert seen[0][0] == "GET /v1/models HTTP/1.1"
    assert seen[0][1]["host"] == "localhost"


def test_small_writes_are_not_delayed(run):
    async def scene() -> Any:
        async with engine(answers_plainly) as it, using(Client(it.url)) as client:
            await client.fetch("GET", "/models")
            (connection,) = client.kept
            raw = connection._transport.get_extra_info("socket")
            return raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    assert run(scene()) != 0


def test_a_refused_connection(run, tmp_path):
    async def scene() -> Any:
        async with engine(answers_plainly) as it:
            url = it.url
        with pytest.raises(ConnectFailed, match=r"http://127\.0\.0\.1"):
            await Client(url).fetch("GET", "/models")
        with pytest.raises(ConnectFailed) as caught:
            await Client(f"http+unix://{tmp_path}/none.sock").fetch("GET", "/models")
        assert str(tmp_path) not in str(caught.value)

    run(scene())


def test_connect_deadline():
    async def scene() -> Any:
        loop = asyncio.get_running_loop()

        async def never(*_, **__):
            await asyncio.Event().wait()

        loop.create_connection = never  # type: ignore[method-assign]  # a network that swallows everything
        with pytest.raises(DeadlinePassed, match="connection") as caught:
            await Client("http://127.0.0.1:1", connect_timeout=2).fetch("GET", "/models")
        assert caught.value.what == "connection"
        return loop.time()

    assert run_virtually(scene()) == pytest.approx(2)


def test_a_fetch_has_one_deadline_for_everything():
    async def script(peer):
        await peer.request()
        peer.send(CHUNKED)
        for _ in range(100):
            await asyncio.sleep(1)
            peer.send(b"1\r\na\r\n")

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            with pytest.raises(DeadlinePassed) as caught:
                await client.fetch("GET", "/health", within=3)
            assert caught.value.what == "whole answer"
            await turns()
            return len(client.open), asyncio.get_running_loop().time()

    assert run_virtually(scene()) == (0, pytest.approx(3))


def test_a_fetch_is_bounded(run):
    async def script(peer):
        await peer.request()
        peer.send(CHUNKED + b"a\r\n0123456789\r\n" * 100)
        await peer.gone()

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            with pytest.raises(AnswerTooLarge, match="99"):
                await client.fetch("GET", "/models", limit=99)
            await it.gone.wait()

    run(scene())


def test_closing_ends_busy_and_kept_connections_and_refuses_new_requests(run):
    async def script(peer):
        await peer.request()
        if peer.number == 0:
            peer.send(PLAIN)
        await peer.gone()

    async def scene() -> Any:
        async with engine(script) as it:
            client = Client(it.url)
            first = await client.fetch("GET", "/models")
            client.kept.clear()  # so that the next one is busy beside it
            busy = asyncio.ensure_future(asked(client, Received()))
            await asyncio.wait_for(it.second.wait(), 1)
            await client.close()
            assert len(client.open) == 0
            with pytest.raises(ConnectionBroken):
                await busy
            with pytest.raises(ConnectFailed, match="closed"):
                await asked(client, Received())
            await client.close()
            return first.status

    assert run(scene()) == 200


def test_closing_while_a_connection_is_made_leaves_none_behind(run):
    async def scene() -> Any:
        async with engine(answers_plainly) as it:
            client = Client(it.url)
            task = asyncio.ensure_future(asked(client, Received()))
            await asyncio.sleep(0)
            await client.close()
            with pytest.raises(ConnectFailed, match="closed"):
                await task
            await turns()
            return len(client.open)

    assert run(scene()) == 0


def test_a_post_without_a_body_says_so(run):
    seen = []

    async def script(peer):
        seen.append(await peer.request())
        peer.send(PLAIN)

    async def scene() -> Any:
        async with engine(script) as it, using(Client(it.url)) as client:
            await client.fetch("POST", "/stop")

    run(scene())
    assert seen[0][1]["content-length"] == "0"


def test_closing_an_unused_client(run):
    async def scene() -> Any:
        await Client("http://127.0.0.1:1").close()

    run(scene())


def test_it_tells_its_state_without_credentials(run):
    async def scene() -> Any:
        async with engine(answers_plainly) as it, using(Client(it.url.replace("//", "//me:secret@"))) as client:
            await client.fetch("GET", "/models")
            return it.url, repr(client)

    url, told = run(scene())
    assert told == f"<Client {url.removesuffix('/v1')} 1 open, 1 of them kept>"


@pytest.mark.parametrize(
    ("key", "headers"),
    [("secret\r\nx: y", None), ("sécret", None), (None, {"x-a": "secret\n"}), (None, {"x secret": "y"})],
)
def test_headers_that_could_break_out_are_refused(key, headers):
    with pytest.raises(ValueError) as caught:
        Client("http://box", key=key, headers=headers)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["models", "/a b", "/a\r\nx: y", "/ä", ""])
def test_paths_that_could_break_out_are_refused(path):
    async def scene() -> Any:
        with pytest.raises(ValueError, match="path"):
            await Client("http://127.0.0.1:1").fetch("GET", path)

    run_virtually(scene())
