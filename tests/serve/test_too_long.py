"""A prompt that is too long is refused in each API's own words: agents shorten their conversation by them, or give up.

What they look for was read in the sources of Claude Code 2.1 and 1.0 (`prompt is too long: N tokens > M maximum`, and
those words in any error) and Codex 0.9x (a response that failed with `context_length_exceeded`; a status ends it).
"""

from __future__ import annotations

import pytest

from standpipe.chat.errors import ContextTooLong
from standpipe.engines.scripted.script import Script
from standpipe.engines.scripted.scripted import Scripted
from tests.serve.driver import Tap, scene
from tests.virtual import run

ASKS = {
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/responses": {"input": "hi"},
    "/api/chat": {"messages": [{"role": "user", "content": "hi"}]},
}


class Small(Scripted):
    """An engine whose window everything exceeds."""

    async def answer(self, *_: object) -> None:
        raise ContextTooLong.of(5000, 4096)


def refused(path, **fields):
    """The answer of a house whose engine takes nothing."""

    async def play():
        async with Tap(engines=[Small(Script())]) as tap:
            reply = await tap.send("POST", path, ASKS[path] | fields)
            assert tap.asks[-1]["failure"] == "ContextTooLong"
            return reply

    return run(play())


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic(stream):
    reply = refused("/v1/messages", stream=stream)
    assert reply.status == 400
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert reply.json["error"]["message"] == "prompt is too long: 5000 tokens > 4096 maximum"


@pytest.mark.parametrize("stream", [False, True])
def test_openai(stream):
    reply = refused("/v1/chat/completions", stream=stream)
    assert reply.status == 400
    assert reply.json["error"]["code"] == "context_length_exceeded"
    assert reply.json["error"]["param"] == "messages"
    assert "maximum context length is 4096 tokens" in reply.json["error"]["message"]


def test_responses():
    reply = refused("/v1/responses")
    assert (reply.status, reply.json["error"]["code"]) == (400, "context_length_exceeded")
    assert reply.json["error"]["param"] == "input"


def test_responses_in_a_stream_that_ends_well():
    reply = refused("/v1/responses", stream=True)
    assert (reply.status, reply.end_kind) == (200, "end")
    assert reply.headers["content-type"] == "text/event-stream"
    assert b"event: response.failed\n" in reply.body
    assert b'"code":"context_length_exceeded"' in reply.body


@pytest.mark.parametrize("stream", [False, True])
def test_ollama(stream):
    reply = refused("/api/chat", stream=stream)
    assert reply.status == 400
    assert reply.json["error"].startswith("the input length exceeds the context length")


@pytest.mark.parametrize("path", ASKS)
def test_a_body_that_is_too_large_is_a_prompt_that_is_too_long(path):
    @scene(Script(), body_limit=1024)
    async def play(tap):
        reply = await tap.send("POST", path, b"x" * 2000)
        assert reply.status == 413
        assert b"the prompt is too long" in reply.body
        assert (b"request_too_large" in reply.body) == (path == "/v1/messages")
        streamed = await tap.send("POST", path, b"x" * 2000, {"accept": "text/event-stream"})
        if path != "/v1/responses":
            assert streamed.status == 413
            return
        assert (streamed.status, streamed.end_kind) == (200, "end")
        assert b'"code":"context_length_exceeded"' in streamed.body
        assert tap.asks[-1]["status"] == 413

    play()
