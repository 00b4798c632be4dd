from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from standpipe.chat.ask import (
    Effort,
    FormatKind,
    JsonObject,
    Message,
    OutputFormat,
    Reasoning,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from standpipe.chat.errors import InvalidAsk, TooLarge, Unsupported
from standpipe.dialects.anthropic.request import IGNORED, MESSAGES, TAKEN
from standpipe.dialects.dialect import Parsed
from standpipe.dialects.openai.to_engine import LLAMA, request_body
from tests.strangers import bodies

HELLO = {"role": "user", "content": "Hello!"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: JsonObject = {"name": "get_weather", "input_schema": SCHEMA}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}


def parse(**body: Any) -> Parsed:
    return MESSAGES.parse(msgspec.json.encode({"max_tokens": 100, "messages": [HELLO], **body}))


def messages(*sent: JsonObject) -> tuple[Message, ...]:
    return parse(messages=list(sent)).ask.messages


def text(said: str) -> JsonObject:
    return {"type": "text", "text": said}


def test_one_message_and_a_limit_are_enough():
    parsed = parse()
    assert parsed.ask.messages == (Message(Role.USER, (Text("Hello!"),)),)
    assert parsed.ask.sampling == Sampling(max_tokens=100)
    assert not parsed.stream
    assert parsed.dropped == ()


def test_null_means_not_set():
    names = {"container", "mcp_servers"} | TAKEN - {"messages", "max_tokens"}
    assert parse(**dict.fromkeys(names)) == parse()


def test_what_changes_no_answer_is_ignored_and_what_is_unknown_is_named():
    assert parse(**dict.fromkeys(IGNORED, "x")).dropped == ()
    assert parse(betas=["x"], grammar="root ::= x").dropped == ("betas", "grammar")


def test_sampling_is_read_whole():
    parsed = parse(temperature=1, top_p=0.5, top_k=40, stop_sequences=["a", "b"], stream=True, model="gpt-oss")
    sampled = Sampling(temperature=1, top_p=0.5, top_k=40, max_tokens=100, stop=("a", "b"), tell_stop=True)
    assert parsed.ask.sampling == sampled
    assert parsed.ask.model == "gpt-oss"
    assert parsed.stream


@pytest.mark.parametrize("system", ["Be brief.\nNo jokes.", [text("Be brief."), text("No jokes.")]])
def test_the_system_prompt_is_a_string_or_blocks(system):
    assert parse(system=system).ask.messages[0] == Message(Role.SYSTEM, (Text("Be brief.\nNo jokes."),))


def test_a_system_message_may_stand_among_the_others():
    assert messages(HELLO, {"role": "system", "content": "Now in French."})[1] == Message(
        Role.SYSTEM, (Text("Now in French."),)
    )


@pytest.mark.parametrize("system", ["", [], None])
def test_an_empty_system_prompt_is_none(system):
    assert parse(system=system).ask == parse().ask


def test_a_tool_loop_is_read_in_the_order_that_models_expect():
    thought = {"type": "thinking", "thinking": "They want the weather.", "signature": "c2ln"}
    turn = [{"type": "redacted_thinking", "data": "x"}, thought, text("Let me see."), CALL]
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("7 °C"), text("wind")]}
    failed = {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no such city", "is_error": True}
    empty = {"type": "tool_result", "tool_use_id": "toolu_3"}
    assert messages(
        HELLO,
        {"role": "assistant", "content": turn},
        {"role": "user", "content": [text("Well?"), result, failed, empty]},
    )[1:] == (
        Message(
            Role.ASSISTANT,
            (
                Reasoning("They want the weather.", "c2ln"),
                Text("Let me see."),
                ToolCall("toolu_1", "get_weather", '{"city":"Paris"}'),
            ),
        ),
        Message(
            Role.TOOL,
            (
                ToolResult("toolu_1", "7 °C\nwind"),
                ToolResult("toolu_2", "no such city", failed=True),
                ToolResult("toolu_3", ""),
            ),
        ),
        Message(Role.USER, (Text("Well?"),)),
    )


def test_turns_of_the_same_role_in_a_row_are_one_turn():
    assert messages(HELLO, HELLO, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}) == (
        Message(Role.USER, (Text("Hello!"), Text("Hello!"))),
        Message(Role.ASSISTANT, (Text("a"), Text("b"))),
    )


def test_a_turn_of_redacted_thinking_alone_says_nothing():
    turn = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}
    assert messages(HELLO, turn)[1] == Message(Role.ASSISTANT, (Text(""),))


def test_the_input_of_a_call_stays_as_it_was_written():
    body = b"""{"max_tokens":1,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[
        {"type":"tool_use","id":"t","name":"f","input": {"b": 1.50, "a": 123456789012345678901234567890} }]}]}"""
    (_, turn) = MESSAGES.parse(body).ask.messages
    assert turn.parts == (ToolCall("t", "f", '{"b": 1.50, "a": 123456789012345678901234567890}'),)


def test_tools_are_read():
    tool = {**WEATHER, "description": "The weather.", "strict": True, "type": "custom", "cache_control": {"type": "x"}}
    assert parse(tools=[tool]).ask.tools == (Tool("get_weather", "The weather.", SCHEMA, strict=True),)


@pytest.mark.parametrize(
    ("choice", "read", "parallel"),
    [
        ({"type": "auto"}, ToolChoice(), None),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice(ToolMode.REQUIRED), False),
        ({"type": "none"}, ToolChoice(ToolMode.NONE), None),
        (
            {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": False},
            ToolChoice(ToolMode.NAMED, "get_weather"),
            True,
        ),
        (None, None, None),
    ],
)
def test_the_choice_of_a_tool_is_read(choice, read, parallel):
    ask = parse(tools=[WEATHER], tool_choice=choice).ask
    assert (ask.tool_choice, ask.parallel_tool_calls) == (read, parallel)


@pytest.mark.parametrize("kind", ["auto", "none"])
def test_a_choice_among_no_tools_is_none(kind):
    assert parse(tool_choice={"type": kind}).ask.tool_choice is None


def enabled(budget: int) -> JsonObject:
    return {"type": "enabled", "budget_tokens": budget}


@pytest.mark.parametrize(
    ("thinking", "named", "effort", "shown"),
    [
        (None, None, None, False),
        (None, "low", Effort.LOW, False),
        (None, "max", Effort.HIGH, False),
        ({"type": "adaptive"}, None, None, True),
        ({"type": "adaptive"}, "medium", Effort.MEDIUM, True),
        ({"type": "adaptive", "display": "omitted"}, "xhigh", Effort.HIGH, False),
        (enabled(1024), None, Effort.LOW, True),
        (enabled(2048), None, Effort.LOW, True),
        (enabled(2049), None, Effort.MEDIUM, True),
        (enabled(8192), None, Effort.MEDIUM, True),
        (enabled(8193), None, Effort.HIGH, True),
        (enabled(60_000), "low", Effort.LOW, True),
        ({"type": "disabled"}, "high", Effort.NONE, False),
        ({"type": "between_tools"}, None, Effort.NONE, False),
    ],
)
def test_thinking_becomes_an_effort_and_is_shown_only_when_asked_for(thinking, named, effort, shown):
    parsed = parse(thinking=thinking, output_config={"effort": named})
    assert (parsed.ask.effort, parsed.echo) == (effort, shown)


def test_a_schema_for_the_answer_is_read():
    config = {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert parse(output_config=config).ask.format == OutputFormat(FormatKind.JSON_SCHEMA, SCHEMA)


def user(*blocks: JsonObject) -> JsonObject:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def assistant(*blocks: JsonObject) -> JsonObject:
    return {"messages": [HELLO, {"role": "assistant", "content": list(blocks)}]}


FAULTS = [
    ({"max_tokens": None}, "max_tokens", InvalidAsk),
    ({"max_tokens": 0}, "max_tokens", InvalidAsk),
    ({"max_tokens": -1}, "max_tokens", InvalidAsk),
    ({"max_tokens": "5"}, "max_tokens", InvalidAsk),
    ({"messages": []}, "messages", InvalidAsk),
    ({"messages": [HELLO] * 129}, "messages", InvalidAsk),
    ({"messages": [{"role": "user"}]}, "messages[0].content", InvalidAsk),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", InvalidAsk),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", InvalidAsk),
    ({"temperature": 1.1}, "temperature", InvalidAsk),
    ({"temperature": -0.1}, "temperature", InvalidAsk),
    ({"top_p": 1.1}, "top_p", InvalidAsk),
    ({"top_k": -1}, "top_k", InvalidAsk),
    ({"stop_sequences": ["a"] * 5}, "stop_sequences", InvalidAsk),
    ({"stop_sequences": ["a", ""]}, "stop_sequences[1]", InvalidAsk),
    ({"thinking": {"type": "deep"}}, "thinking.type", InvalidAsk),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", InvalidAsk),
    ({"thinking": enabled(0)}, "thinking.budget_tokens", InvalidAsk),
    ({"output_config": {"effort": "huge"}}, "output_config.effort", InvalidAsk),
    ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type", InvalidAsk),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema", InvalidAsk),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": {"$ref": "http://x"}}}},
        "output_config.format.schema",
        Unsupported,
    ),
    ({"tools": [WEATHER] * 33}, "tools", InvalidAsk),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].name", InvalidAsk),
    ({"tools": [{**WEATHER, "name": "get weather"}]}, "tools[0].name", InvalidAsk),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema", InvalidAsk),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type", Unsupported),
    ({"tools": [{**WEATHER, "input_schema": {"enum": ["x" * 200] * 200}}]}, "tools", TooLarge),
    ({"tool_choice": {"type": "any"}}, "tool_choice.type", InvalidAsk),
    ({"tool_choice": {"type": "required"}}, "tool_choice.type", InvalidAsk),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "f"}}, "tool_choice.name", InvalidAsk),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name", InvalidAsk),
    ({"container": "c"}, "container", Unsupported),
    ({"mcp_servers": []}, "mcp_servers", Unsupported),
    ({"system": [{"type": "image"}]}, "system[0]", Unsupported),
    (user(), "messages[0].content", InvalidAsk),
    (user(text("a"), {"type": "image", "source": {}}), "messages[0].content[1]", Unsupported),
    (user({"type": "document"}), "messages[0].content[0]", Unsupported),
    (user({"type": "text"}), "messages[0].content[0].text", InvalidAsk),
    (user(CALL), "messages[0].content[0].type", InvalidAsk),
    (user({"type": "tool_result"}), "messages[0].content[0].tool_use_id", InvalidAsk),
    (
        user({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}),
        "messages[0].content[0].content[0]",
        Unsupported,
    ),
    (assistant({"type": "thinking"}), "messages[1].content[0].thinking", InvalidAsk),
    (assistant({**CALL, "id": ""}), "messages[1].content[0].id", InvalidAsk),
    (assistant({**CALL, "name": None}), "messages[1].content[0].name", InvalidAsk),
    (assistant({**CALL, "name": "a b"}), "messages[1].content[0].name", InvalidAsk),
    (assistant({**CALL, "input": "{}"}), "messages[1].content[0].input", InvalidAsk),
    (assistant({**CALL, "input": None}), "messages[1].content[0].input", InvalidAsk),
    (assistant({"type": "tool_use", "id": "t", "name": "f"}), "messages[1].content[0].input", InvalidAsk),
    (assistant({"type": "server_tool_use"}), "messages[1].content[0]", Unsupported),
    (assistant({"type": "web_search_tool_result"}), "messages[1].content[0]", Unsupported),
    (assistant({"type": "poem"}), "messages[1].content[0].type", InvalidAsk),
]


@pytest.mark.parametrize(("sent", "param", "kind"), FAULTS)
def test_a_fault_names_its_field(sent, param, kind):
    with pytest.raises(kind) as caught:
        parse(**sent)
    assert caught.value.param == param
    assert param in caught.value.message


def test_bytes_that_are_no_text_inside_an_input_are_a_fault_of_it():
    body = b"""{"max_tokens":1,"messages":[{"role":"assistant","content":[
        {"type":"tool_use","id":"t","name":"f","input":{"a":"\xff"}}]}]}"""
    with pytest.raises(InvalidAsk) as caught:
        MESSAGES.parse(body)
    assert caught.value.param == "messages[0].content[0].input"


def test_a_request_to_count_tokens_needs_no_limit():
    assert MESSAGES.parse_count(msgspec.json.encode({"messages": [HELLO]})).sampling.max_tokens is None


WHOLE: JsonObject = {
    "max_tokens": 100,
    "model": "gpt-oss",
    "system": [text("Be brief.")],
    "messages": [
        HELLO,
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, text("a"), CALL]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("7")], "is_error": False}],
        },
    ],
    "stop_sequences": ["END"],
    "temperature": 0.5,
    "top_k": 5,
    "tools": [WEATHER],
    "tool_choice": {"type": "tool", "name": "get_weather"},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "stream": True,
}


def test_the_whole_request_is_fine():
    assert parse(**WHOLE).dropped == ()


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(bodies(WHOLE))
def test_whatever_is_sent_can_be_given_to_an_engine_or_is_refused(body):
    try:
        parsed = MESSAGES.parse(body)
    except (InvalidAsk, Unsupported, TooLarge):
        return
    msgspec.json.decode(msgspec.json.encode(request_body(parsed.ask, "m", extras=LLAMA)))
