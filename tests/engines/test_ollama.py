"""A native Ollama as an engine, pretended byte by byte on real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from standpipe.chat.ask import Ask, Effort, EmbedAsk, Message, Role, Text
from standpipe.chat.errors import ContextTooLong, EngineFailed, InvalidAsk, Unsupported
from standpipe.chat.events import Finished, FinishReason, Started, TextDelta, Timings, ToolCallDelta, Usage
from standpipe.engines.upstream import Ollama
from standpipe.http_client.client import Client
from tests.engines.peers import Peer, Script, counts, engine, run_on_uvloop, turns
from tests.virtual import Collected
from tests.virtual import run as run_virtually

ASK = Ask((Message(Role.USER, (Text("hi"),)),))
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


@pytest.fixture(params=[run_virtually, run_on_uvloop], ids=["stdlib", "uvloop"])
def run(request):
    return request.param


def line(**fields: Any) -> bytes:
    data = json.dumps({"model": "real", **fields}).encode() + b"\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def said(text: str) -> bytes:
    return line(message={"role": "assistant", "content": text}, done=False)


DONE = line(
    message={"role": "assistant", "content": ""},
    done=True,
    done_reason="stop",
    prompt_eval_count=3,
    eval_count=2,
    prompt_eval_duration=500_000_000,
    eval_duration=1_000_000_000,
)
WHOLE = STREAM + said("Hel") + said("lo") + DONE + END
EVENTS = [
    Started("real"),
    TextDelta("Hel"),
    TextDelta("lo"),
    Finished(FinishReason.STOP, Usage(3, 2), Timings(0.5, 1.0)),
]


def plain(status: int, body: Any, type_: str = "application/json") -> bytes:
    data = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        type_.encode(),
        len(data),
        data,
    )


def replies(*answers: bytes) -> Script:
    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            peer.send(answer)
        await peer.gone()

    return script


async def using(script: Script, what: Any, model: str | None = "m") -> Any:
    """Whatever is done with an Ollama that follows a script."""
    async with engine(script) as it:
        client = Client(it.url.removesuffix("/v1"))
        ollama = Ollama("ollama://pretended", client, slots=1, models=() if model is None else (model,))
        try:
            return await what(ollama)
        finally:
            await ollama.close()


async def ask_once(script: Script, ask: Ask = ASK, sink: Collected | None = None, **options: Any) -> Collected:
    sink = sink or Collected()
    await using(script, lambda ollama: ollama.answer(ask, sink), **options)
    return sink


def test_a_stream_becomes_events_and_the_connection_is_kept(run):
    async def scene():
        async def twice(ollama):
            sinks = [Collected(), Collected()]
            for sink in sinks:
                await ollama.answer(ASK, sink)
            return sinks, counts(ollama._client)

        return await using(replies(WHOLE, WHOLE), twice)

    sinks, statistics = run(scene())
    for sink in sinks:
        assert sink.events == EVENTS
        assert sink.flow is None
    assert (statistics.opened, statistics.reused) == (1, 1)


def test_the_native_path_is_asked_in_the_native_format(run):
    asked = []

    async def script(peer):
        first, _, body = await peer.request()
        asked.append((first, json.loads(body)))
        peer.send(WHOLE)
        await peer.gone()

    async def scene():
        return await ask_once(script, Ask(ASK.messages, effort=Effort.NONE), model="qwen3")

    run(scene())
    ((first, body),) = asked
    assert first == "POST /api/chat HTTP/1.1"
    assert (body["model"], body["stream"], body["think"]) == ("qwen3", True, False)


def test_a_raw_prompt_goes_where_no_template_is(run):
    asked = []
    end = line(response="", done=True, done_reason="length", prompt_eval_count=1, eval_count=1)

    async def script(peer):
        first, _, body = await peer.request()
        asked.append((first, json.loads(body)))
        peer.send(STREAM + line(response=" there", done=False) + end + END)
        await peer.gone()

    sink = run(ask_once(script, Ask(ASK.messages, raw=True)))
    ((first, body),) = asked
    assert first == "POST /api/generate HTTP/1.1"
    assert (body["prompt"], body["raw"]) == ("hi", True)
    assert sink.answer.text == " there"
    assert sink.answer.usage == Usage(1, 1)


def test_calls_get_ids_that_differ_from_answer_to_answer(run):
    call = line(message={"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]})

    async def scene():
        async def twice(ollama):
            found = []
            for _ in range(2):
                sink = Collected()
                await ollama.answer(ASK, sink)
                found += [event.id for event in sink.events if isinstance(event, ToolCallDelta)]
                assert sink.answer.reason is FinishReason.TOOL_CALLS
            return found

        answer = STREAM + call + DONE + END
        return await using(replies(answer, answer), twice)

    first, second = run(scene())
    assert first != second


def test_a_whole_answer_is_as_good_as_a_stream(run):
    whole = {"model": "real", "message": {"role": "assistant", "content": "Hello"}, "done": True}

    async def scene():
        return await ask_once(replies(plain(200, whole)))

    assert run(scene()).events == [Started("real"), TextDelta("Hello"), Finished(FinishReason.STOP)]


@pytest.mark.parametrize(
    ("status", "error", "kind", "param"),
    [
        (400, '"llama3.2" does not support tools', Unsupported, "tools"),
        (400, '"llama3.2" does not support thinking', Unsupported, "reasoning_effort"),
        (400, "the input length exceeds the context length", ContextTooLong, "messages"),
        (400, "prompt too long; exceeded max context length by 12 tokens", ContextTooLong, "messages"),
        (400, "invalid JSON schema in format", Unsupported, "response_format"),
        (400, "something else", InvalidAsk, None),
        (404, 'model "m" not found, try pulling it first', EngineFailed, None),
        (500, "model requires more system memory (12.1 GiB) than is available (3.0 GiB)", EngineFailed, None),
        (503, "server busy, please try again. maximum pending requests exceeded", EngineFailed, None),
    ],
)
def test_an_error_is_understood_and_not_repeated(run, status, error, kind, param):
    async def scene():
        with pytest.raises(kind) as caught:
            await ask_once(replies(plain(status, {"error": error})))
        return caught.value

    failure = run(scene())
    assert failure.param == param
    assert error not in failure.message
    if kind is EngineFailed:
        assert failure.upstream_status == status


def test_an_error_in_mid_stream_is_a_failure(run):
    sink = Collected()

    async def scene():
        with pytest.raises(EngineFailed) as caught:
            await ask_once(replies(STREAM + said("Half") + line(error="llama runner crashed at 0x1") + END), sink=sink)
        return caught.value

    assert "0x1" not in run(scene()).message


@pytest.mark.parametrize("rest", [b"", END, line(message={"content": "x"}) + END])
def test_a_stream_that_ends_before_it_is_done_is_a_failure(run, rest):
    async def script(peer):
        await peer.request()
        peer.send(STREAM + said("Half") + rest)
        await peer.sent()
        peer.close()

    async def scene():
        with pytest.raises(EngineFailed):
            await ask_once(script)

    run(scene())


def test_leaving_closes_the_connection(run):
    sink = Collected()

    async def script(peer):
        await peer.request()
        peer.send(STREAM + said("one"))
        await peer.gone()

    async def scene():
        async with engine(script) as it:
            ollama = Ollama("o", Client(it.url.removesuffix("/v1")), slots=1, models=("m",))
            begun = asyncio.Event()
            take = sink.take

            def taking(events):
                take(events)
                begun.set()

            sink.take = taking
            task = asyncio.get_running_loop().create_task(ollama.answer(ASK, sink))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await it.gone.wait()
            await turns()
            assert not ollama._client.open
            await ollama.close()

    run(scene())


TAGS = {"models": [{"name": "gpt-oss:20b", "model": "gpt-oss:20b", "size": 1}, {"name": "llama3.2:latest"}]}


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (None, ("gpt-oss:20b", "llama3.2:latest")),
        ("llama3.2:latest", ("llama3.2:latest", "gpt-oss:20b")),
    ],
)
def test_its_models_are_its_tags(run, model, names):
    asked = []

    async def script(peer):
        while True:
            first, _, _ = await peer.request()
            asked.append(first)
            peer.send(plain(200, TAGS if "tags" in first else {}))

    async def scene():
        return await using(script, lambda ollama: ollama.models(), model=model)

    assert run(scene()) == names
    assert asked[0] == "GET /api/tags HTTP/1.1"  # what follows looks at each of them


@pytest.mark.parametrize(
    ("answer", "up"), [(plain(200, TAGS), True), (plain(200, {"models": []}), False), (plain(500, {}), False)]
)
def test_it_is_up_when_it_lists_models(run, answer, up):
    async def scene():
        return await using(replies(answer), lambda ollama: ollama.health(), model=None)

    health = run(scene())
    assert health.up is up
    assert up or health.reason


def test_texts_are_embedded_by_its_compatible_path(run):
    asked = []

    async def script(peer):
        first, _, _ = await peer.request()
        asked.append(first)
        peer.send(plain(200, {"data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 1}}))
        await peer.gone()

    async def scene():
        return await using(script, lambda ollama: ollama.embed(EmbedAsk(("hi",))))

    run(scene())
    assert asked == ["POST /v1/embeddings HTTP/1.1"]
