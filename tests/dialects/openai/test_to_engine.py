from typing import Any

import msgspec
import pytest

from standpipe.chat.ask import (
    Ask,
    Effort,
    FormatKind,
    Message,
    OutputFormat,
    Reasoning,
    Refusal,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from standpipe.dialects.openai.to_engine import LLAMA, VLLM, Extras, completion_body, request_body
from tests import golden

PLAIN = Extras()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = Tool("get_weather", "The weather now.", SCHEMA, strict=True)


def body(ask: Ask, extras: Extras = PLAIN) -> Any:
    return msgspec.json.decode(msgspec.json.encode(request_body(ask, "gpt-oss:20b", extras=extras)))


def user() -> Message:
    return Message(Role.USER, (Text("Hello!"),))


def written(*messages: Message, extras: Extras = PLAIN) -> Any:
    return body(Ask(messages), extras)["messages"]


def test_the_smallest_body_asks_for_a_stream_with_usage_and_nothing_else():
    assert body(Ask((user(),), model="whatever the client said")) == {
        "model": "gpt-oss:20b",
        "messages": [{"role": "user", "content": "Hello!"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


WHOLE = Ask(
    messages=(
        Message(Role.DEVELOPER, (Text("Be brief."),)),
        Message(Role.USER, (Text("Look:"), Text("Weather in Oslo?")), "ann"),
        Message(Role.ASSISTANT, (Reasoning("Use it."), ToolCall("c1", "get_weather", '{"city":"Oslo"}'))),
        Message(Role.TOOL, (ToolResult("c1", "7 °C"),)),
    ),
    sampling=Sampling(
        temperature=0.8,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        max_tokens=100,
        stop=("END",),
        seed=-5,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        repeat_penalty=1.1,
        logit_bias={"5": -100},
        logprobs=True,
        top_logprobs=2,
    ),
    tools=(TOOL, Tool("noop")),
    tool_choice=ToolChoice(ToolMode.NAMED, "get_weather"),
    parallel_tool_calls=False,
    format=OutputFormat(FormatKind.JSON_SCHEMA, SCHEMA, "city", strict=True),
    effort=Effort.LOW,
)


@pytest.mark.parametrize(("name", "extras"), [("plain", PLAIN), ("llama", LLAMA), ("vllm", VLLM)])
def test_a_whole_ask_is_written_as_its_transcript(name, extras):
    encoded = msgspec.json.encode(request_body(WHOLE, "gpt-oss:20b", extras=extras))
    golden.check(f"openai_upstream/request.{name}.json", msgspec.json.format(encoded, indent=2) + b"\n")


RAW = Ask(
    (Message(Role.SYSTEM, (Text("We speak of taps."),)), Message(Role.USER, (Text("Once upon"),))),
    operator_prompt="We speak of taps.",
    sampling=Sampling(temperature=0.5, top_k=3, max_tokens=9, stop=("\n",), logprobs=True, top_logprobs=2),
    raw=True,
)


@pytest.mark.parametrize(
    ("extras", "more"),
    [
        (PLAIN, {}),
        (VLLM, {"top_k": 3}),
        (LLAMA, {"top_k": 3, "return_progress": True}),
        (Extras(max_tokens="max_completion_tokens"), {}),
    ],
)
def test_a_raw_prompt_is_written_as_it_stands_behind_the_operators(extras, more):
    sent = msgspec.json.encode(completion_body(RAW, "m", extras=extras))
    assert msgspec.json.decode(sent) == {
        "model": "m",
        "prompt": "We speak of taps.\n\nOnce upon",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_tokens": 9,
        "stop": ["\n"],
        "logprobs": 2,
        **more,
    }


def test_no_limit_is_never_spelled_as_a_number():
    assert "max_tokens" not in body(Ask((user(),), sampling=Sampling(max_tokens=None)))


def test_an_engine_may_want_another_name_for_the_limit():
    sent = body(Ask((user(),), sampling=Sampling(max_tokens=5)), Extras(max_tokens="max_completion_tokens"))
    assert sent["max_completion_tokens"] == 5
    assert "max_tokens" not in sent


def test_reasoning_goes_back_under_the_name_that_the_engine_reads_or_not_at_all():
    message = Message(Role.ASSISTANT, (Reasoning("Hm."), Text("Hi.")))
    assert written(message) == [{"role": "assistant", "content": "Hi.", "reasoning_content": "Hm."}]
    assert written(message, extras=Extras(reasoning="reasoning"))[0]["reasoning"] == "Hm."
    assert written(message, extras=Extras(reasoning=None)) == [{"role": "assistant", "content": "Hi."}]


def test_content_is_always_a_string():
    assert [
        message["content"]
        for message in written(
            Message(Role.ASSISTANT, (ToolCall("c", "f", "{}"),)),
            Message(Role.ASSISTANT, (Refusal("No."),)),
            Message(Role.USER, (Text("a"), Text("b"))),
        )
    ] == ["", "No.", "a\nb"]


def test_each_tool_result_is_a_message_of_its_own():
    results = Message(Role.TOOL, (ToolResult("a", "1"), ToolResult("b", "2", failed=True)))
    assert written(results) == [
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
    ]


@pytest.mark.parametrize("mode", [ToolMode.AUTO, ToolMode.NONE, ToolMode.REQUIRED])
def test_a_choice_of_tools_is_a_word(mode):
    assert body(Ask((user(),), tools=(TOOL,), tool_choice=ToolChoice(mode)))["tool_choice"] == mode.value


def test_without_tools_nothing_is_said_about_them():
    sent = body(Ask((user(),), tool_choice=ToolChoice(), parallel_tool_calls=True))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(sent)


def test_formats_are_written():
    assert "response_format" not in body(Ask((user(),)))
    assert body(Ask((user(),), format=OutputFormat(FormatKind.JSON_OBJECT)))["response_format"] == {
        "type": "json_object"
    }
    unnamed = body(Ask((user(),), format=OutputFormat(FormatKind.JSON_SCHEMA, SCHEMA)))["response_format"]
    assert unnamed == {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
