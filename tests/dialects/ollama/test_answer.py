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
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    Waiting,
)
from standpipe.dialects.dialect import Dialect, Parsed, ResponseMeta
from standpipe.dialects.ollama.request import CHAT, GENERATE
from tests import golden

META = ResponseMeta("7Yd2k", 1_700_000_000, "gpt-oss:latest")
BOTH = pytest.mark.parametrize("dialect", [CHAT, GENERATE], ids=["chat", "generate"])
LOGPROBS = (TokenLogprob("Hi", -0.25, (72, 105), (TokenLogprob("Yo", -1.5, (89, 111)), TokenLogprob("\x00", -9.0))),)


def test_both_are_dialects():
    both: list[Dialect] = [CHAT, GENERATE]
    assert [(one.name, one.stream_type) for one in both] == [
        ("ollama_chat", "application/x-ndjson"),
        ("ollama_generate", "application/x-ndjson"),
    ]


STREAMS: dict[str, list[list[Event]]] = {
    "text": [
        [Started(None)],
        [TextDelta("Hello"), TextDelta(", wörld"), TextDelta(""), TextDelta("\n👋")],
        [Finished(FinishReason.STOP, Usage(9, 3), Timings(0.25, 1.5))],
    ],
    "waiting": [
        [Waiting(3, 12.44)],
        [Waiting(1)],
        [Waiting()],
        [Started("other"), TextDelta("Hi")],
        [Waiting(), Finished(FinishReason.LENGTH)],
    ],
    "thinking": [
        [Started(), ReasoningDelta("They say"), ReasoningDelta(" hello.")],
        [TextDelta("Hello.")],
        [Finished(FinishReason.STOP, Usage(9, 8, 4), Timings(0.0, 0.0))],
    ],
    "logprobs_and_refusal": [
        [Started(), TextDelta("Hi", LOGPROBS), TextDelta("I cannot", refusal=True)],
        [Finished(FinishReason.CONTENT_FILTER)],
    ],
    "line_ends": [
        [Started(), TextDelta('a\x85b\u2028c\u2029d\r\n\n{"done":true}\n"\\')],
        [Finished(FinishReason.STOP)],
    ],
    "failed": [
        [Started(), TextDelta("Half an ans")],
        [Failed(EngineFailed("The connection to the engine was lost."))],
    ],
}
CALLED: dict[str, list[list[Event]]] = {
    "tools": [
        [Started(), ReasoningDelta("Both."), TextDelta("Let me see.")],
        [ToolCallDelta(0, '{\n "city":', "call_a", "get_weather"), ToolCallDelta(1, "", "call_b", "get_time")],
        [ToolCallDelta(0, ' "Zü\u2028rich"\n}')],
        [Finished(FinishReason.TOOL_CALLS, Usage(120, 31), Timings(0.1, 0.4))],
    ],
    "cut_call": [
        [Started(), ToolCallDelta(0, "{}", "call_a", "f"), ToolCallDelta(1, '{"city":"Zü', "call_b", "g")],
        [Finished(FinishReason.LENGTH)],
    ],
    "bad_call": [
        [Started(), TextDelta("So:"), ToolCallDelta(0, "city: Zürich", "call_a", "f")],
        [Finished(FinishReason.TOOL_CALLS)],
    ],
}


def stream(dialect: Dialect, batches: list[list[Event]], *, thinking: bool = True) -> bytes:
    encoder = dialect.encoder(Parsed(Ask(()), stream=True, echo=thinking), META)
    return b"".join(encoder.encode(batch) for batch in batches)


@BOTH
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_written_as_its_transcript(dialect, name):
    golden.check(f"{dialect.name}/{name}.ndjson", stream(dialect, STREAMS[name]))


@pytest.mark.parametrize("name", CALLED)
def test_a_stream_with_calls_is_written_as_its_transcript(name):
    golden.check(f"ollama_chat/{name}.ndjson", stream(CHAT, CALLED[name]))


@pytest.mark.parametrize("name", STREAMS | CALLED)
def test_every_line_is_an_object_by_anybodys_reckoning_and_the_last_alone_ends_it(name):
    lines = stream(CHAT, (STREAMS | CALLED)[name]).decode().splitlines()
    *before, last = map(msgspec.json.decode, lines)
    assert all(line["done"] is False for line in before)
    assert ("error" in last) != (last.get("done") is True)


@BOTH
def test_thinking_is_not_told_to_who_forbade_it(dialect):
    assert b"thinking" not in stream(dialect, STREAMS["thinking"], thinking=False)


ANSWERS = {
    "text": Answer("Hello", "", "", (), FinishReason.STOP, usage=Usage(9, 3), timings=Timings(0.25, 1.5)),
    "thinking": Answer("Hello.", "They say hello.", "", (), FinishReason.STOP),
    "empty": Answer("", "", "", (), FinishReason.LENGTH),
    "refusal": Answer("", "", "I cannot help.", (), FinishReason.CONTENT_FILTER, logprobs=LOGPROBS),
}
TOOLS = Answer(
    "",
    "Both.",
    "",
    (ToolCall("call_a", "get_weather", '{"city": "Zürich"}'), ToolCall("call_b", "get_time", "")),
    FinishReason.TOOL_CALLS,
    usage=Usage(120, 31),
)


def answered(dialect: Dialect, answer: Answer, *, thinking: bool = True) -> bytes:
    return dialect.answer(Parsed(Ask(()), stream=False, echo=thinking), META, answer)


@BOTH
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_written_as_its_transcript(dialect, name):
    written = answered(dialect, ANSWERS[name])
    golden.check(f"{dialect.name}/{name}.json", msgspec.json.format(written, indent=2) + b"\n")


def test_an_answer_with_calls_is_written_as_its_transcript():
    golden.check("ollama_chat/tools.json", msgspec.json.format(answered(CHAT, TOOLS), indent=2) + b"\n")


def test_an_answer_without_thinking_and_with_a_call_that_was_cut_off():
    cut = msgspec.structs.replace(TOOLS, reason=FinishReason.LENGTH, tool_calls=(ToolCall("a", "f", '{"x'),))
    body = msgspec.json.decode(answered(CHAT, cut, thinking=False))
    assert body["message"] == {"role": "assistant", "content": ""}
    assert body["done_reason"] == "length"


def test_a_call_that_no_client_could_read_is_a_failure():
    with pytest.raises(EngineFailed, match="JSON object"):
        answered(CHAT, msgspec.structs.replace(TOOLS, tool_calls=(ToolCall("a", "f", "x"),)))


@BOTH
def test_streamed_and_whole_say_the_same(dialect):
    batches = (CALLED if dialect is CHAT else STREAMS)["tools" if dialect is CHAT else "thinking"]
    fold = AnswerBuilder()
    fold.add([event for batch in batches for event in batch])
    assert fold.answer is not None
    whole = msgspec.json.decode(answered(dialect, fold.answer))
    lines = [msgspec.json.decode(line) for line in stream(dialect, batches).splitlines()]
    said = [line.get("message") or line for line in lines]
    message = whole.get("message") or whole
    for field in ("content", "response", "thinking"):
        assert "".join(part.get(field, "") for part in said) == message.get(field, "")
    assert [part["tool_calls"] for part in said if "tool_calls" in part] == [
        calls for calls in [message.get("tool_calls")] if calls
    ]
    ends = {name: value for name, value in whole.items() if name not in {"message", "response", "thinking"}}
    assert {name: value for name, value in lines[-1].items() if name in ends} == ends


@BOTH
def test_a_failure_is_a_sentence(dialect):
    failure = InvalidAsk("`think` must be true.", param="think")
    assert msgspec.json.decode(dialect.failure(failure, "7Yd2k")) == {
        "error": "`think` must be true.",
        "request_id": "7Yd2k",
    }
