"""What Anthropic's and Ollama's paths do beside their dialects, and how failures look on them."""

import asyncio
import json

import pytest

from standpipe.chat.errors import Forbidden
from standpipe.engines.scripted.script import Fault, FaultKind, Script
from tests.serve.driver import scene

HELLO = [{"role": "user", "content": "Hello!"}]
MESSAGE = {"max_tokens": 50, "messages": HELLO}


async def sized(tap, path, body):
    """A request with a length, as nearly every client sends it."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await tap.send("POST", path, data, {"content-length": str(len(data))})


# Anthropic


@scene(Script(tokens=5, model="gpt-oss:latest"))
async def test_a_message_is_answered_and_logged_under_its_dialect(tap):
    reply = await tap.send(
        "POST", "/v1/messages", MESSAGE, {"x-api-key": "sk-secret", "anthropic-version": "2023-06-01"}
    )
    assert reply.json["type"] == "message"
    assert reply.headers["request-id"] == reply.headers["x-request-id"]
    assert tap.asks[-1]["dialect"] == "anthropic"
    assert "secret" not in tap.log.getvalue()


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_every_failure_has_anthropics_shape_and_the_id(path):
    @scene(Script(), body_limit=1024)
    async def check(tap):
        for method, body, status, kind in (
            ("POST", {"messages": 3}, 400, "invalid_request_error"),
            ("POST", b"x" * 2000, 413, "request_too_large"),
            ("GET", b"", 405, "invalid_request_error"),
        ):
            reply = await tap.send(method, path, body)
            assert (reply.status, reply.json["error"]["type"]) == (status, kind)
            assert reply.json["request_id"] == reply.headers["x-request-id"]

    check()


@scene(Script(fault=Fault(FaultKind.STATUS, 500)), attempts=1)
async def test_an_early_failure_keeps_its_status_on_a_stream(tap):
    reply = await tap.send("POST", "/v1/messages", MESSAGE | {"stream": True})
    assert (reply.status, reply.json["error"]["type"]) == (502, "api_error")


@scene(Script(first=100.0, slots=1), pace_interval=0, queue_total=1)
async def test_a_full_line_is_an_overload(tap):
    waiting = [tap.leaving(None, peer=f"192.0.2.{n}") for n in range(2)]
    await asyncio.sleep(0.01)
    reply = await tap.send("POST", "/v1/messages", MESSAGE, peer="192.0.2.9")
    assert (reply.status, reply.json["error"]["type"]) == (503, "overloaded_error")
    assert reply.headers["retry-after"]
    for task in waiting:
        task.cancel()


@scene(Script(tokens=5))
async def test_a_count_grows_with_whatever_a_model_must_read(tap):
    async def count(**more):
        reply = await tap.send("POST", "/v1/messages/count_tokens", {"messages": HELLO, **more})
        assert set(reply.json) == {"input_tokens", "estimated"}
        return reply.json["input_tokens"]

    few = await count()
    assert few >= 1
    assert await count(system="Be brief. " * 20) > few + 20
    tool = {"name": "f", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    assert await count(tools=[tool]) > few + 10
    assert not tap.asks  # nobody is asked


def test_a_count_has_the_operators_prompt_in_it():
    counts = []
    for prompt in ("", "Speak like a pirate, and mention the sea in every sentence. " * 5):

        @scene(Script(), system_prompt=prompt)
        async def check(tap):
            reply = await tap.send("POST", "/v1/messages/count_tokens", {"messages": HELLO})
            counts.append(reply.json["input_tokens"])

        check()
    assert counts[1] > counts[0] + 50


# Ollama


@scene(Script(tokens=5, model="gpt-oss:latest"))
async def test_a_question_that_asks_nothing_loads_a_model_that_is_there(tap):
    for path, body in (
        ("/api/chat", {"model": "x"}),
        ("/api/chat", {"model": "x", "messages": []}),
        ("/api/generate", {"model": "gpt-oss:latest", "prompt": ""}),
        ("/api/generate", {}),
    ):
        reply = await sized(tap, path, body)
        assert (reply.status, reply.json["done"], reply.json["done_reason"]) == (200, True, "load")
        assert reply.json["model"] == "gpt-oss:latest"
    assert not any("engine" in ask for ask in tap.asks)


@scene(Script(tokens=5))
async def test_a_question_is_answered_however_its_body_came(tap):
    body = {"prompt": "Hello!", "stream": False}
    with_length = await sized(tap, "/api/generate", body)
    chunked = await tap.send("POST", "/api/generate", body)
    long = await sized(tap, "/api/generate", body | {"system": "x" * 5000})
    assert [len(reply.json["response"].split()) for reply in (with_length, chunked, long)] == [5, 5, 5]
    assert [ask["dialect"] for ask in tap.asks] == ["ollama_generate"] * 3


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages": 3}', b'{"messages": [{"role": "king"}]}'])
def test_a_bad_question_is_a_400_in_ollamas_shape_and_logged(body):
    @scene(Script())
    async def check(tap):
        reply = await sized(tap, "/api/chat", body)
        assert reply.status == 400
        assert list(reply.json) == ["error", "request_id"]
        assert tap.asks[-1]["status"] == 400

    check()


@scene(Script(tokens=3))
async def test_a_stream_is_lines(tap):
    reply = await sized(tap, "/api/chat", {"messages": HELLO})
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["done"] for line in reply.body.splitlines()] == [False, False, False, True]


@scene(Script(tokens=9, rate=100, fault=Fault(FaultKind.CUT, 2)))
async def test_a_cut_ends_in_an_error_and_uncleanly(tap):
    reply = await sized(tap, "/api/chat", {"messages": HELLO})
    assert list(json.loads(reply.body.splitlines()[-1])) == ["error", "request_id"]
    assert reply.end_kind == "abort"


@scene(Script(model="gpt-oss:latest"))
async def test_a_model_is_shown_by_either_spelling_and_with_or_without_its_tag(tap):
    for body in ({"model": "gpt-oss:latest"}, {"name": "gpt-oss"}, {"model": "gpt-oss", "verbose": True}):
        assert (await tap.send("POST", "/api/show", body)).json["capabilities"]
    for body in ({"model": "other"}, {}):
        assert (await tap.send("POST", "/api/show", body)).status == 404
    for wrong in (b"", b"[]", b'{"model": 3}'):
        assert (await tap.send("POST", "/api/show", wrong)).status == 400
    assert (await tap.send("POST", "/api/show", b"x" * 5000)).status == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/pull"),
        ("POST", "/api/push"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("HEAD", "/api/blobs/sha256:abc"),
        ("POST", "/api/blobs/sha256:abc"),
    ],
)
def test_what_changes_models_is_forbidden_with_a_reason(method, path):
    @scene(Script())
    async def check(tap):
        reply = await tap.send(method, path, {"model": "x"})
        assert reply.status == Forbidden.status
        assert "operator" in reply.json["error"]

    check()


@scene(Script(model="m"))
async def test_the_small_answers(tap):
    assert (await tap.send("GET", "/api/tags")).json["models"][0]["name"] == "m"
    assert (await tap.send("GET", "/api/ps")).json["models"][0]["name"] == "m"
    assert (await tap.send("GET", "/api/version")).json["version"]
