"""What `standpipe top` draws, and what it says where there is nothing to draw."""

import io
import re

import pytest
from msgspec.structs import replace
from rich.console import Console

from standpipe.engines.scripted.script import Script
from standpipe.observe.about import OperatorStatus
from standpipe.terminal import top
from tests.serve.driver import Reply, Request, Tap
from tests.virtual import run


async def told(tap):
    reply = Reply()
    await tap.center.admin(Request("GET", "/top", b"", {"host": "localhost"}, "127.0.0.1"), reply)
    return reply


def drawn(shown, width=100, height=40):
    out = io.StringIO()
    Console(file=out, width=width, height=height, force_terminal=False).print(top.picture(shown, width, height))
    return out.getvalue()


def test_the_line_the_engines_and_the_clients_are_shown_by_their_hashes():
    import asyncio

    import msgspec

    async def scene():
        async with Tap(Script(tokens=100, rate=10, slots=1), pace_interval=0.0) as tap:
            asks = [asyncio.ensure_future(tap.ask(peer=f"192.0.2.{i % 2}")) for i in range(3)]
            await asyncio.sleep(5)
            reply = await told(tap)
            hashed = {line["client"] for line in tap.asks}
            await asyncio.gather(*asks)
            hashed = {line["client"] for line in tap.asks}
            return reply.body, hashed

    body, hashed = run(scene())
    assert b"192.0.2" not in body
    shown = msgspec.json.decode(body, type=OperatorStatus)
    assert (shown.queue.waiting, shown.queue.running, shown.queue.slots) == (2, 1, 1)
    assert {client.client for client in shown.clients} == hashed
    assert sum(client.waiting for client in shown.clients) == 2
    (engine,) = shown.engines
    away = replace(engine, name="away", up=False, reason="The engine cannot be reached.")
    picture = drawn(replace(shown, engines=(engine, away, replace(engine, draining=True))))
    assert re.search(r"away +down .* The engine cannot be reached\.", picture)
    assert re.search(r"scripted +up .* draining", picture)
    assert re.search(r"Queued +2 +▁", picture)
    for word in ("Standpipe is up", "1/1", *hashed):
        assert word in picture


def test_a_picture_fits_a_narrow_terminal():
    import msgspec

    async def scene():
        async with Tap(Script(tokens=5)) as tap:
            await tap.ask()
            return (await told(tap)).body

    picture = drawn(msgspec.json.decode(run(scene()), type=OperatorStatus), width=80, height=24)
    assert all(len(line.rstrip()) <= 80 for line in picture.splitlines())
    assert "…" not in picture
    assert re.search(r"Requests in the last hour +1\n", re.sub(r" +\n", "\n", picture))


def test_sparks_have_the_highest_bar_full():
    assert top.sparks([0, 1, 2, 4]) == "▁▂▄█"
    assert top.sparks([0, 0]) == "▁▁"
    assert top.sparks([None, 4.0]) == "▁█"
    assert top.sparks([]) == ""


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense"])
def test_where_there_is_nothing_it_says_so(url):
    out = io.StringIO()
    assert top.run(url, once=True, console=Console(file=out, width=200)) == 1
    assert "standpipe:" in out.getvalue()
