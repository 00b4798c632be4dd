import msgspec
import pytest

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
from standpipe.chat.events import Answer, FinishReason, Usage
from standpipe.dialects.anthropic.request import MESSAGES
from standpipe.dialects.dialect import Dialect, Parsed, Stamp
from tests import golden

STAMP = Stamp("7Yd2k", 1_700_000_000, "gpt-oss:latest")


def test_it_is_a_dialect():
    dialect: Dialect = MESSAGES
    assert (dialect.name, dialect.stream_type) == ("anthropic", "text/event-stream")


def answered(answer: Answer, *, thinking: bool = True) -> bytes:
    return MESSAGES.answer(Parsed(Ask(()), stream=False, echo=thinking), STAMP, answer)


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


def test_thinking_is_not_told_to_who_did_not_ask_for_it():
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
