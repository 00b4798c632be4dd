from typing import get_args

import msgspec
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParams
from openai.types.responses.response_includable import ResponseIncludable

from standpipe.chat.ask import JsonObject, ToolCall
from standpipe.chat.errors import ContextTooLong, EngineFailed, InvalidAsk, PaceExceeded, Unsupported
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
from standpipe.dialects.openai.responses import wire
from standpipe.dialects.openai.responses.request import OpenAIResponses
from tests import golden, openai_schema

META = ResponseMeta("7Yd2k", 1_700_000_000, "gpt-oss:latest")
DIALECT = OpenAIResponses()
SCHEMA: JsonObject = {"type": "object", "properties": {"city": {"type": "string"}}}
FULL: JsonObject = {
    "model": "gpt-oss",
    "input": "What is the weather?",
    "instructions": "Be brief.",
    "frequency_penalty": 0.5,
    "max_output_tokens": 100,
    "metadata": {"purpose": "test"},
    "parallel_tool_calls": False,
    "reasoning": {"effort": "low"},
    "temperature": 0.5,
    "text": {"format": {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True}},
    "tool_choice": {"type": "function", "name": "get_weather"},
    "tools": [{"type": "function", "name": "get_weather", "description": "Now.", "parameters": SCHEMA, "strict": True}],
    "top_logprobs": 2,
    "top_p": 1,
    "truncation": "auto",
}
LOGPROBS = (TokenLogprob("Hi", -0.25, (72, 105), (TokenLogprob("Yo", -1.5, (89, 111)), TokenLogprob("\x00", -9.0))),)


def parsed(body: JsonObject | None = None) -> Parsed:
    return DIALECT.parse(msgspec.json.encode(body or {"input": "Hello!"}))


def stream(batches: list[list[Event]], body: JsonObject | None = None) -> bytes:
    encoder = DIALECT.encoder(parsed(body), META)
    return b"".join(encoder.encode(batch) for batch in batches)


def test_it_is_a_dialect():
    dialect: Dialect = DIALECT
    assert (dialect.name, dialect.stream_type) == ("openai_responses", "text/event-stream")


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
        [Started("other"), Waiting(), ReasoningDelta("Hm")],
        [Waiting(), TextDelta("Hi"), Waiting()],
        [ToolCallDelta(0, "", "call_a", "get_time"), Waiting()],
        [Finished(FinishReason.TOOL_CALLS)],
    ],
    "silent": [
        [Waiting()],
        [Started(), Finished(FinishReason.STOP, Usage(9, 0))],
    ],
    "reasoning_and_tools": [
        [Started(), ReasoningDelta("They want"), ReasoningDelta(" the weather.")],
        [ToolCallDelta(0, "", "call_a", "get_weather"), ToolCallDelta(0, '{"city":'), ToolCallDelta(0, '"Zürich"}')],
        [ToolCallDelta(1, "{}", "call_b", "get_time")],
        [Finished(FinishReason.TOOL_CALLS, Usage(120, 31, reasoning_tokens=8, cached_tokens=64))],
    ],
    "reasoning_twice": [
        [Started(), ReasoningDelta("First."), TextDelta("Let me see."), ReasoningDelta("Then."), TextDelta("Seen.")],
        [Finished(FinishReason.STOP, Usage(9, 6))],
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
    "incomplete": [
        [Started(), ReasoningDelta("Hm."), TextDelta("The answer i")],
        [Finished(FinishReason.LENGTH, Usage(9, 16))],
    ],
    "incomplete_call": [
        [Started(), ToolCallDelta(0, '{"city', "call_a", "get_weather")],
        [Finished(FinishReason.LENGTH, Usage(9, 4))],
    ],
    "failed": [
        [Started(), ReasoningDelta("Hm."), TextDelta("Half an ans")],
        [Failed(EngineFailed("The connection to the engine was lost."))],
    ],
    "failed_in_line": [
        [Waiting(2)],
        [Failed(InvalidAsk("`messages`, with room for the answer, do not fit.", param="messages"))],
    ],
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_written_as_its_transcript(name):
    golden.check(f"openai_responses/{name}.sse", stream(STREAMS[name]))


def test_a_stream_repeats_what_was_asked():
    golden.check("openai_responses/full.sse", stream(STREAMS["reasoning_and_tools"], FULL))


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("body", [None, FULL], ids=["plain", "full"])
def test_every_event_is_one_by_the_published_schema(name, body):
    for number, (kind, data) in enumerate(openai_schema.events(stream(STREAMS[name], body))):
        event = openai_schema.hold(ResponseStreamEvent, data)
        assert (event.type, event.sequence_number) == (kind, number)


@pytest.mark.parametrize("name", STREAMS)
def test_the_frames_are_server_sent_events_to_a_strict_reader(name):
    written = stream(STREAMS[name])
    assert SseFrames().feed(written) == [data for _, data in openai_schema.events(written)]


@pytest.mark.parametrize(
    ("name", "last", "reason"),
    [
        ("text", "completed", None),
        ("silent", "completed", None),
        ("reasoning_and_tools", "completed", None),
        ("incomplete", "incomplete", {"reason": "max_output_tokens"}),
        ("incomplete_call", "incomplete", {"reason": "max_output_tokens"}),
        ("logprobs_and_refusal", "incomplete", {"reason": "content_filter"}),
        ("failed", "failed", None),
        ("failed_in_line", "failed", None),
    ],
)
def test_a_stream_ends_in_one_way_that_tells_what_became_of_it(name, last, reason):
    events = openai_schema.decoded(stream(STREAMS[name]))
    ends = [event for event in events if event["type"] in {f"response.{end}" for end in _ENDS}]
    assert ends == events[-1:]
    assert ends[0]["type"] == f"response.{last}"
    assert ends[0]["response"]["status"] == last
    assert ends[0]["response"]["incomplete_details"] == reason


_ENDS = ("completed", "incomplete", "failed")


def test_the_place_in_line_is_told_until_the_engine_begins():
    events = openai_schema.decoded(stream(STREAMS["waiting"]))
    assert [(event["type"], event["response"]["status"], event.get("queue")) for event in events[:5]] == [
        ("response.created", "queued", None),
        ("response.queued", "queued", {"position": 3, "eta_seconds": 12.4}),
        ("response.queued", "queued", {"position": 1, "eta_seconds": None}),
        ("response.in_progress", "in_progress", None),
        ("response.in_progress", "in_progress", None),
    ]


def test_silence_is_filled_with_an_empty_delta_of_what_is_open():
    events = openai_schema.decoded(stream(STREAMS["waiting"]))
    assert [event["type"] for event in events if event.get("delta") == ""] == [
        "response.reasoning_text.delta",
        "response.output_text.delta",
        "response.function_call_arguments.delta",
    ]


def test_a_failed_stream_says_why_and_what_was_left_unfinished():
    (*_, failed) = openai_schema.decoded(stream(STREAMS["failed"]))
    assert failed["response"]["error"] == {"code": "server_error", "message": "The connection to the engine was lost."}
    assert [item["status"] for item in failed["response"]["output"]] == ["completed", "incomplete"]
    (*_, failed) = openai_schema.decoded(stream([[Waiting(1)], [Failed(PaceExceeded("Too fast."))]]))
    assert failed["response"]["error"]["code"] == "rate_limit_exceeded"


def test_a_failure_in_a_stream_names_the_clients_own_fields():
    (*_, failed) = openai_schema.decoded(stream(STREAMS["failed_in_line"]))
    assert failed["response"]["error"] == {
        "code": "invalid_prompt",
        "message": "`input`, with room for the answer, do not fit.",
    }


def test_a_prompt_that_is_too_long_is_told_by_the_code_that_codex_goes_by():
    refusal = DIALECT.refusal(ContextTooLong.of(5000, 4096), META)
    (*_, failed) = openai_schema.decoded(refusal)
    assert failed["type"] == "response.failed"
    assert failed["response"]["error"] == {
        "code": "context_length_exceeded",
        "message": "This model's maximum context length is 4096 tokens. However, there are 5000 tokens in `input`, "
        "with room for the answer. Please reduce the length of `input`.",
    }


def test_one_batch_is_one_piece_of_bytes():
    events = [event for batch in STREAMS["reasoning_and_tools"] for event in batch]
    assert stream([events]) == stream(STREAMS["reasoning_and_tools"])
    assert DIALECT.encoder(parsed(), META).encode([]) == b""


def test_deltas_that_say_nothing_open_nothing():
    events: list[Event] = [Started(), TextDelta(""), ReasoningDelta(""), Finished(FinishReason.STOP)]
    assert [event["type"] for event in openai_schema.decoded(stream([events]))] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]


ANSWERS = {
    "text": Answer("Hello", "", "", (), FinishReason.STOP, usage=Usage(9, 3)),
    "empty": Answer("", "", "", (), FinishReason.LENGTH),
    "reasoning_and_tools": Answer(
        "",
        "They want the weather.",
        "",
        (ToolCall("call_a", "get_weather", '{"city":"Zürich"}'), ToolCall("call_b", "get_time", "{}")),
        FinishReason.TOOL_CALLS,
        usage=Usage(120, 31, reasoning_tokens=8, cached_tokens=64),
    ),
    "logprobs": Answer("Hi", "", "", (), FinishReason.STOP, logprobs=LOGPROBS),
    "refusal": Answer("", "", "I cannot help.", (), FinishReason.STOP, logprobs=LOGPROBS),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_written_as_its_transcript(name):
    written = DIALECT.answer(parsed(), META, ANSWERS[name])
    golden.check(f"openai_responses/{name}.json", msgspec.json.format(written, indent=2) + b"\n")


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("body", [None, FULL], ids=["plain", "full"])
def test_an_answer_has_what_the_published_schema_requires(name, body):
    openai_schema.hold(Response, DIALECT.answer(parsed(body), META, ANSWERS[name]))


def test_an_answer_repeats_what_was_asked():
    written = DIALECT.answer(parsed(FULL), META, ANSWERS["text"])
    golden.check("openai_responses/full.json", msgspec.json.format(written, indent=2) + b"\n")
    body = msgspec.json.decode(written)
    repeated = FULL.keys() - {"input", "model", "truncation"}
    assert {name: body[name] for name in repeated} == {name: FULL[name] for name in repeated} | {
        "reasoning": {"effort": "low", "summary": None}
    }
    assert body["model"] == "gpt-oss:latest"  # who really answered
    assert body["truncation"] == "disabled"  # nothing is ever cut
    assert body["store"] is False


def test_streamed_and_whole_say_the_same():
    fold = AnswerBuilder()
    fold.add([event for batch in STREAMS["reasoning_and_tools"] for event in batch])
    assert fold.answer is not None
    whole = msgspec.json.decode(DIALECT.answer(parsed(), META, fold.answer))
    (*_, last) = openai_schema.decoded(stream(STREAMS["reasoning_and_tools"]))
    assert last["response"] == whole


def test_a_failure_has_openais_shape_and_names_the_clients_own_fields():
    failure = InvalidAsk("`max_tokens` is more than `messages` leave room for.", param="max_tokens")
    assert msgspec.json.decode(DIALECT.failure(failure, "7Yd2k")) == {
        "error": {
            "message": "`max_output_tokens` is more than `input` leave room for.",
            "type": "invalid_request_error",
            "param": "max_output_tokens",
            "code": "invalid_value",
        },
        "request_id": "7Yd2k",
    }


def test_nothing_is_gone_on_from_without_a_keeper():
    with pytest.raises(Unsupported) as caught:
        parsed({"input": "x", "previous_response_id": "resp_1"})
    assert caught.value.param == "previous_response_id"


@pytest.mark.parametrize(("sent", "keep"), [({}, True), ({"store": None}, True), ({"store": False}, False)])
def test_whoever_does_not_say_no_may_be_kept(sent, keep):
    assert parsed({"input": "x", **sent}).echo.keep is keep


def test_every_field_that_official_clients_can_send_is_known():
    sent = openai_schema.fields_sent(ResponseCreateParams)
    known = DIALECT.reader.ignored | DIALECT.reader.refused.keys()
    beyond = {"frequency_penalty", "presence_penalty"}  # Open Responses'
    assert sent | beyond == DIALECT.reader.taken | {name for name in known if "." not in name}
    assert set(get_args(ResponseIncludable)) == set(get_args(wire.Includable))
