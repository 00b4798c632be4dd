"""An OpenAI-compatible server as an engine, pretended byte by byte on real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from standpipe.chat.ask import Ask, Message, Role, Text
from standpipe.chat.errors import (
    ContextTooLong,
    EngineBroke,
    EngineBusy,
    EngineDown,
    EngineFailed,
    Failure,
    ImagesRefused,
    InvalidAsk,
)
from standpipe.chat.events import Finished, FinishReason, Started, TextDelta, Usage
from standpipe.engines.engine import NeedsTemplate
from standpipe.engines.upstream import GRACE, LLAMA_CPP, Capabilities, Upstream
from standpipe.http_client.client import Client
from standpipe.http_client.transport import LINGER
from tests.engines.peers import Peer, Script, engine, run_on_uvloop, turns
from tests.virtual import Collected
from tests.virtual import run as run_virtually

ASK = Ask((Message(Role.USER, (Text("hi"),)),))
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=[run_virtually, run_on_uvloop], ids=["stdlib", "uvloop"])
def run(request):
    return request.param


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def sse(**frame: Any) -> bytes:
    return chunk(b"data: %b\n\n" % json.dumps(frame).encode())


def said(text: str, **choice: Any) -> bytes:
    return sse(model="real", choices=[{"index": 0, "delta": {"content": text}, **choice}])


STOP = sse(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
USAGE = sse(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2})
DONE = chunk(b"data: [DONE]\n\n")
END = b"0\r\n\r\n"
WHOLE = SSE + said("Hel") + said("lo") + STOP + USAGE + DONE + END


def plain(status: int, body: Any, *headers: str, type_: str = "application/json") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {type_}", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + data


def replies(*answers: bytes) -> Script:
    """A script that answers the requests of each connection with these, one after another, then waits for the end."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            peer.send(answer)
        await peer.gone()

    return script


async def ask_once(script: Script, ask: Ask = ASK, sink: Collected | None = None, **options: Any) -> Collected:
    """Answer one ask by an engine that follows a script."""
    sink = sink or Collected()
    async with engine(script) as it:
        upstream = Upstream("pretended", Client(it.url), **{"slots": 1, "models": ("m",), **options})
        try:
            await upstream.answer(ask, sink)
        finally:
            await upstream.close()
    return sink


def test_a_stream_becomes_events(run):
    async def scene() -> Any:
        return await ask_once(replies(WHOLE))

    sink = run(scene())
    assert sink.events == [
        Started("real"),
        TextDelta("Hel"),
        TextDelta("lo"),
        Finished(FinishReason.STOP, Usage(3, 2)),
    ]
    assert sink.flow is None


def test_each_read_is_pushed_as_it_comes(run):
    async def scene() -> Any:
        sink = Collected()
        seen = asyncio.Event()
        take = sink.take

        def taking(events):
            take(events)
            seen.set()

        sink.take = taking  # type: ignore[method-assign]

        async def script(peer):
            await peer.request()
            peer.send(SSE)
            for word in ("one", "two"):
                peer.send(said(word))
                await seen.wait()
                seen.clear()
            assert sink.flow is not None
            peer.send(STOP + DONE + END)
            await peer.gone()

        return await ask_once(script, sink=sink)

    sink = run(scene())
    assert [len(batch) for batch in sink.batches] == [2, 1, 1]


def test_the_request_asks_for_a_stream_with_usage_and_extras(run):
    bodies = []

    async def script(peer):
        first, _, body = await peer.request()
        bodies.append((first, json.loads(body)))
        peer.send(WHOLE)
        await peer.gone()

    async def scene() -> Any:
        await ask_once(script, capabilities=LLAMA_CPP)

    run(scene())
    ((first, body),) = bodies
    assert first == "POST /v1/chat/completions HTTP/1.1"
    assert body["model"] == "m"
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert body["return_progress"] is True


RAW = Ask(ASK.messages, raw=True)
NO_RAW = {"error": {"message": "The model does not support Completions API", "type": "BadRequestError", "code": 400}}


def test_a_raw_prompt_goes_where_no_template_is(run):
    bodies = []
    text = sse(model="real", choices=[{"index": 0, "text": " there", "finish_reason": None}])
    end = sse(model="real", choices=[{"index": 0, "text": "", "finish_reason": "length"}])

    async def script(peer):
        first, _, body = await peer.request()
        bodies.append((first, json.loads(body)))
        peer.send(SSE + text + end + USAGE + DONE + END)
        await peer.gone()

    sink = run(ask_once(script, RAW))
    assert [(first, body["prompt"]) for first, body in bodies] == [("POST /v1/completions HTTP/1.1", "hi")]
    assert sink.events == [Started("real"), TextDelta(" there"), Finished(FinishReason.LENGTH, Usage(3, 2))]


@pytest.mark.parametrize("answer", [plain(404, "not found"), plain(405, {}), plain(501, {}), plain(400, NO_RAW)])
def test_an_engine_without_a_path_for_raw_prompts_says_so(run, answer):
    with pytest.raises(NeedsTemplate):
        run(ask_once(replies(answer), RAW))


def test_a_fault_of_a_raw_prompt_is_one(run):
    with pytest.raises(InvalidAsk):
        run(ask_once(replies(plain(400, {"error": {"message": "prompt is empty"}})), RAW))


@pytest.mark.parametrize(("reuse", "connections"), [(True, 1), (False, 2)])
def test_a_connection_outlives_a_stream_only_where_that_is_worth_it(run, reuse, connections):
    async def scene() -> Any:
        async with engine(replies(WHOLE, WHOLE)) as it:
            options = Capabilities(reuse_after_stream=reuse)
            upstream = Upstream("e", Client(it.url), slots=1, models=("m",), capabilities=options)
            for _ in range(2):
                await upstream.answer(ASK, Collected())
            await upstream.close()
            return len(it.peers)

    assert run(scene()) == connections


def test_an_answer_is_over_with_its_last_event_even_if_the_engine_does_not_end_it():
    async def script(peer):
        await peer.request()
        peer.send(SSE + said("x") + STOP + DONE + chunk(b": still here\n\n"))
        await peer.gone()

    async def scene() -> Any:
        sink = await ask_once(script)
        return sink.answer.text, asyncio.get_running_loop().time()

    assert run_virtually(scene()) == ("x", pytest.approx(LINGER))


def test_a_stream_that_ends_after_a_reason_without_done_is_whole(run):
    async def scene() -> Any:
        return await ask_once(replies(SSE + said("x") + STOP + END))

    assert run(scene()).answer.text == "x"


def test_a_stream_that_hangs_after_a_reason_is_whole_when_usage_had_its_time():
    async def script(peer):
        await peer.request()
        peer.send(SSE + said("x") + STOP + USAGE)
        await peer.gone()

    async def scene() -> Any:
        begun = asyncio.get_running_loop().time()
        sink = await ask_once(script)
        return sink.answer, asyncio.get_running_loop().time() - begun

    answer, seconds = run_virtually(scene())
    assert (answer.text, answer.usage) == ("x", Usage(3, 2))
    assert seconds == pytest.approx(GRACE, abs=0.5)


@pytest.mark.parametrize("cut", [SSE, SSE + said("Hel"), SSE + said("Hel")[:20]])
def test_a_connection_that_breaks_in_mid_answer_fails(run, cut):
    async def script(peer):
        await peer.request()
        peer.send(cut)
        await peer.sent()

    async def scene() -> Any:
        sink = Collected()
        with pytest.raises(EngineFailed) as caught:
            await ask_once(script, sink=sink)
        assert type(caught.value) is EngineBroke
        assert "127" not in caught.value.message
        return sink

    sink = run(scene())
    assert not any(isinstance(event, Finished) for event in sink.events)
    assert sink.flow is None


def test_a_stream_that_ends_without_a_reason_is_not_whole(run):
    async def scene() -> Any:
        with pytest.raises(EngineFailed):
            await ask_once(replies(SSE + said("Hel") + END))

    run(scene())


def test_an_error_frame_fails_and_closes_the_connection(run):
    async def script(peer):
        await peer.request()
        peer.send(SSE + said("Hel") + sse(error={"message": "out of memory at /srv/secret", "code": 500}))
        await peer.gone()

    async def scene() -> Any:
        async with engine(script) as it:
            upstream = Upstream("e", Client(it.url), slots=1, models=("m",))
            with pytest.raises(EngineFailed) as caught:
                await upstream.answer(ASK, Collected())
            await it.gone.wait()
            return caught.value

    failure = run(scene())
    assert failure.upstream_status == 500
    assert "secret" not in failure.message


def test_what_the_sink_raises_ends_the_answer_and_closes_the_connection(run):
    class Enough(Exception):
        pass

    class Full(Collected):
        def take(self, events):
            raise Enough

    async def script(peer):
        await peer.request()
        peer.send(SSE + said("Hel"))
        await peer.gone()

    async def scene() -> Any:
        async with engine(script) as it:
            upstream = Upstream("e", Client(it.url), slots=1, models=("m",))
            sink = Full()
            with pytest.raises(Enough):
                await upstream.answer(ASK, sink)
            await it.gone.wait()
            return sink.flow

    assert run(scene()) is None


def test_cancelling_closes_the_connection_and_lets_go_of_the_sink(run):
    async def script(peer):
        await peer.request()
        peer.send(SSE + said("Hel"))
        await peer.gone()

    async def scene() -> Any:
        async with engine(script) as it:
            upstream = Upstream("e", Client(it.url), slots=1, models=("m",))
            sink = Collected()
            task = asyncio.ensure_future(upstream.answer(ASK, sink))
            while not sink.events:  # noqa: ASYNC110  # a sink has no event to wait for
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await it.gone.wait()
            return sink.flow

    assert run(scene()) is None


@pytest.mark.parametrize(
    ("answer", "kind", "upstream_status"),
    [
        (
            plain(400, {"error": {"message": "This model's maximum context length is 2048 tokens"}}),
            ContextTooLong,
            None,
        ),
        (plain(400, {"error": {"message": "image input is not supported"}}), ImagesRefused, None),
        (plain(422, {"detail": "?"}), InvalidAsk, None),
        (plain(401, {"error": "secret"}), EngineFailed, 401),
        (plain(500, b"<html>secret</html>", type_="text/html"), EngineFailed, 500),
        (plain(503, {"error": {"message": "no"}}), EngineBusy, 503),
        (plain(503, {"error": {"message": "Loading model"}}), EngineDown, 503),
        (plain(302, b"", "Location: http://secret/"), EngineFailed, 302),
    ],
)
def test_a_status_other_than_200_is_the_failure_that_it_means(run, answer, kind, upstream_status):
    async def scene() -> Any:
        with pytest.raises(Failure) as caught:
            await ask_once(replies(answer))
        return caught.value

    failure = run(scene())
    assert type(failure) is kind
    assert getattr(failure, "upstream_status", None) == upstream_status
    assert "secret" not in failure.message


def test_retry_after_is_passed_on(run):
    async def scene() -> Any:
        with pytest.raises(EngineFailed) as caught:
            await ask_once(replies(plain(429, {}, "Retry-After: 7")))
        return caught.value.retry_after

    assert run(scene()) == 7


def test_an_endless_error_is_read_only_so_far(run):
    async def script(peer):
        await peer.request()
        peer.send(b"HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            peer.send(chunk(b"x" * 65_536))
            await peer.sent()

    async def scene() -> Any:
        with pytest.raises(EngineFailed) as caught:
            await ask_once(script)
        return caught.value.upstream_status

    assert run(scene()) == 503


COMPLETION = {
    "model": "real",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop", "logprobs": None}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def test_a_whole_answer_to_an_ask_for_a_stream_becomes_events(run):
    async def scene() -> Any:
        return await ask_once(replies(plain(200, COMPLETION, type_="application/json; charset=utf-8")))

    assert run(scene()).events == [Started("real"), TextDelta("Hello"), Finished(FinishReason.STOP, Usage(3, 2))]


def test_a_whole_answer_with_tool_calls_becomes_events(run):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    completion = {"choices": [{"message": message, "finish_reason": "tool_calls"}]}

    async def scene() -> Any:
        return await ask_once(replies(plain(200, completion)))

    answer = run(scene()).answer
    assert [(call.id, call.name, call.arguments) for call in answer.tool_calls] == [("c1", "f", "{}")]
    assert answer.reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        [],
        {},
        {"choices": 5},
        {"choices": [5]},
        {"choices": [{"message": 5, "finish_reason": "stop"}]},
        {"choices": [{"message": {"content": "cut"}, "finish_reason": None}]},
        {"error": {"message": "secret"}},
        b'{"choices": [' + b" " * 1_100_000 + b"]}",
    ],
)
def test_a_whole_answer_that_is_none_fails(run, body):
    async def scene() -> Any:
        sink = Collected()
        with pytest.raises(EngineFailed) as caught:
            await ask_once(replies(plain(200, body)), sink=sink)
        assert sink.events == []
        return caught.value.message

    assert "secret" not in run(scene())


def test_a_compressed_answer_is_refused(run):
    answer = SSE.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n") + chunk(b"\x1f\x8b") + END

    async def scene() -> Any:
        with pytest.raises(EngineFailed, match="compressed"):
            await ask_once(replies(answer))

    run(scene())


def test_a_page_that_is_no_stream_fails(run):
    async def scene() -> Any:
        with pytest.raises(EngineFailed):
            await ask_once(replies(plain(200, b"<html>Sign in</html>", type_="text/html")))

    run(scene())


def test_an_engine_that_cannot_be_reached(run):
    async def scene() -> Any:
        async with engine(replies()) as it:
            url = it.url
        upstream = Upstream("e", Client(url), slots=1, models=("m",))
        with pytest.raises(EngineFailed) as caught:
            await upstream.answer(ASK, Collected())
        health = await upstream.health()
        return caught.value, health

    failure, health = run(scene())
    assert failure.upstream_status is None
    assert failure.message == health.reason == "The engine cannot be reached."


def test_an_engine_that_does_not_take_the_connection_is_down():
    async def scene() -> Any:
        async def never(*_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

        asyncio.get_running_loop().create_connection = never  # type: ignore[method-assign]  # a network that swallows
        upstream = Upstream("e", Client("http://127.0.0.1:1"), slots=1, models=("m",))
        with pytest.raises(EngineDown, match="did not accept"):
            await upstream.answer(ASK, Collected())

    run_virtually(scene())


async def models_of(answer: bytes, model: str | None = None) -> tuple[str, ...]:
    async with engine(replies(answer)) as it:
        upstream = Upstream("e", Client(it.url), slots=1, models=() if model is None else (model,))
        try:
            return await upstream.models()
        finally:
            await upstream.close()


@pytest.mark.parametrize(
    "body",
    [
        {"object": "list", "data": [{"id": "a"}, {"id": "b", "name": "B"}]},
        {"models": [{"name": "a"}, {"model": "b"}]},
        {"models": [{"name": "wrong"}], "data": [{"id": "a"}, {"id": "b"}]},
        ["a", "b"],
        {"data": ["a", {"id": 5}, None, {}, 7, {"id": ""}, {"id": "b"}, {"id": "a"}]},
    ],
)
def test_models_in_any_known_shape(run, body):
    assert run(models_of(plain(200, body))) == ("a", "b")


def test_the_default_model_is_the_first(run):
    body = {"data": [{"id": "a"}, {"id": "b"}]}
    assert run(models_of(plain(200, body), "b")) == ("b", "a")
    assert run(models_of(plain(200, body), "unlisted")) == ("unlisted", "a", "b")


def test_an_engine_without_a_list_serves_the_model_that_was_named(run):
    assert run(models_of(plain(404, {}), "m")) == ("m",)


@pytest.mark.parametrize("body", [b"", b"<html>", {}, {"data": []}, {"data": {"id": "a"}}, 5])
def test_no_model_at_all_fails(run, body):
    async def scene() -> Any:
        with pytest.raises(EngineFailed, match="lists no model"):
            await models_of(plain(200, body))

    run(scene())


def test_a_list_of_models_is_bounded(run):
    async def scene() -> Any:
        with pytest.raises(EngineFailed, match="too large"):
            await models_of(plain(200, b" " * 1_100_000))

    run(scene())


@pytest.mark.parametrize("status", [400, 401, 500, 503])
def test_a_list_that_is_refused_is_the_engines_failure(run, status):
    async def scene() -> Any:
        with pytest.raises(EngineFailed) as caught:
            await models_of(plain(status, {"error": {"message": "messages must"}}), "m")
        return caught.value.upstream_status

    assert run(scene()) == status


def test_an_ask_goes_to_the_model_that_it_names_if_the_engine_has_it(run):
    asked_for: list[str] = []

    async def script(peer):
        await peer.request()
        peer.send(plain(200, {"data": [{"id": "first"}, {"id": "/srv/secret/second.gguf"}]}))
        for _ in range(4):
            _, _, body = await peer.request()
            asked_for.append(json.loads(body)["model"])
            peer.send(WHOLE)

    async def scene() -> Any:
        async with engine(script) as it:
            upstream = Upstream("e", Client(it.url), slots=1)
            for model in (None, "second.gguf", "first", "gpt-4"):
                await upstream.answer(Ask(ASK.messages, model=model), Collected())
            await upstream.close()

    run(scene())
    assert asked_for == ["first", "/srv/secret/second.gguf", "first", "first"]


def test_folders_before_a_model_are_not_shown(run):
    assert run(models_of(plain(200, {"data": [{"id": "/srv/secret/m.gguf"}, {"id": "org/m"}]}))) == ("m.gguf", "org/m")


@pytest.mark.parametrize(
    ("answer", "up", "reason"),
    [
        (plain(200, {"data": [{"id": "a"}]}), True, None),
        (plain(503, {"error": {"message": "Loading model"}}), False, "The engine is loading its model."),
        (plain(401, {}), False, "The engine rejects this server's API key."),
        (b"nonsense", False, "The connection to the engine was lost."),
    ],
)
def test_health(run, answer, up, reason):
    async def scene() -> Any:
        async with engine(replies(answer, plain(404, {}))) as it:
            upstream = Upstream("e", Client(it.url), slots=1)
            health = await upstream.health()
            await upstream.close()
            return health

    health = run(scene())
    assert (health.up, health.reason) == (up, reason)


METRICS = b"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting_by_reason{reason="capacity"} 2.0
"""
SGLANG = b'sglang:num_running_reqs{model_name="m"} 4.0\nsglang:num_queue_reqs{model_name="m"} 1.0\n'
SLOTS = [{"id": 0, "is_processing": True}, {"id": 1, "is_processing": False}]


@pytest.mark.parametrize(
    ("body", "work"),
    [
        (METRICS, (5, 2)),
        (SGLANG, (5, 1)),
        (SLOTS, (1, 0)),
        (b"up 1\n", (None, 0)),
        (b"vllm:num_requests_running nan", (None, 0)),
    ],
)
def test_an_engine_that_tells_how_many_asks_it_has_is_asked_for_it_and_no_other(run, body, work):
    asked = []

    async def script(peer):
        while True:
            first, _, _ = await peer.request()
            asked.append(first.split()[1])
            peer.send(plain(200, {"data": [{"id": "a"}]} if "models" in first else body))

    async def scene() -> Any:
        async with engine(script) as it:
            upstream = Upstream("e", Client(it.url), slots=1)
            healths = [await upstream.health() for _ in range(2)]
            await upstream.close()
            return [(health.at_work, health.queued) for health in healths]

    assert run(scene()) == [work, work]
    assert asked.count("/metrics") == (1 if work[0] is None else 2)


def test_health_has_its_patience():
    async def script(peer):
        await peer.request()
        await peer.gone()

    async def scene() -> Any:
        async with engine(script) as it:
            health = await Upstream("e", Client(it.url), slots=1).health()
            await turns()
            return health.up, health.reason, asyncio.get_running_loop().time()

    assert run_virtually(scene()) == (False, "The engine sent nothing for 3 s.", 3)


def test_back_pressure_reaches_the_engine(run):
    async def script(peer):
        await peer.request()
        peer.send(SSE + said("x"))
        for _ in range(200):
            peer.send(said("y" * 65_536))
            await peer.sent()
        written.set()
        peer.send(STOP + DONE + END)
        await peer.gone()

    written = asyncio.Event()

    class Slow(Collected):
        def connect(self, flow):
            super().connect(flow)
            if flow:
                flow.pause()

    async def scene() -> Any:
        async with engine(script) as it:
            upstream = Upstream("e", Client(it.url), slots=1, models=("m",))
            sink = Slow()
            task = asyncio.ensure_future(upstream.answer(ASK, sink))
            await turns(500)
            assert not written.is_set()
            assert sink.flow
            sink.flow.resume()
            await task
            await upstream.close()
            return len(sink.answer.text)

    assert run(scene()) == 1 + 200 * 65_536


def test_it_tells_its_state_without_credentials(run):
    async def scene() -> Any:
        async with engine(replies(WHOLE)) as it:
            client = Client(it.url, key="secret")
            upstream = Upstream("box", client, slots=2, models=("m",))
            await upstream.answer(ASK, Collected())
            told = repr(upstream), client.opened
            await upstream.close()
            return told

    told, opened = run(scene())
    assert told.startswith("<Upstream box 2 slots, <Client http://127.0.0.1")
    assert "secret" not in told
    assert opened == 1
