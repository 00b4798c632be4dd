"""Tools that a client runs and that are no functions, there and back."""

from typing import Any

import msgspec
import pytest
from openai.types.responses import Response, ResponseStreamEvent

from standpipe.chat.ask import JsonObject, Message, Role, ToolCall, ToolResult
from standpipe.chat.events import Event, Finished, FinishReason, Started, ToolCallDelta, Waiting
from standpipe.dialects.dialect import Parsed, ResponseMeta
from standpipe.dialects.openai.responses.request import OpenAIResponses
from tests import openai_schema

DIALECT = OpenAIResponses()
META = ResponseMeta("7Yd2k", 1_700_000_000, "m")
ISSUE = {"type": "function", "name": "create_issue", "parameters": {"type": "object", "properties": {}}}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch"'}
TOOLS: list[JsonObject] = [
    {"type": "custom", "name": "edit", "description": "Edits files.", "format": GRAMMAR},
    {"type": "local_shell"},
    {"type": "shell", "environment": {"type": "local"}},
    {"type": "apply_patch"},
    {"type": "namespace", "name": "mcp_github", "description": "GitHub", "tools": [ISSUE]},
    {"type": "web_search"},
    {**ISSUE, "name": "plain"},
]
CALLS = {
    "edit": '{"input":"*** Begin Patch\\nx"}',
    "local_shell": '{"command":["ls","-l"],"timeout_ms":500}',
    "shell": '{"commands":["ls -l"],"max_output_length":9}',
    "apply_patch": '{"type":"create_file","path":"a.py","diff":"+x"}',
    "mcp_github__create_issue": '{"title":"x"}',
    "plain": "{}",
}
ITEMS: list[JsonObject] = [
    {"type": "custom_tool_call", "call_id": "call_0", "name": "edit", "input": "*** Begin Patch\nx"},
    {
        "type": "local_shell_call",
        "call_id": "call_1",
        "action": {
            "type": "exec",
            "command": ["ls", "-l"],
            "env": {},
            "timeout_ms": 500,
        },
        "status": "completed",
    },
    {
        "type": "shell_call",
        "call_id": "call_2",
        "action": {"commands": ["ls -l"], "timeout_ms": None, "max_output_length": 9},
        "environment": {"type": "local"},
        "status": "completed",
    },
    {
        "type": "apply_patch_call",
        "call_id": "call_3",
        "operation": {"type": "create_file", "path": "a.py", "diff": "+x"},
        "status": "completed",
    },
    {
        "type": "function_call",
        "call_id": "call_4",
        "name": "create_issue",
        "namespace": "mcp_github",
        "arguments": '{"title":"x"}',
        "status": "completed",
    },
    {"type": "function_call", "call_id": "call_5", "name": "plain", "arguments": "{}", "status": "completed"},
]


def parse(**body: Any) -> Parsed:
    return DIALECT.parse(msgspec.json.encode({"input": "Hello!", "tools": TOOLS, **body}))


def events(pieces: int) -> list[Event]:
    """A turn of all calls, each in so many pieces."""
    said: list[Event] = [Started()]
    for i, (name, arguments) in enumerate(CALLS.items()):
        said.append(ToolCallDelta(i, "", f"call_{i}", name))
        size = len(arguments) // pieces + 1
        said += [ToolCallDelta(i, arguments[at : at + size]) for at in range(0, len(arguments), size)]
        said.append(Waiting())
    return [*said, Finished(FinishReason.TOOL_CALLS)]


def without_ids(items: list[JsonObject]) -> list[JsonObject]:
    return [{name: value for name, value in item.items() if name != "id"} for item in items]


def test_what_the_client_runs_is_a_function_to_the_model_and_the_rest_is_named():
    parsed = parse()
    assert [tool.name for tool in parsed.ask.tools] == list(CALLS)
    assert "lark grammar" in (parsed.ask.tools[0].description or "")
    assert parsed.dropped == ("tools[5]",)
    assert [tool.name for tool in parsed.echo.outline.tools] == ["plain"]


def test_tools_may_come_later():
    item = {"type": "additional_tools", "role": "developer", "tools": [TOOLS[0]]}
    hello = {"role": "user", "content": "Hello!"}
    ask = parse(tools=TOOLS[6:], input=[hello, item]).ask
    assert [tool.name for tool in ask.tools] == ["plain", "edit"]
    assert len(ask.messages) == 1


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ({"type": "custom", "name": "edit"}, "edit"),
        ({"type": "local_shell"}, "local_shell"),
        ({"type": "shell"}, "shell"),
        ({"type": "apply_patch"}, "apply_patch"),
        ({"type": "function", "name": "plain"}, "plain"),
    ],
)
def test_any_of_them_may_be_chosen(choice, name):
    parsed = parse(tool_choice=choice)
    assert parsed.ask.tool_choice is not None
    assert parsed.ask.tool_choice.name == name
    assert parsed.echo.outline.tool_choice == choice


def test_what_would_run_in_a_container_of_openais_is_no_tool_here():
    parsed = parse(tools=[{"type": "shell", "environment": {"type": "container_auto"}}, TOOLS[-1]])
    assert parsed.dropped == ("tools[0]",)


def test_a_file_is_deleted_without_a_difference():
    encoder = DIALECT.encoder(parse(), META)
    called = ToolCallDelta(0, '{"type":"delete_file","path":"a.py"}', "c", "apply_patch")
    told = openai_schema.decoded(encoder.encode([Started(), called, Finished(FinishReason.TOOL_CALLS)]))
    assert told[-1]["response"]["output"][0]["operation"] == {"type": "delete_file", "path": "a.py"}


@pytest.mark.parametrize("pieces", [1, 3])
def test_calls_come_back_as_the_items_that_the_client_expects(pieces):
    encoder = DIALECT.encoder(parse(), META)
    written = b"".join(encoder.encode([event]) for event in events(pieces))
    told = openai_schema.decoded(written)
    assert without_ids(told[-1]["response"]["output"]) == ITEMS
    for _, data in openai_schema.events(written):
        openai_schema.hold(ResponseStreamEvent, data)
    openai_schema.hold(Response, msgspec.json.encode(told[-1]["response"]))
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert without_ids(done) == ITEMS
    deltas = [event["delta"] for event in told if event["type"] == "response.custom_tool_call_input.delta"]
    assert "".join(deltas) == ITEMS[0]["input"]


def test_a_call_that_was_cut_off_has_no_input_yet():
    encoder = DIALECT.encoder(parse(), META)
    said: list[Event] = [
        Started(),
        ToolCallDelta(0, '{"inp', "c", "edit"),
        ToolCallDelta(1, "[", "d", "local_shell"),
        ToolCallDelta(2, '{"type":"create_file","path":"a.py","diff":"', "e", "apply_patch"),
    ]
    told = openai_schema.decoded(encoder.encode([*said, Finished(FinishReason.LENGTH)]))
    assert [
        item.get("input", item.get("action", item.get("operation"))) for item in told[-1]["response"]["output"]
    ] == [
        "",
        {"type": "exec", "command": [], "env": {}},
        {"type": "update_file", "path": "", "diff": ""},
    ]
    assert told[-1]["response"]["output"][2]["status"] == "in_progress"


def test_what_came_back_is_read_as_it_was_called():
    outcome = {"type": "exit", "exit_code": 0}
    results = [
        {"type": "custom_tool_call_output", "call_id": "call_0", "output": "Done."},
        {"type": "local_shell_call_output", "id": "call_1", "output": '{"stdout":"a"}'},
        {
            "type": "shell_call_output",
            "call_id": "call_2",
            "output": [{"stdout": "a", "stderr": "", "outcome": outcome}],
        },
        {"type": "apply_patch_call_output", "call_id": "call_3", "status": "completed", "output": None},
        {"type": "function_call_output", "call_id": "call_4", "output": "#1"},
    ]
    hello = {"role": "user", "content": "Hello!"}
    messages = parse(input=[hello, *ITEMS[:5], *results]).ask.messages
    (called,) = (message for message in messages if message.role is Role.ASSISTANT)
    assert [part.name for part in called.parts if isinstance(part, ToolCall)] == list(CALLS)[:5]
    assert called.parts[0] == ToolCall("call_0", "edit", CALLS["edit"])
    assert called.parts[3] == ToolCall("call_3", "apply_patch", CALLS["apply_patch"])
    assert called.parts[4] == ToolCall("call_4", "mcp_github__create_issue", '{"title":"x"}')
    assert messages[2:] == (
        Message(Role.TOOL, (ToolResult("call_0", "Done."),)),
        Message(Role.TOOL, (ToolResult("call_1", '{"stdout":"a"}'),)),
        Message(
            Role.TOOL,
            (ToolResult("call_2", '[{"stdout":"a","stderr":"","outcome":{"type":"exit","exit_code":0}}]'),),
        ),
        Message(Role.TOOL, (ToolResult("call_3", ""),)),
        Message(Role.TOOL, (ToolResult("call_4", "#1"),)),
    )
