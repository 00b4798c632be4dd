"""The headers that every answer owes its client, whatever became of the request."""

import asyncio

import pytest

from standpipe.engines.engine import NeedsTemplate
from standpipe.engines.guard.guarded import Guarded
from standpipe.engines.scripted.script import Fault, FaultKind, Script
from standpipe.engines.scripted.scripted import Scripted
from tests.serve.driver import Tap, scene
from tests.virtual import run

PATHS = {
    "/api": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/completions": {"prompt": "hello"},
    "/v1/responses": {"input": "hello"},
    "/v1/embeddings": {"input": "hello"},
    "/v1/messages": {"max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]},
    "/api/chat": {"messages": [{"role": "user", "content": "hello"}]},
    "/api/generate": {"prompt": "hello"},
}
ANSWERS = sorted(set(PATHS) - {"/v1/embeddings"})


def owed(reply, *, attempts, waited=0.0, within=0.001, dropped="grammar"):
    headers = reply.headers
    assert headers["x-request-id"]
    assert headers["access-control-allow-origin"] == "*"
    assert headers["x-standpipe-attempts"] == str(attempts)
    assert float(headers["x-standpipe-waited"]) == pytest.approx(waited, abs=within)
    assert {name for name in headers if name.startswith("x-ratelimit-")} == {
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    }
    assert headers.get("x-standpipe-dropped") == dropped


@pytest.mark.parametrize("path", ANSWERS)
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_tells_its_wait_its_attempts_and_what_is_left(path, stream):
    @scene(Script(tokens=2, fault=Fault(FaultKind.STATUS, 502), faults=1))
    async def check(tap):
        reply = await tap.send("POST", path, PATHS[path] | {"stream": stream, "grammar": "x"})
        assert reply.status == 200
        owed(reply, attempts=2, within=0.25)  # before the second attempt

    check()


@pytest.mark.parametrize("path", ANSWERS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_502_tells_them_too(path, stream):
    @scene(Script(fault=Fault(FaultKind.STATUS, 502)))
    async def check(tap):
        reply = await tap.send("POST", path, PATHS[path] | {"stream": stream, "grammar": "x"})
        assert reply.status == 502
        owed(reply, attempts=3, within=0.75)
        # An SDK that tried again would multiply what has been tried.
        assert reply.headers["x-should-retry"] == "false"

    check()


@pytest.mark.parametrize("path", sorted(PATHS))
def test_a_refusal_tells_them_too(path):
    @scene(Script(tokens=1), pace_interval=1, pace_waiting=0)
    async def check(tap):
        await tap.ask()
        reply = await tap.send("POST", path, PATHS[path] | {"grammar": "x"})
        assert reply.status == 429
        owed(reply, attempts=0, dropped=None)  # refused before it was read
        assert reply.headers["x-ratelimit-remaining-requests"] == "0"

    check()


@scene(Script(tokens=100, rate=1, slots=1), pace_interval=0.5, wait_limit=20)
async def test_a_503_after_a_wait_tells_how_long_it_was(tap):
    first = asyncio.create_task(tap.ask(peer="198.51.100.1"))
    await asyncio.sleep(0.1)
    reply = await tap.ask(stream=False, grammar="x")
    assert reply.status == 503
    owed(reply, attempts=0, waited=20)
    await first


@scene(Script(fault=Fault(FaultKind.HANG)), first_token_timeout=10, attempts=1, commit_after=20)
async def test_a_504_tells_them_too(tap):
    reply = await tap.ask(grammar="x")
    assert reply.status == 504
    owed(reply, attempts=1)


@pytest.mark.parametrize("path", sorted(PATHS))
def test_a_request_that_cannot_be_read_has_waited_and_was_never_attempted(path):
    @scene(Script(), body_limit=100)
    async def check(tap):
        for body, status in ((b"{", 400), (b"x" * 101, 413)):
            reply = await tap.send("POST", path, body)
            assert reply.status == status
            assert reply.headers["x-standpipe-attempts"] == "0"
            assert reply.headers["x-standpipe-waited"] == "0.000"
            assert reply.headers["x-ratelimit-remaining-requests"] == "8"  # the fault counted

    check()


@pytest.mark.parametrize("path", sorted(PATHS))
def test_faults_are_paced_like_requests_and_read_no_faster(path):
    """Reading costs the loop time before there is anything to queue: nobody may have it without end."""

    @scene(Script(tokens=1), pace_interval=1, pace_waiting=3)
    async def check(tap):
        statuses = [(await tap.send("POST", path, b"{")).status for _ in range(8)]
        assert statuses == [400] * 4 + [429] * 4
        assert (await tap.send("POST", path, b"{", peer="198.51.100.9")).status == 400
        await asyncio.sleep(1)
        assert (await tap.send("POST", path, PATHS[path])).status != 429

    check()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api", 200), ("GET", "/v1/models", 200), ("GET", "/nowhere", 404), ("PUT", "/api", 405)],
)
def test_what_asks_no_engine_carries_an_id_and_nothing_of_an_ask(method, path, status):
    @scene(Script())
    async def check(tap):
        reply = await tap.send(method, path)
        assert reply.status == status
        assert reply.headers["x-request-id"]
        assert reply.headers["access-control-allow-origin"] == "*"
        assert not any(name.startswith(("x-standpipe", "x-ratelimit")) for name in reply.headers)

    check()


@scene(Script())
async def test_whoever_is_turned_away_before_there_is_a_request_has_an_id_too(tap):
    refusal = tap.app.guard.refuse(408, "Too slow.")
    assert dict(refusal.headers)[b"x-request-id"].decode() in refusal.body.decode()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("POST", path, 400) for path in sorted(PATHS)),
        *(("PUT", path, 405) for path in sorted(PATHS)),
        ("POST", "/v1/messages/count_tokens", 400),
        ("POST", "/api/show", 404),
        ("POST", "/api/pull", 403),
        ("GET", "/v1/models/none", 404),
        ("DELETE", "/v1/models", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/v1/nowhere", 404),
    ],
)
def test_an_error_tells_the_id_beside_error_whatever_the_path(method, path, status):
    @scene(Script(), strict_models=True)
    async def check(tap):
        reply = await tap.send(method, path, {"messages": 3, "input": 3, "prompt": 3} if status == 400 else {})
        assert reply.status == status
        assert "error" in reply.json
        assert reply.json["request_id"] == reply.headers["x-request-id"]

    check()


class Templating(Scripted):
    """Continues no text."""

    async def answer(self, ask, sink):
        if ask.raw:
            raise NeedsTemplate
        await super().answer(ask, sink)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("kind", "dropped"), [(Templating, "grammar, raw"), (Scripted, "grammar")])
def test_a_raw_prompt_that_was_answered_like_a_question_is_told(kind, dropped, stream):
    async def check():
        async with Tap(engines=[Guarded(kind(Script(tokens=2)))]) as tap:
            for path, body in (("/v1/completions", {}), ("/api/generate", {"raw": True})):
                reply = await tap.send("POST", path, {"prompt": "x", "stream": stream, "grammar": "x", **body})
                assert reply.status == 200
                assert reply.headers["x-standpipe-dropped"] == dropped

    run(check())
