from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from standpipe.chat.errors import Unsupported
from standpipe.dialects.ollama.request import CHAT
from standpipe.dialects.ollama.to_engine import raw_body, request_body
from tests import golden
from tests.streams import TEXT

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = Tool("get_weather", "The weather now.", SCHEMA, strict=True)


def user() -> Message:
    return Message(Role.USER, (Text("Hello!"),))


def body(ask: Ask, model: str = "llama3.2") -> Any:
    return msgspec.json.decode(msgspec.json.encode(request_body(ask, model)))


def test_the_smallest_body_asks_for_a_stream_and_for_nothing_to_be_dropped_silently():
    assert body(Ask((user(),), model="whatever the client said")) == {
        "model": "llama3.2",
        "messages": [{"role": "user", "content": "Hello!"}],
        "stream": True,
        "truncate": False,
        "shift": False,
        "options": {},
    }


WHOLE = Ask(
    messages=(
        Message(Role.DEVELOPER, (Text("Be brief."),)),
        Message(Role.USER, (Text("Look:"), Text("Weather in Oslo?")), "ann"),
        Message(
            Role.ASSISTANT,
            (Reasoning("Use it."), ToolCall("c1", "get_weather", '{"city": 1.50}'), ToolCall("c2", "noop", "")),
        ),
        Message(Role.TOOL, (ToolResult("c2", "done"), ToolResult("c1", "7 °C"), ToolResult("c9", "?"))),
        Message(Role.ASSISTANT, (Text("7 °C."), Refusal("No more."))),
        Message(Role.USER, (Text("Thanks!"),)),
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
        logprobs=True,
        top_logprobs=2,
    ),
    tools=(TOOL, Tool("noop")),
    tool_choice=ToolChoice(ToolMode.AUTO),
    format=OutputFormat(FormatKind.JSON_SCHEMA, SCHEMA, "city", strict=True),
    effort=Effort.LOW,
)


def test_a_whole_ask_is_written_as_its_transcript():
    encoded = msgspec.json.encode(request_body(WHOLE, "gpt-oss:20b"))
    golden.check("ollama_upstream/request.json", msgspec.json.format(encoded, indent=2) + b"\n")


@pytest.mark.parametrize(
    ("effort", "model", "think"),
    [
        (Effort.NONE, "gpt-oss:20b", False),
        (Effort.MINIMAL, "gpt-oss:20b", "low"),
        (Effort.HIGH, "someone/gpt-oss-120b", "high"),
        (Effort.NONE, "qwen3", False),
        (Effort.LOW, "qwen3", True),
    ],
)
def test_only_gpt_oss_has_levels_of_thinking(effort, model, think):
    assert body(Ask((user(),), effort=effort), model)["think"] == think


def test_a_raw_prompt_is_written_as_it_stands():
    asked = Ask((user(),), sampling=Sampling(max_tokens=9, stop=("\n",), logprobs=True), raw=True)
    assert raw_body(asked, "llama3.2") == {
        "model": "llama3.2",
        "prompt": "Hello!",
        "raw": True,
        "stream": True,
        "truncate": False,
        "shift": False,
        "options": {"num_predict": 9, "stop": ["\n"]},
        "logprobs": True,
        "top_logprobs": 0,
    }


def test_json_is_a_word_and_a_schema_is_itself():
    assert body(Ask((user(),), format=OutputFormat(FormatKind.JSON_OBJECT)))["format"] == "json"
    assert body(Ask((user(),), format=OutputFormat(FormatKind.JSON_SCHEMA, {})))["format"] == {}
    assert "format" not in body(Ask((user(),)))


def test_tools_that_must_not_be_called_are_not_told():
    assert "tools" not in body(Ask((user(),), tools=(TOOL,), tool_choice=ToolChoice(ToolMode.NONE)))
    assert len(body(Ask((user(),), tools=(TOOL,)))["tools"]) == 1


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (ToolChoice(ToolMode.REQUIRED), ["get_weather", "noop"]),
        (ToolChoice(ToolMode.NAMED, "get_weather"), ["get_weather"]),
    ],
)
def test_tools_that_must_be_called_are_told_and_no_others(choice, told):
    tools = body(Ask((user(),), tools=(TOOL, Tool("noop")), tool_choice=choice))["tools"]
    assert [tool["function"]["name"] for tool in tools] == told


def test_biased_tokens_are_refused():
    with pytest.raises(Unsupported) as caught:
        request_body(Ask((user(),), sampling=Sampling(logit_bias={"5": -100})), "m")
    assert caught.value.param == "logit_bias"


SAID = TEXT.filter(bool)
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages = [Message(Role.SYSTEM, (Text(draw(TEXT)),))]
    for turn in range(draw(st.integers(0, 2))):
        messages.append(Message(Role.USER, (Text(draw(TEXT)),)))
        arguments = st.dictionaries(SAID, TEXT | st.integers(), max_size=2).map(msgspec.json.encode)
        calls = [
            ToolCall(f"call_{turn}_{i}", draw(NAMES), draw(arguments).decode()) for i in range(draw(st.integers(0, 2)))
        ]
        said = [Reasoning(draw(SAID))] * draw(st.integers(0, 1)) + [Text(draw(SAID))]
        messages.append(Message(Role.ASSISTANT, (*said, *calls)))
        messages += [Message(Role.TOOL, (ToolResult(call.id, draw(TEXT)),)) for call in calls]
    return (*messages, Message(Role.USER, (Text(draw(TEXT)),)))


@settings(deadline=None)
@given(conversations(), st.sampled_from([None, Effort.NONE, Effort.LOW, Effort.MEDIUM, Effort.HIGH]))
def test_our_public_side_reads_what_we_ask(messages, effort):
    sampling = Sampling(temperature=0.5, top_k=3, max_tokens=7, stop=("a",), logprobs=True, top_logprobs=1)
    ask = Ask(messages, "gpt-oss", sampling, (Tool("f", "F.", SCHEMA),), effort=effort)
    assert CHAT.parse(msgspec.json.encode(request_body(ask, "gpt-oss"))).ask == ask
