"""With log_level = debug, the log tells each step of a request when it happens."""

import asyncio

from standpipe.engines.scripted.script import Fault, FaultKind, Script
from tests.serve.driver import Reply, scene


def steps(tap, request_id):
    """The steps of one request, each with its instant."""
    found = [line for line in tap.lines if line.get("id") == request_id and line["event"] != "request"]
    assert {line["level"] for line in found} == {"debug"}
    return [(line["event"].removeprefix("request "), line["at"]) for line in found]


@scene(Script(tokens=4, rate=2, first=1.5, slots=1), pace_interval=0.5, log_level="debug")
async def test_each_step_is_told_with_its_instant(tap):
    running = tap.leaving(Reply())
    await asyncio.sleep(0.1)
    waiting = await tap.ask()
    await running
    first = steps(tap, running.result().headers["x-request-id"])
    second = steps(tap, waiting.headers["x-request-id"])
    names = ["arrived", "queued", "granted", "attempt", "first token", "settled"]
    assert [name for name, _ in first] == [name for name, _ in second] == names
    assert dict(first) == {"arrived": 0, "queued": 0, "granted": 0, "attempt": 0, "first token": 1.5, "settled": 3.0}
    assert dict(second)["granted"] == 2.9


@scene(Script(tokens=4, fault=Fault(FaultKind.STATUS, 502)), log_level="debug")
async def test_every_attempt_is_told(tap):
    reply = await tap.ask()
    told = [line for line in tap.lines if line["event"] == "request attempt"]
    assert [line["number"] for line in told] == [1, 2, 3]
    assert {line["engine"] for line in told} == {"scripted"}
    assert reply.headers["x-standpipe-attempts"] == "3"


@scene(Script(tokens=4))
async def test_nothing_of_it_is_told_or_kept_otherwise(tap):
    await tap.ask()
    assert [line["event"] for line in tap.lines] == ["default model", "request"]
