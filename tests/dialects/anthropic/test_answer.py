"""The stream of blocks: transcripts, and a reader that is as strict as the strictest client."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.chat.ask import Ask, ToolCall
from standpipe.chat.errors import (
    EngineFailed,
    EngineTimeout,
    Failure,
    Forbidden,
    Internal,
    InvalidAsk,
    LineFull,
    MethodNotAllowed,
    NotFound,
    PaceExceeded,
    TooLarge,
    TooSlow,
    UnknownModel,
    Unsupported,
)
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
    ToolCallDelta,
    Usage,
    Waiting,
)
from standpipe.dialects.anthropic.request import MESSAGES
from standpipe.dialects.dialect import Dialect, Parsed, ResponseMeta
from tests import golden
from tests.streams import legal_streams

META = ResponseMeta("7Yd2k", 1_700_000_000, "gpt-oss:latest")

STREAMS: dict[str, list[list[Event]]] = {
    "text": [
        [Started(None)],
        [TextDelta("Hello"), TextDelta(", wörld"), TextDelta(""), TextDelta("\n👋")],
        [Finished(FinishReason.STOP, Usage(9, 3))],
    ],
    "waiting": [
        [Waiting(3, 12.44)],
        [Waiting(1)],
        [Waiting()],
        [Started("other"), TextDelta("Hi")],
        [Waiting(), Finished(FinishReason.LENGTH)],
    ],
    "thinking_and_tools": [
        [Started(), ReasoningDelta("They want"), ReasoningDelta(" the weather.")],
        [TextDelta("Let me see.")],
        [ToolCallDelta(0, "", "call_a", "get_weather"), ToolCallDelta(0, '{"city":'), ToolCallDelta(0, '"Zürich"}')],
        [ToolCallDelta(1, "{}", "call_b", "get_time"), ToolCallDelta(2, "", "call_c", "stop")],
        [Finished(FinishReason.TOOL_CALLS, Usage(120, 31, reasoning_tokens=8, cached_tokens=64))],
    ],
    "calls_in_turns": [
        [Started(), ToolCallDelta(0, '{"a"', "call_a", "f"), ToolCallDelta(1, '{"b"', "call_b", "g")],
        [ToolCallDelta(1, ":2}"), TextDelta("Bo"), TextDelta("th."), ToolCallDelta(0, ":1}"), ToolCallDelta(0, "\n")],
        [Finished(FinishReason.TOOL_CALLS)],
    ],
    "stop_sequence": [[Started(), TextDelta("One, two")], [Finished(FinishReason.STOP, stop=", three")]],
    "refusal": [[Started(), TextDelta("No.", refusal=True)], [Finished(FinishReason.CONTENT_FILTER)]],
    "cut_call": [[Started(), ToolCallDelta(0, '{"city":"Zü', "call_a", "f")], [Finished(FinishReason.LENGTH)]],
    "bad_call": [[Started(), ToolCallDelta(0, "city: Zürich", "call_a", "f")], [Finished(FinishReason.TOOL_CALLS)]],
    "line_ends": [
        [Started(), TextDelta('a\x85b\u2028c\u2029d\r\n\nevent: message_stop\n\n"\\')],
        [Finished(FinishReason.STOP)],
    ],
    "failed": [
        [Started(), TextDelta("Half an ans")],
        [Failed(EngineFailed("The connection to the engine was lost."))],
    ],
    "failed_in_line": [[Waiting(9)], [Failed(LineFull("Too many wait."))]],
}


def stream(batches: list[list[Event]], *, thinking: bool = True) -> bytes:
    encoder = MESSAGES.encoder(Parsed(Ask(()), stream=True, echo=thinking), META)
    return b"".join(encoder.encode(batch) for batch in batches)


def frames(written: bytes) -> list[dict[str, Any]]:
    """The data of every event, whose name must be its type."""
    found = []
    for frame in written.decode().split("\n\n")[:-1]:
        event, data = frame.split("\n")
        found.append(msgspec.json.decode(data.removeprefix("data: ")))
        assert event == f"event: {found[-1]['type']}"
    return found


class Reader:
    """What a client makes of a stream. Insists on the order, and on one block at a time."""

    def __init__(self, written: bytes) -> None:
        self.blocks: list[dict[str, Any]] = []
        self.open = False
        self.message: dict[str, Any] | None = None
        self.end: dict[str, Any] | None = None
        self.whole = self.failed = False
        for frame in frames(written):
            assert not self.whole
            assert not self.failed
            getattr(self, frame["type"])(frame)

    def ping(self, frame):
        assert self.end is None

    def message_start(self, frame):
        assert self.message is None
        self.message = frame["message"]

    def content_block_start(self, frame):
        assert self.message is not None
        assert not self.open
        assert frame["index"] == len(self.blocks)
        self.open = True
        self.blocks.append({**frame["content_block"], "said": ""})

    def content_block_delta(self, frame):
        assert self.open
        assert frame["index"] == len(self.blocks) - 1
        block, delta = self.blocks[-1], frame["delta"]
        match delta.pop("type"):
            case "signature_delta":
                assert block["type"] == "thinking"
                assert delta["signature"]
                return
            case "input_json_delta":
                assert block["type"] == "tool_use"
            case kind:
                assert kind == f"{block['type']}_delta"
        (said,) = delta.values()
        assert said
        block["said"] += said

    def content_block_stop(self, frame):
        assert self.open
        assert frame["index"] == len(self.blocks) - 1
        self.open = False

    def message_delta(self, frame):
        assert not self.open
        self.end = frame

    def message_stop(self, frame):
        assert self.end is not None
        self.whole = True

    def error(self, frame):
        assert frame["error"]["message"]
        self.failed = True

    def said(self, kind: str) -> str:
        return "".join(block["said"] for block in self.blocks if block["type"] == kind)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_written_as_its_transcript(name):
    written = stream(STREAMS[name])
    golden.check(f"anthropic/{name}.sse", written)
    reader = Reader(written)
    assert reader.whole != reader.failed


@pytest.mark.parametrize("name", STREAMS)
def test_no_unicode_line_end_cuts_a_frame(name):
    written = stream(STREAMS[name]).decode()
    assert written.splitlines() == written.split("\n")[:-1]


def test_thinking_is_not_told_to_who_did_not_ask_for_it():
    reader = Reader(stream(STREAMS["thinking_and_tools"], thinking=False))
    assert [block["type"] for block in reader.blocks] == ["text", "tool_use", "tool_use", "tool_use"]


@settings(deadline=None)
@given(legal_streams(objects=True), st.booleans())
def test_a_client_reads_what_was_said(events, thinking):
    reader = Reader(stream([events], thinking=thinking))
    assert reader.failed == isinstance(events[-1], Failed)
    if reader.failed:
        return
    fold = AnswerBuilder()
    fold.add(events)
    answer = fold.answer
    assert answer is not None
    assert reader.said("thinking") == (answer.reasoning if thinking else "")
    assert reader.said("text") == "".join(event.text for event in events if isinstance(event, TextDelta))
    calls = [(block["id"], block["name"], block["said"]) for block in reader.blocks if block["type"] == "tool_use"]
    assert calls == [(call.id, call.name, call.arguments) for call in answer.tool_calls]


@settings(deadline=None)
@given(legal_streams(objects=True, failing=False))
def test_streamed_and_whole_say_the_same(events):
    fold = AnswerBuilder()
    fold.add(events)
    assert fold.answer is not None
    whole = msgspec.json.decode(MESSAGES.answer(Parsed(Ask(()), stream=False, echo=True), META, fold.answer))
    reader = Reader(stream([events]))
    assert reader.message is not None
    assert reader.end is not None
    usage = reader.message["usage"] | reader.end["usage"]
    assert {**reader.message, **reader.end["delta"], "content": None, "usage": usage} == {**whole, "content": None}
    inputs = [msgspec.json.decode(block["said"]) for block in reader.blocks if block["type"] == "tool_use"]
    assert inputs == [block["input"] for block in whole["content"] if block["type"] == "tool_use"]


@settings(deadline=None)
@given(legal_streams())
def test_whatever_an_engine_does_a_stream_ends_in_one_of_two_ways(events):
    reader = Reader(stream([events]))
    assert reader.whole != reader.failed
    if isinstance(events[-1], Failed):
        assert reader.failed


@settings(deadline=None)
@given(legal_streams(objects=True), st.data())
def test_batches_do_not_change_the_bytes(events, data):
    at = data.draw(st.integers(0, len(events)))
    assert stream([events[:at], events[at:]]) == stream([events])


def test_what_can_be_written_at_once_does_not_wait():
    encoder = MESSAGES.encoder(Parsed(Ask(()), stream=True, echo=True), META)
    encoder.encode([Started(), TextDelta("Now.")])
    assert b'"get_weather"' in encoder.encode([ToolCallDelta(0, '{"city":', "a", "get_weather")])
    assert encoder.encode([ToolCallDelta(1, "{", "b", "get_time")]) == b""
    assert b'"get_time"' in encoder.encode([ToolCallDelta(0, "1}")])


META = ResponseMeta("7Yd2k", 1_700_000_000, "gpt-oss:latest")


def test_it_is_a_dialect():
    dialect: Dialect = MESSAGES
    assert (dialect.name, dialect.stream_type) == ("anthropic", "text/event-stream")


def answered(answer: Answer, *, thinking: bool = True) -> bytes:
    return MESSAGES.answer(Parsed(Ask(()), stream=False, echo=thinking), META, answer)


def calling(arguments: str, reason: FinishReason = FinishReason.TOOL_CALLS) -> Answer:
    return Answer("", "", "", (ToolCall("call_a", "get_weather", arguments),), reason)


ANSWERS = {
    "text": Answer("Hello", "", "", (), FinishReason.STOP, usage=Usage(9, 3)),
    "empty": Answer("", "", "", (), FinishReason.LENGTH),
    "thinking_and_tools": Answer(
        "Let me see.",
        "They want the weather.",
        "",
        (ToolCall("call_a", "get_weather", '{"city": "Zürich"}'), ToolCall("call_b", "get_time", "")),
        FinishReason.TOOL_CALLS,
        usage=Usage(120, 31, reasoning_tokens=8, cached_tokens=64),
    ),
    "refusal": Answer("", "", "I cannot help.", (), FinishReason.CONTENT_FILTER),
    "stop_sequence": Answer("One, two", "", "", (), FinishReason.STOP, stop=", three"),
    "cut_call": calling('{"city":"Zü', FinishReason.LENGTH),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_written_as_its_transcript(name):
    golden.check(f"anthropic/{name}.json", msgspec.json.format(answered(ANSWERS[name]), indent=2) + b"\n")


def test_a_whole_answer_does_not_tell_thinking_to_who_did_not_ask_for_it():
    body = msgspec.json.decode(answered(ANSWERS["thinking_and_tools"], thinking=False))
    assert [block["type"] for block in body["content"]] == ["text", "tool_use", "tool_use"]


@pytest.mark.parametrize("arguments", ['{"city":"Zü', "[]", "city", '{"a":1}}'])
def test_a_call_that_no_client_could_read_is_a_failure(arguments):
    with pytest.raises(EngineFailed, match="JSON object"):
        answered(calling(arguments))


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (InvalidAsk("No."), "invalid_request_error"),
        (Unsupported("No."), "invalid_request_error"),
        (MethodNotAllowed("No.", allowed=()), "invalid_request_error"),
        (TooSlow("No."), "invalid_request_error"),
        (Forbidden("No."), "permission_error"),
        (UnknownModel("No."), "not_found_error"),
        (NotFound("No."), "not_found_error"),
        (TooLarge("No."), "request_too_large"),
        (PaceExceeded("No."), "rate_limit_error"),
        (Internal("No."), "api_error"),
        (EngineFailed("No."), "api_error"),
        (LineFull("No."), "overloaded_error"),
        (EngineTimeout("No."), "timeout_error"),
    ],
)
def test_a_failure_has_the_type_of_its_status(failure: Failure, kind):
    assert msgspec.json.decode(MESSAGES.failure(failure, "7Yd2k")) == {
        "type": "error",
        "error": {"type": kind, "message": "No.", "details": {"error_code": failure.code}},
        "request_id": "7Yd2k",
    }


def test_a_fault_of_a_field_names_it():
    body = msgspec.json.decode(MESSAGES.failure(InvalidAsk("No.", param="top_p"), "7Yd2k"))
    assert body["error"]["details"] == {"error_code": "invalid_value", "param": "top_p"}
