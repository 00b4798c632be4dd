"""What a client is told of its limits, and shares of one address."""

import asyncio

import pytest

from standpipe.engines.scripted.script import Script
from standpipe.policy.identity import ClientKey
from standpipe.policy.pace import Peek, Rate
from standpipe.serve.limits import pace_headers
from tests.serve.driver import Reply, scene


@scene(Script(tokens=100, rate=1, slots=1), pace_interval=0.5)
async def test_a_client_sees_itself_its_pace_its_asks_and_the_caps(tap):
    asks = [tap.leaving(Reply(), peer="203.0.113.9") for _ in range(3)]
    await asyncio.sleep(0.1)
    reply = await tap.send("GET", "/api/limits", peer="203.0.113.9")
    told = reply.json
    assert told["client"] == {"address": "203.0.113.x", "seen_in": "peer", "share": None}
    assert told["rate_limit"]["interval_seconds"] == 0.5
    assert told["rate_limit"]["free_in_seconds"] == pytest.approx(1.4)
    assert [request["position"] for request in told["requests"]] == [1, 2]
    assert told["caps"]["queue_per_client"] == 8
    other = (await tap.send("GET", "/api/limits", peer="198.51.100.1")).json
    assert other["requests"] == []
    assert other["rate_limit"]["free_in_seconds"] == 0
    for ask in asks:
        ask.cancel()
    await asyncio.gather(*asks, return_exceptions=True)


@scene(Script(tokens=1))
async def test_every_answer_tells_what_is_left_of_the_pace(tap):
    replies = await asyncio.gather(*(tap.ask(stream=False) for _ in range(10)))
    (refused,) = [reply for reply in replies if reply.status == 429]
    last = replies[8]
    assert {reply.headers["x-ratelimit-limit-requests"] for reply in replies} == {"9"}
    # Nine were reserved when the tenth was refused; when the last of them is answered, one interval is left.
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-reset-requests"] == "4.5s"
    assert last.headers["x-ratelimit-remaining-requests"] == "8"
    assert last.headers["x-ratelimit-reset-requests"] == "500ms"


@pytest.mark.parametrize(
    ("microseconds", "text"), [(0, b"0ms"), (1, b"1ms"), (999_001, b"1000ms"), (1_500_000, b"1.5s"), (3_000_000, b"3s")]
)
def test_durations_are_written_as_openai_does(microseconds, text):
    found = dict(pace_headers(Peek(microseconds, 1), 0, Rate()))
    assert found[b"x-ratelimit-reset-requests"] == text


@scene(Script(tokens=10, rate=1, slots=1), pace_interval=0.5)
async def test_impatience_is_429_for_ones_own_pace_and_503_for_our_capacity(tap):
    running = tap.leaving(Reply(), peer="192.0.2.1")
    await asyncio.sleep(0.1)
    own = await tap.ask(peer="192.0.2.1", headers={"prefer": "wait=0"})
    ours = await tap.ask(peer="198.51.100.1", headers={"prefer": "respond-async, wait=0"})
    assert (own.status, ours.status) == (429, 503)
    await running
    free = await tap.ask(peer="198.51.100.2", headers={"prefer": "wait=0"})
    assert free.status == 200


@scene(Script(tokens=4, rate=1, slots=1), pace_interval=0)
async def test_a_callers_own_deadline_is_held_before_anything_is_sent(tap):
    await tap.ask(peer="192.0.2.1", stream=False)  # something has been measured
    running = [tap.leaving(Reply(), peer=f"203.0.113.{n}") for n in range(4)]
    await asyncio.sleep(0.1)
    reply = await tap.ask(peer="198.51.100.1", headers={"x-stainless-read-timeout": "2"})
    assert reply.status == 503
    assert reply.json["error"]["code"] == "wait_too_long"
    await asyncio.gather(*running)


@scene(Script(tokens=4, rate=1, slots=1), pace_interval=0)
async def test_an_automatic_retry_takes_the_place_of_the_ask_that_it_repeats(tap):
    running = tap.leaving(Reply(), peer="192.0.2.1")
    await asyncio.sleep(0.1)
    first = tap.leaving(Reply(), peer="198.51.100.1", said="mine")
    await asyncio.sleep(0.1)
    others = [tap.leaving(Reply(), peer=f"203.0.113.{n}") for n in range(3)]
    await asyncio.sleep(0.1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    again = tap.leaving(Reply(), peer="198.51.100.1", said="mine", headers={"x-stainless-retry-count": "1"})
    await asyncio.sleep(0)
    (place,) = tap.center.line.asks(ClientKey("198.51.100.1", "198.51.100.0/24"))
    assert tap.center.line.forecast(place, 0.3).position == 1
    await asyncio.gather(running, again, *others)


@scene(Script(tokens=1), shares=True)
async def test_a_share_is_given_told_and_counts_under_its_address(tap):
    given = (await tap.send("POST", "/api/share", peer="203.0.113.9")).json
    headers = {given["header"]: given["share"]}
    told = (await tap.send("GET", "/api/limits", headers=headers, peer="203.0.113.9")).json
    assert told["client"]["share"]
    elsewhere = (await tap.send("GET", "/api/limits", headers=headers, peer="198.51.100.1")).json
    assert elsewhere["client"]["share"] is None
    assert (await tap.ask(stream=False, peer="203.0.113.9", headers=headers)).status == 200


@scene(Script(tokens=1))
async def test_without_the_setting_there_are_no_shares(tap):
    assert (await tap.send("POST", "/api/share")).status == 404


@scene(Script(tokens=1, slots=64), pace_interval=0)
async def test_a_proxy_that_nobody_trusts_raises_the_alarm(tap):
    for n in range(200):
        await tap.ask(stream=False, peer="192.0.2.1", headers={"x-forwarded-for": f"203.0.113.{n}"})
    warnings = [line["warning"] for line in tap.lines if line["event"].startswith(("most requests", "requests carry"))]
    assert sorted(warnings) == ["one_address", "untrusted_proxy"]
    assert any("trusted_proxies" in warning for warning in tap.app.board.about().warnings)
    assert "standpipe_proxy_warnings 2.0" in tap.center.metrics.page().decode()
