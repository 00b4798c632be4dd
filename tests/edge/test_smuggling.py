"""Requests that have two readings are refused, and nothing behind them is ever taken for a request.

Each case (see `tests/hostile`) is followed by what an attacker would like to have answered.
"""

from __future__ import annotations

import pytest

from standpipe.edge.config import EdgeConfig
from tests.edge.rig import run
from tests.hostile.corpus import cases, raw

PRIZE = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
SMUGGLING = cases("smuggling")


def named(at):
    return [name for name, case in SMUGGLING.items() if case["at"] == at]


def chunked(body):
    return b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body


class Handler:
    """Says what body it got, and remembers every path."""

    def __init__(self):
        self.paths = []

    async def __call__(self, request, reply):
        self.paths.append(request.path)
        body = await request.body(10_000)
        reply.start(200, [(b"content-length", b"%d" % len(body))])
        reply.write(body)
        reply.end()


def attack(loop, data, statuses):
    handler = Handler()

    async def scene(rig):
        client = await rig.connect()
        client.send(data + PRIZE)
        answer = await client.answer()
        assert answer.status in statuses
        assert await client.rest() == b"", "a second answer"

    run(loop, handler, scene, config=EdgeConfig(linger=0.02))
    assert "/smuggled" not in handler.paths
    return handler


@pytest.mark.parametrize("name", named("head"))
def test_a_head_with_two_readings_is_refused(loop, name):
    case = SMUGGLING[name]
    assert not attack(loop, raw(case["send"]), case.get("status", [400])).paths


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("name", named("chunks"))
def test_a_body_with_two_readings_is_refused(loop, name, at_once):
    body = raw(SMUGGLING[name]["send"])
    attack(loop, chunked(body if at_once else b"1\r\nx\r\n" + body), [400])
