from typing import Any

import msgspec
import pytest

from standpipe.chat.ask import (
    Effort,
    FormatKind,
    JsonObject,
    Message,
    OutputFormat,
    Reasoning,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from standpipe.chat.errors import InvalidAsk, Unsupported
from standpipe.dialects.anthropic.request import MESSAGES
from standpipe.dialects.dialect import Parsed

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


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ({"type": "thinking"}, (Reasoning(""),)),
        ({**CALL, "name": "a b"}, (ToolCall("toolu_1", "a_b", '{"city":"Paris"}'),)),
        ({**CALL, "name": None, "input": None}, (ToolCall("toolu_1", "unnamed", "{}"),)),
        ({"type": "tool_use", "id": "toolu_1", "name": "f"}, (ToolCall("toolu_1", "f", "{}"),)),
        ({**CALL, "input": '{"a": 1}'}, (ToolCall("toolu_1", "get_weather", '{"a": 1}'),)),
        ({**CALL, "input": [1]}, (ToolCall("toolu_1", "get_weather", '{"input":"[1]"}'),)),
        ({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, (Text(""),)),
        (
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result"}]},
            (Text("[something that cannot be shown here]"),),
        ),
    ],
)
def test_what_was_said_before_is_kept_as_far_as_it_can_be(block, parts):
    assert messages(HELLO, {"role": "assistant", "content": [block]}, HELLO)[1].parts == parts


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (None, ""),
        ([], ""),
        ([{"type": "image", "source": {}}], "[image that cannot be shown here]"),
        ([text("a"), {"type": "tool_reference", "tool_name": "f"}], "a\n[something that cannot be shown here]"),
    ],
)
def test_the_result_of_a_tool_is_read_whatever_it_is(content, read):
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": content}
    (_, _, message) = messages(HELLO, {"role": "assistant", "content": [CALL]}, {"role": "user", "content": [result]})
    assert message.parts == (ToolResult("toolu_1", read),)


def user(*blocks: JsonObject) -> JsonObject:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def assistant(*blocks: JsonObject) -> JsonObject:
    return {"messages": [HELLO, {"role": "assistant", "content": list(blocks)}]}


FAULTS = [
    ({"max_tokens": None}, "max_tokens", InvalidAsk),
    ({"messages": []}, "messages", InvalidAsk),
    ({"messages": [{"role": "user"}]}, "messages[0].content", InvalidAsk),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", InvalidAsk),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", InvalidAsk),
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
    ({"tools": [WEATHER, WEATHER]}, "tools[1].name", InvalidAsk),
    ({"tools": [{**WEATHER, "name": "get weather"}]}, "tools[0].name", InvalidAsk),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema", InvalidAsk),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type", Unsupported),
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
    (user(CALL), "messages[0].content[0]", Unsupported),
    (user({"type": "tool_result"}), "messages[0].content[0].tool_use_id", InvalidAsk),
    (assistant({**CALL, "id": ""}), "messages[1].content[0].id", InvalidAsk),
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


@pytest.mark.parametrize(
    ("kind", "name", "fields"),
    [
        ("bash_20250124", "bash", {"command", "restart"}),
        ("text_editor_20250124", "str_replace_editor", {"command", "path", "new_str"}),
        ("text_editor_20250728", "str_replace_based_edit_tool", {"command", "path", "insert_text"}),
        ("memory_20250818", "memory", {"command", "path", "old_path", "new_path"}),
    ],
)
def test_a_tool_that_the_client_runs_is_a_function_with_a_known_schema(kind, name, fields):
    (tool,) = parse(tools=[{"type": kind, "name": name, "max_characters": 5}]).ask.tools
    assert tool.name == name
    assert tool.parameters is not None
    assert fields <= tool.parameters["properties"].keys()
    assert ("insert_text" in tool.parameters["properties"]) is (kind in {"text_editor_20250728", "memory_20250818"})


@pytest.mark.parametrize("kind", ["bash", "code_execution_20250825", "computer_20250124", "web_fetch_20250910"])
def test_a_tool_of_anthropics_own_that_no_client_runs_is_refused(kind):
    with pytest.raises(Unsupported, match=f"`{kind}`"):
        parse(tools=[{"type": kind, "name": "x"}])
