"""A Standpipe behind a Standpipe, over loopback: whose asks they are is told below on purpose, and believed of tiers.

Below, one ask an hour is let in of each client: whom it paces, it refuses.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager

import pytest

from standpipe.app.engines import open_engines
from standpipe.edge.config import EdgeConfig
from standpipe.edge.listen import open_tcp
from standpipe.edge.server import Server
from standpipe.engine_tables import EngineTable
from standpipe.engines.scripted.script import Script
from standpipe.engines.scripted.scripted import Scripted
from standpipe.policy.identity import Trust
from standpipe.settings import Settings
from tests.serve.driver import Tap
from tests.serve.test_embeddings_walk import Embedding
from tests.virtual import run

HARSH = {"pace_interval": 3600, "pace_waiting": 0}
LOOPBACK = {"tiers": ("127.0.0.1",)}
SIXTEEN = [f"198.51.100.{number}" for number in range(16)]


@asynccontextmanager
async def listening(engine=None, **settings):
    """A lower tap, and the URL of its API."""
    async with Tap(engines=[engine or Embedding(Script(slots=16))], **settings) as tap:
        trust = Trust.parse(tap.settings.trusted_proxies, tap.settings.client_header, tap.settings.tiers)
        server = Server(tap.app.guard, tap.app.guard.refuse, EdgeConfig(), trust)
        server.start(open_tcp("127.0.0.1", 0))
        try:
            yield tap, f"http://{server.addresses[0]}/v1"
        finally:
            await server.abort()


@asynccontextmanager
async def before(url, *, forward_clients=True, models=(), **settings):
    """An upper tap, whose engine is the lower one."""
    table = EngineTable(url=url, slots=16, models={name: name for name in models}, forward_clients=forward_clients)
    opened = await open_engines(Settings(engine=(table,)), lambda *_: None, lambda *_: None)
    async with Tap(engines=opened.engines, **{"pace_interval": 0, "client_slots": 16, **settings}) as tap:
        yield tap


async def sixteen(tap, peers, **fields):
    return await asyncio.gather(*(tap.ask(peer=peer, **fields) for peer in peers))


@pytest.mark.parametrize(("peers", "clients"), [(SIXTEEN, 16), (SIXTEEN[:1] * 16, 1)])
@pytest.mark.parametrize("path", ["/api", "/v1/embeddings"])
def test_a_tiers_clients_are_told_apart_below_and_not_paced_again(peers, clients, path):
    async def scene():
        async with listening(**HARSH, **LOOPBACK) as (lower, url), before(url) as upper:
            body = {"messages": [{"role": "user", "content": "hi"}]} if path == "/api" else {"input": "hi"}
            replies = await asyncio.gather(*(upper.send("POST", path, body, peer=peer) for peer in peers))
            assert [reply.status for reply in replies] == [200] * 16
            assert [line["status"] for line in lower.asks] == [200] * 16
            assert len({line["client"] for line in lower.asks}) == clients

    run(scene())


def test_what_is_below_learns_no_address():
    """Neither in a head nor in an ask; and blocks are told apart as well as clients."""

    async def scene():
        heads = []

        async def raw(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            heads.append(head.decode())
            status = b"404" if head.startswith(b"GET") else b"400"
            writer.write(b"HTTP/1.1 %b no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
            writer.close()

        server = await asyncio.start_server(raw, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        peers = ["198.51.100.7", "198.51.100.8", "203.0.113.7", "2001:db8:1:2::7", "198.51.100.7"]
        async with before(f"http://127.0.0.1:{port}/v1", models=["m"]) as upper:
            for peer in peers:
                await upper.ask(peer=peer)
        server.close()
        asks = [head for head in heads if head.startswith("POST")]
        named = [re.findall(r"(?im)^x-forwarded-for: (fd\S+)\r$", head) for head in asks]
        first, neighbour, other, sixth, again = [name for (name,) in named]
        assert first == again
        assert len({first, neighbour, other, sixth}) == 4
        assert not any(word in "".join(heads) for peer in peers for word in (peer, peer.rpartition(".")[0] or peer))

        def block(name):
            return name.split(":")[:3]

        assert block(first) == block(neighbour)
        assert len({tuple(block(name)) for name in (first, other, sixth)}) == 3

    run(scene())


def test_an_engine_that_is_not_said_to_be_a_standpipe_is_told_nothing():
    async def scene():
        async with listening(**HARSH, **LOOPBACK) as (lower, url), before(url, forward_clients=False) as upper:
            replies = await sixteen(upper, SIXTEEN)
            assert {reply.status for reply in replies} == {200}  # a tier's own asks are not paced either
            assert len({line["client"] for line in lower.asks}) == 1

    run(scene())


@pytest.mark.parametrize("trusted", [(), ("10.0.0.1",)])
def test_a_forged_header_of_an_untrusted_peer_is_ignored(trusted):
    async def scene():
        async with Tap(Script(slots=16), **HARSH, trusted_proxies=trusted, tiers=("127.0.0.9",)) as tap:
            replies = [
                await tap.ask(peer="127.0.0.1", headers={"x-forwarded-for": f"fd00::{n}, 127.0.0.9"}) for n in range(3)
            ]
            assert [reply.status for reply in replies] == [200, 429, 429]
            assert len({line["client"] for line in tap.asks}) == 1

    run(scene())


def test_waiting_below_is_no_silence():
    """Heartbeats of the lower tier keep its ask alive, and the client sees the upper one's own."""

    async def scene():
        engine = Scripted(Script(slots=1, tokens=40, rate=1))
        async with (
            listening(engine, **LOOPBACK) as (_, url),
            before(url, first_token_timeout=15, stall_timeout=15) as upper,
        ):
            first, second = await sixteen(upper, SIXTEEN[:2], stream=True)
            for reply in (first, second):
                assert (reply.status, reply.end_kind) == (200, "end")
                assert len(reply.text.split()) == 40
            assert [line["attempts"] for line in upper.asks] == [1, 1]

    run(scene())
