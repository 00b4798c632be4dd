"""Paths as people and clients type them: served where they can mean only one thing, else told where it is."""

import pytest

from standpipe.engines.scripted.script import Script
from tests.serve.driver import scene

CHAT = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
SOCKET = {"connection": "Upgrade", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version": "13"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "//v1/chat/completions"),
        ("POST", "/v1//chat//completions/"),
        ("POST", "/chat/completions"),
        ("POST", "/v1/v1/chat/completions"),
        ("POST", "/messages"),
        ("POST", "/v1/v1/messages"),
        ("POST", "/messages/count_tokens"),
        ("POST", "/v1/api/chat"),
        ("POST", "//api/chat/"),
        ("POST", "/api/"),
        ("GET", "/models"),
        ("GET", "/models/"),
        ("GET", "/v1/models/"),
        ("GET", "/models/scripted"),
        ("GET", "//v1/models/scripted"),
        ("GET", "/v1/api/tags"),
        ("GET", "//api/version"),
    ],
)
def test_a_path_that_can_mean_only_one_is_served(method, path):
    @scene(Script(tokens=3))
    async def check(tap):
        reply = await tap.send(method, path, CHAT if method == "POST" else b"")
        assert reply.status == 200

    check()


@scene(Script(tokens=3))
async def test_responses_are_served_without_their_version(tap):
    reply = await tap.send("POST", "/responses", {"input": "Hello!"})
    assert (reply.status, reply.json["object"]) == (200, "response")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/openai/deployments/x/chat/completions", "/v1/chat/completions"),
        ("/v2/chat/completions", "/v1/chat/completions"),
        ("/anthropic/v1/messages", "/v1/messages"),
        ("/api/v1/models", "/v1/models"),
        ("/ollama/api/chat", "/api/chat"),
        ("/tags", "/api/tags"),
        ("/health", "/healthz"),
        ("/health/", "/healthz"),
    ],
)
def test_any_other_is_told_what_it_resembles(path, told):
    @scene(Script())
    async def check(tap):
        reply = await tap.send("GET", path)
        error = reply.json["error"]
        assert reply.status == 404
        assert told in (error if isinstance(error, str) else error["message"])

    check()


@pytest.mark.parametrize("path", ["/nothing", "/a/b/c/d/e/f/g/h/i/j/k", "//", "/v1", "/v1/v1", "/%"])
def test_what_resembles_nothing_is_a_plain_404(path):
    @scene(Script())
    async def check(tap):
        reply = await tap.send("POST", path)
        assert reply.status in {404, 405}
        assert "Did you mean" not in reply.body.decode()

    check()


@scene(Script())
async def test_unknown_paths_have_the_shape_of_those_beside_them(tap):
    assert isinstance((await tap.send("GET", "/api/nothing")).json["error"], str)
    assert (await tap.send("POST", "/v1/messages/batches")).json["type"] == "error"
    assert (await tap.send("POST", "/v1/nothing")).json["error"]["code"] == "not_found"


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", ["scripted", "gpt-4o", "openai/gpt-4o", "a:b", "x/y/z", "model "])
def test_a_model_is_told_exactly_where_a_post_serves_its_name(name, strict):
    @scene(Script(tokens=3), strict_models=strict)
    async def check(tap):
        asked = await tap.send("POST", "/v1/chat/completions", CHAT | {"model": name})
        told = await tap.send("GET", f"/v1/models/{name}")
        assert told.status == asked.status == (404 if strict and name != "scripted" else 200)
        if told.status == 200:
            assert told.json["id"] == asked.json["model"]

    check()


@pytest.mark.parametrize("path", ["/v1/responses", "/responses", "/v1/chat/completions"])
def test_there_is_no_websocket_and_a_client_is_told_at_once(path):
    @scene(Script())
    async def check(tap):
        opening = await tap.send("GET", path, headers=SOCKET)
        assert (opening.status, opening.json["error"]["code"]) == (426, "websocket_unsupported")
        assert opening.headers["upgrade"] == "HTTP/1.1"
        assert opening.headers["x-should-retry"] == "false"
        plain = await tap.send("GET", path)
        assert (plain.status, plain.headers["allow"]) == (405, "POST, OPTIONS")

    check()


@scene(Script())
async def test_a_get_is_answered_as_one_whatever_else_was_wished(tap):
    assert (await tap.send("GET", "/v1/models", headers=SOCKET)).status == 200


@scene(Script(tokens=3))
async def test_a_message_starts_with_an_estimate_of_its_input(tap):
    def started(reply):
        frame = next(
            line for line in reply.body.split(b"\n") if b'"message_start"' in line and line.startswith(b"data")
        )
        return int(frame.split(b'"input_tokens":')[1].split(b",")[0])

    body = CHAT | {"stream": True}
    short = await tap.send("POST", "/v1/messages", body)
    long = await tap.send("POST", "/v1/messages", body | {"messages": [{"role": "user", "content": "word " * 2000}]})
    counted = await tap.send("POST", "/v1/messages/count_tokens", {"messages": CHAT["messages"]})
    assert started(short) > 0
    assert abs(started(short) - counted.json["input_tokens"]) <= 20
    assert 500 < started(long) < 5000
