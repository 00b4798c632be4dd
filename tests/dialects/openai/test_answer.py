import msgspec
import pytest

from standpipe.chat.ask import Ask, ToolCall
from standpipe.chat.errors import EngineFailed, InvalidAsk
from standpipe.chat.events import (
    Answer,
    AnswerBuilder,
    Event,
    Failed,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    Waiting,
)
from standpipe.dialects.dialect import Dialect, Parsed, ResponseMeta
from standpipe.dialects.framing import SseFrames
from standpipe.dialects.openai.request import API, COMPLETIONS
from tests import golden

META = ResponseMeta("7Yd2k", 1_700_000_000, "gpt-oss:latest")
ASK = Ask(())
LOGPROBS = (TokenLogprob("Hi", -0.25, (72, 105), (TokenLogprob("Yo", -1.5, (89, 111)), TokenLogprob("\x00", -9.0))),)


def test_both_flavours_are_dialects():
    flavours: list[Dialect] = [API, COMPLETIONS]
    assert [(flavour.name, flavour.stream_type) for flavour in flavours] == [
        ("api", "text/event-stream"),
        ("openai_chat", "text/event-stream"),
    ]


STREAMS: dict[str, list[list[Event]]] = {
    "text": [
        [Started(None)],
        [TextDelta("Hello"), TextDelta(", wörld"), TextDelta("\n👋")],
        [Finished(FinishReason.STOP, Usage(9, 3))],
    ],
    "waiting": [
        [Waiting(3, 12.44)],
        [Waiting(1)],
        [Waiting()],
        [Started("other"), TextDelta("Hi")],
        [Waiting(), Finished(FinishReason.LENGTH)],
    ],
    "reasoning_and_tools": [
        [Started(), ReasoningDelta("They want"), ReasoningDelta(" the weather.")],
        [ToolCallDelta(0, "", "call_a", "get_weather"), ToolCallDelta(0, '{"city":'), ToolCallDelta(0, '"Zürich"}')],
        [ToolCallDelta(1, "{}", "call_b", "get_time")],
        [Finished(FinishReason.TOOL_CALLS, Usage(120, 31, reasoning_tokens=8, cached_tokens=64))],
    ],
    "logprobs_and_refusal": [
        [Started(), TextDelta("Hi", LOGPROBS), TextDelta("I cannot", refusal=True)],
        [TextDelta(" help.", LOGPROBS, refusal=True)],
        [Finished(FinishReason.CONTENT_FILTER)],
    ],
    "line_ends": [
        [Started(), TextDelta('a\x85b\u2028c\u2029d\r\n\ndata: [DONE]\n\n"\\')],
        [Finished(FinishReason.STOP)],
    ],
    "failed": [
        [Started(), TextDelta("Half an ans")],
        [Failed(EngineFailed("The connection to the engine was lost."))],
    ],
}


def stream(batches: list[list[Event]], *, include_usage: bool) -> bytes:
    encoder = COMPLETIONS.encoder(Parsed(ASK, stream=True, echo=include_usage), META)
    return b"".join(encoder.encode(batch) for batch in batches)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_written_as_its_transcript(name):
    golden.check(f"openai_chat/{name}.sse", stream(STREAMS[name], include_usage=False))


@pytest.mark.parametrize("name", ["text", "waiting", "reasoning_and_tools"])
def test_a_stream_with_usage_is_written_as_its_transcript(name):
    golden.check(f"openai_chat/{name}.usage.sse", stream(STREAMS[name], include_usage=True))


@pytest.mark.parametrize("name", STREAMS)
def test_every_frame_is_a_chunk_by_the_published_schema(name):
    written = SseFrames().feed(stream(STREAMS[name], include_usage=True))
    for data in written:
        if data == b"[DONE]":
            assert data is written[-1]
            continue
        chunk = msgspec.json.decode(data)
        if "error" in chunk:
            assert data is written[-1]
            assert set(chunk["error"]) == {"message", "type", "param", "code"}
            continue
        assert {"id", "object", "created", "model", "choices", "usage"} <= set(chunk)
        assert chunk["object"] == "chat.completion.chunk"
        for choice in chunk["choices"]:
            assert {"index", "delta", "finish_reason"} <= set(choice)
        assert chunk["choices"] or chunk["usage"]


def test_one_batch_is_one_piece_of_bytes_with_a_frame_for_each_event():
    encoder = API.encoder(Parsed(ASK, stream=True, echo=False), META)
    events: list[Event] = [TextDelta("a"), TextDelta("b"), ReasoningDelta("c")]
    together = encoder.encode(events)
    assert together == b"".join(encoder.encode([event]) for event in events)
    assert together.count(b"data: ") == 3
    assert encoder.encode([]) == b""


def test_a_failed_stream_has_nothing_that_looks_whole():
    written = stream(STREAMS["failed"], include_usage=True)
    assert b"[DONE]" not in written
    assert b'"finish_reason":"' not in written


ANSWERS = {
    "text": Answer("Hello", "", "", (), FinishReason.STOP, usage=Usage(9, 3)),
    "empty": Answer("", "", "", (), FinishReason.LENGTH),
    "reasoning_and_tools": Answer(
        "",
        "They want the weather.",
        "",
        (ToolCall("call_a", "get_weather", '{"city":"Zürich"}'),),
        FinishReason.TOOL_CALLS,
        usage=Usage(120, 31, reasoning_tokens=8, cached_tokens=64),
    ),
    "logprobs": Answer("Hi", "", "", (), FinishReason.STOP, logprobs=LOGPROBS),
    "refusal": Answer("", "", "I cannot help.", (), FinishReason.STOP, logprobs=LOGPROBS),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_written_as_its_transcript(name):
    written = COMPLETIONS.answer(Parsed(ASK, stream=False), META, ANSWERS[name])
    golden.check(f"openai_chat/{name}.json", msgspec.json.format(written, indent=2) + b"\n")


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_has_what_the_published_schema_requires(name):
    body = msgspec.json.decode(COMPLETIONS.answer(Parsed(ASK, stream=False), META, ANSWERS[name]))
    assert {"id", "object", "created", "model", "choices"} <= set(body)
    (choice,) = body["choices"]
    assert {"index", "message", "logprobs", "finish_reason"} <= set(choice)
    assert {"role", "content", "refusal"} <= set(choice["message"])


def test_streamed_and_whole_say_the_same():
    fold = AnswerBuilder()
    events = [event for batch in STREAMS["reasoning_and_tools"] for event in batch]
    fold.add(events)
    assert fold.answer is not None
    body = msgspec.json.decode(COMPLETIONS.answer(Parsed(ASK, stream=False), META, fold.answer))
    (choice,) = body["choices"]
    assert choice["message"]["reasoning"] == choice["message"]["reasoning_content"] == "They want the weather."
    assert choice["message"]["content"] is None
    assert [call["id"] for call in choice["message"]["tool_calls"]] == ["call_a", "call_b"]
    assert body["usage"]["total_tokens"] == 151


def test_a_failure_has_a_type_a_code_a_param_and_the_request_id():
    failure = InvalidAsk("`n` must be 1.", param="n")
    assert msgspec.json.decode(API.failure(failure, "7Yd2k")) == {
        "error": {"message": "`n` must be 1.", "type": "invalid_request_error", "param": "n", "code": "invalid_value"},
        "request_id": "7Yd2k",
    }
