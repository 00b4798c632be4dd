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
from standpipe.chat.errors import Failure, InvalidAsk, NotFound, Unsupported
from standpipe.dialects.dialect import Parsed
from standpipe.dialects.openai.responses.request import OpenAIResponses

DIALECT = OpenAIResponses()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: JsonObject = {"type": "function", "name": "get_weather", "parameters": SCHEMA}
HELLO = {"role": "user", "content": "Hello!"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city":"Paris"}'}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "7 °C"}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "Hm."}],
}
SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Looking.", "annotations": [], "logprobs": []}],
}


def parse(**body: Any) -> Parsed:
    return DIALECT.parse(msgspec.json.encode({"input": "Hello!", **body}))


def messages(*items: JsonObject) -> tuple[Message, ...]:
    return parse(input=list(items)).ask.messages


def test_a_string_is_a_user_message():
    parsed = parse()
    assert parsed.ask.messages == (Message(Role.USER, (Text("Hello!"),)),)
    assert parsed.ask.sampling == Sampling()
    assert not parsed.stream
    assert parsed.dropped == ()


def test_instructions_come_first_and_empty_ones_do_not():
    assert parse(instructions="Be brief.").ask.messages[0] == Message(Role.SYSTEM, (Text("Be brief."),))
    assert parse(instructions="").ask == parse().ask


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"include": ["message.output_text.logprobs"]}, Sampling(logprobs=True)),
        ({"top_logprobs": 2}, Sampling(logprobs=True, top_logprobs=2)),
        ({"top_logprobs": 0}, Sampling()),
        ({"include": ["reasoning.encrypted_content", "web_search_call.results"]}, Sampling()),
    ],
)
def test_log_probabilities_are_asked_for_in_two_ways(sent, expected):
    assert parse(**sent).ask.sampling == expected


def test_every_kind_of_item_is_read():
    assert messages(
        {"role": "system", "content": "Be brief."},
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "No jokes."}]},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        THOUGHT,
        SAID,
        CALL,
        {**CALL, "call_id": "call_2", "id": "fc_2", "status": "completed"},
        OUTPUT,
        {
            **OUTPUT,
            "call_id": "call_2",
            "output": [{"type": "input_text", "text": "8"}, {"type": "input_text", "text": "°C"}],
        },
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ) == (
        Message(Role.SYSTEM, (Text("Be brief."),)),
        Message(Role.DEVELOPER, (Text("No jokes."),)),
        Message(Role.USER, (Text("a"), Text("b"))),
        Message(
            Role.ASSISTANT,
            (
                Reasoning("Hm."),
                Text("Looking."),
                ToolCall("call_1", "get_weather", '{"city":"Paris"}'),
                ToolCall("call_2", "get_weather", '{"city":"Paris"}'),
            ),
        ),
        Message(Role.TOOL, (ToolResult("call_1", "7 °C"),)),
        Message(Role.TOOL, (ToolResult("call_2", "8\n°C"),)),
        Message(Role.ASSISTANT, (Refusal("No."),)),
    )


def test_turns_of_an_assistant_are_parted_by_whoever_else_speaks():
    assert [message.role for message in messages(HELLO, THOUGHT, CALL, OUTPUT, THOUGHT, SAID, HELLO, SAID)] == [
        Role.USER,
        Role.ASSISTANT,
        Role.TOOL,
        Role.ASSISTANT,
        Role.USER,
        Role.ASSISTANT,
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"content": None, "summary": [{"type": "summary_text", "text": "Short."}]}, (Reasoning("Short."),)),
        (
            {"content": [], "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]},
            (Reasoning("a\nb"),),
        ),
        ({"summary": [{"type": "summary_text", "text": "Short."}]}, (Reasoning("Hm."),)),
        ({"content": None, "encrypted_content": "gAAAA"}, ()),
    ],
)
def test_reasoning_is_what_can_be_read_of_it(changes, expected):
    assert messages(HELLO, {**THOUGHT, **changes}, SAID)[1].parts == (*expected, Text("Looking."))


def test_text_may_be_called_as_other_apis_call_it():
    for kind in ("input_text", "output_text", "text"):
        for role in ("user", "assistant"):
            assert messages({"role": role, "content": [{"type": kind, "text": "x"}]})[0].parts == (Text("x"),)


def test_tools_are_read_whole():
    ask = parse(
        tools=[{**WEATHER, "description": "Now.", "strict": True}, {"type": "function", "name": "noop"}],
        tool_choice={"type": "function", "name": "noop"},
        parallel_tool_calls=False,
    ).ask
    assert ask.tools == (Tool("get_weather", "Now.", SCHEMA, strict=True), Tool("noop"))
    assert ask.tool_choice == ToolChoice(ToolMode.NAMED, "noop")
    assert ask.parallel_tool_calls is False


@pytest.mark.parametrize("mode", ["auto", "none", "required"])
def test_a_choice_of_tools_may_be_a_word(mode):
    parsed = parse(tools=[WEATHER], tool_choice=mode)
    assert parsed.ask.tool_choice == ToolChoice(ToolMode(mode))
    assert parsed.echo.outline.tool_choice == mode


def test_allowed_tools_are_those_that_the_model_hears_of():
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "noop"}]}
    parsed = parse(tools=[WEATHER, {"type": "function", "name": "noop"}], tool_choice=choice)
    assert parsed.ask.tools == (Tool("noop"),)
    assert parsed.ask.tool_choice == ToolChoice(ToolMode.REQUIRED)
    assert parsed.echo.outline.tool_choice == choice
    assert [tool.name for tool in parsed.echo.outline.tools] == ["get_weather", "noop"]


def test_formats_are_read():
    described = {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True, "description": "A city."}
    ask = parse(text={"format": described, "verbosity": "low"}).ask
    assert ask.format == OutputFormat(FormatKind.JSON_SCHEMA, SCHEMA, "city", "A city.", strict=True)
    assert parse(text={"format": {"type": "json_object"}}).ask.format == OutputFormat(FormatKind.JSON_OBJECT)
    assert parse(text={"format": {"type": "text"}}).ask.format == OutputFormat()
    assert parse(text={}).ask.format == OutputFormat()


@pytest.mark.parametrize(
    ("sent", "effort"),
    [
        ("none", Effort.NONE),
        ("minimal", Effort.MINIMAL),
        ("high", Effort.HIGH),
        ("xhigh", Effort.HIGH),
        ("max", Effort.HIGH),
    ],
)
def test_an_effort_beyond_all_is_the_highest(sent, effort):
    parsed = parse(reasoning={"effort": sent, "summary": "auto"})
    assert parsed.ask.effort is effort
    assert parsed.echo.outline.reasoning.effort == effort


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ({"role": "assistant", "content": [{"type": "refusal"}]}, (Text("[something that cannot be shown here]"),)),
        ({**THOUGHT, "content": "Hm."}, (Reasoning("Hm."),)),
        ({**CALL, "name": "<|x|>", "arguments": None}, (ToolCall("call_1", "__x__", ""),)),
        ({**CALL, "name": None}, (ToolCall("call_1", "unnamed", '{"city":"Paris"}'),)),
        ({**CALL, "type": "custom_tool_call", "input": "ls"}, (ToolCall("call_1", "get_weather", '{"input":"ls"}'),)),
        ({**OUTPUT, "output": None}, (ToolResult("call_1", ""),)),
        ({**OUTPUT, "output": []}, (ToolResult("call_1", ""),)),
        (
            {**OUTPUT, "output": [{"type": "input_text", "text": "a"}, {"type": "input_image"}]},
            (ToolResult("call_1", "a\n[image that cannot be shown here]"),),
        ),
        (
            {**OUTPUT, "type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": "x"}},
            (ToolResult("call_1", "[screenshot that cannot be shown here]"),),
        ),
        ({**OUTPUT, "type": "custom_tool_call_output"}, (ToolResult("call_1", "7 °C"),)),
        ({**CALL, "arguments": {"city": "Paris"}}, (ToolCall("call_1", "get_weather", '{"city":"Paris"}'),)),
        ({**OUTPUT, "output": 7}, (ToolResult("call_1", "7"),)),
        ({**OUTPUT, "output": [{"stdout": "a"}]}, (ToolResult("call_1", '[{"stdout":"a"}]'),)),
    ],
)
def test_what_was_said_before_is_kept_as_far_as_it_can_be(item, parts):
    assert messages(HELLO, item, HELLO)[1].parts == parts


ELSEWHERE: list[JsonObject] = [
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
    {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["x"], "results": None},
    {"type": "computer_call", "id": "c", "call_id": "c", "status": "completed", "pending_safety_checks": []},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGk="},
    {"type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": "1", "outputs": [{"type": "logs"}]},
    {"type": "mcp_list_tools", "id": "l", "server_label": "s", "tools": [{"name": "a.b", "input_schema": {}}]},
    {"type": "mcp_approval_request", "id": "a", "name": "x", "arguments": "{}", "server_label": "s"},
    {"type": "mcp_approval_response", "approval_request_id": "a", "approve": True},
    {"type": "tool_search_call", "call_id": "t", "arguments": {"query": "x"}, "execution": "server"},
    {"type": "tool_search_output", "call_id": "t", "tools": [{"type": "function", "name": "x"}], "status": "completed"},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"},
    {"type": "compaction", "id": "c", "encrypted_content": "gAAAA"},
    {"type": "something_of_tomorrow", "id": "x", "payload": [1]},
]


def test_tools_that_ran_elsewhere_are_told_or_passed_over():
    ran = {"type": "mcp_call", "id": "mcp_1", "name": "search", "arguments": "{}", "output": "Found."}
    assert messages(HELLO, *ELSEWHERE, ran, SAID, HELLO)[1:3] == (
        Message(Role.ASSISTANT, (ToolCall("mcp_1", "search", "{}"),)),
        Message(Role.TOOL, (ToolResult("mcp_1", "Found."),)),
    )


@pytest.mark.parametrize("item", ELSEWHERE, ids=lambda item: item["type"])
def test_no_item_of_the_past_ends_a_conversation(item):
    assert messages(HELLO, item, SAID, HELLO) == messages(HELLO, SAID, HELLO)


def test_an_earlier_item_is_what_it_was():
    known = {"rs_x_0": (Reasoning("Hm."),), "fc_x_1": (ToolCall("call_1", "get_weather", "{}"),)}
    referred = [HELLO, {"type": "item_reference", "id": "rs_x_0"}, {"id": "fc_x_1"}, OUTPUT]
    parsed = DIALECT.read(msgspec.json.encode({"input": referred}), known.get)
    assert [message.parts for message in parsed.ask.messages[1:]] == [
        (Reasoning("Hm."), ToolCall("call_1", "get_weather", "{}")),
        (ToolResult("call_1", "7 °C"),),
    ]
    assert parsed.dropped == ()


def test_an_item_that_is_no_longer_known_does_not_end_a_conversation():
    lost = [{"type": "item_reference", "id": f"{kind}_x_0"} for kind in ("rs", "msg", "fc")]
    parsed = parse(input=[HELLO, *lost[:2], HELLO, lost[2], OUTPUT])
    note = Text("[something said earlier that is no longer known here]")
    assert [message.parts for message in parsed.ask.messages[1:]] == [
        (note,),
        (Text("Hello!"),),
        (note, ToolCall("call_1", "unnamed", "{}")),
        (ToolResult("call_1", "7 °C"),),
    ]
    assert parsed.dropped == ("input[1]", "input[2]", "input[4]")


def bad(param: str, kind: type[Failure] = InvalidAsk, **body: Any) -> Any:
    return pytest.param(body, param, kind, id=f"{param} {len(str(body))}")


def part(kind: str, **fields: Any) -> list[JsonObject]:
    return [{"role": "user", "content": [{"type": "input_text", "text": "What?"}, {"type": kind, **fields}]}]


def form(**fields: Any) -> JsonObject:
    return {"format": {"type": "json_schema", "name": "x", "schema": {}, **fields}}


def allowed(**fields: Any) -> JsonObject:
    return {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "get_weather"}], **fields}


BAD = [
    bad("input", input=[]),
    bad("input", input=[{**THOUGHT, "content": None}]),
    bad("input[0]", input=["Hello!"]),
    bad("input[1].role", input=[HELLO, {"content": "x"}]),
    bad("input[0].role", input=[{"role": "wizard", "content": "x"}]),
    bad("input[0].role", input=[{"role": "tool", "content": "x"}]),
    bad("input[2].content", input=[HELLO, HELLO, {"role": "user", "content": 5}]),
    bad("input[0].content", input=[{"role": "user"}]),
    bad("input[0].content", input=[{"role": "user", "content": []}]),
    bad("input[0].content[1].text", input=part("input_text")),
    bad("input[0].content[1]", Unsupported, input=part("input_image", image_url="x")),
    bad("input[0].content[1]", Unsupported, input=part("input_file", file_id="x")),
    bad("input[0].content[1]", Unsupported, input=part("input_audio")),
    bad("input[0].call_id", input=[{**CALL, "call_id": None}]),
    bad("input[0].call_id", input=[{**OUTPUT, "call_id": ""}]),
    bad("input[1].tools", input=[HELLO, {"type": "additional_tools", "tools": [{"name": "x"}]}]),
    bad("input[0]", NotFound, input=[{"type": "item_reference", "id": "msg_1"}]),
    bad("input[1]", NotFound, input=[HELLO, {"id": "msg_1"}]),
    bad("input[1].type", Unsupported, input=[HELLO, {"type": "compaction_trigger"}]),
    bad("tools[0].name", tools=[{"type": "custom"}]),
    bad("tools[0].name", tools=[{"type": "namespace", "tools": [WEATHER]}]),
    bad("tools[0].tools[1].name", tools=[{"type": "namespace", "name": "n", "tools": [WEATHER, WEATHER]}]),
    bad(
        "tools[0].tools[0].parameters",
        Unsupported,
        tools=[{"type": "namespace", "name": "n", "tools": [{**WEATHER, "parameters": {"$ref": "http://x"}}]}],
    ),
    bad("background", Unsupported, background=True),
    bad("conversation", Unsupported, conversation="conv_1"),
    bad("prompt", Unsupported, prompt={"id": "pmpt_1"}),
    bad("moderation", Unsupported, moderation={"model": "x"}),
    bad("include[1]", include=["reasoning.encrypted_content", "everything"]),
    bad("reasoning.effort", reasoning={"effort": "extreme"}),
    bad("text.format.type", text={"format": {"type": "grammar"}}),
    bad("text.format.type", text={"format": {}}),
    bad("text.format.name", text=form(name="a b")),
    bad("text.format.schema", text=form(schema=None)),
    bad("text.format.schema", text=form(schema={"enum": [1] * 257})),
    bad("text.format.strict", text=form(strict=1)),
    bad("tools[0].type", Unsupported, tools=[{"type": "web_search"}]),
    bad("tools[0].type", tools=[{"name": "x"}]),
    bad("tools[0].name", tools=[{"type": "function", "function": {"name": "x"}}]),
    bad("tools[0].name", tools=[{"type": "function", "name": "get weather"}]),
    bad("tools[1].name", tools=[WEATHER, WEATHER]),
    bad("tools[0].parameters", tools=[{**WEATHER, "parameters": {"$ref": "http://x"}}], kind=Unsupported),
    bad("tool_choice", tool_choice="required"),
    bad("tool_choice.type", Unsupported, tools=[WEATHER], tool_choice={"type": "web_search_preview"}),
    bad("tool_choice.name", tools=[WEATHER], tool_choice={"type": "function"}),
    bad("tool_choice.name", tools=[WEATHER], tool_choice={"type": "function", "name": "x"}),
    bad("tool_choice.mode", tools=[WEATHER], tool_choice=allowed(mode="none")),
    bad("tool_choice.mode", tools=[WEATHER], tool_choice=allowed(mode=None)),
    bad("tool_choice.tools[0].name", tool_choice=allowed()),
    bad("tool_choice.tools[0].type", Unsupported, tools=[WEATHER], tool_choice=allowed(tools=[{"type": "mcp"}])),
]


@pytest.mark.parametrize(("body", "param", "kind"), BAD)
def test_every_fault_names_its_field(body, param, kind):
    with pytest.raises(Failure) as caught:
        parse(**body)
    assert (caught.value.param, type(caught.value)) == (param, kind)
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b"{}", b'{"input": [', b"\xff", b'{"input": NaN}'])
def test_what_is_no_request_is_refused(body):
    with pytest.raises(InvalidAsk):
        DIALECT.parse(body)


@pytest.mark.parametrize(
    "kind",
    [
        *("web_search", "web_search_preview", "web_search_2025_08_26", "mcp", "code_interpreter", "file_search"),
        *("image_generation", "computer_use_preview", "computer", "tool_search", "something_of_tomorrow"),
    ],
)
def test_a_tool_of_openais_own_is_passed_over_beside_functions_and_refused_alone(kind):
    tool = {"type": kind, "container": {"type": "auto"}, "server_label": "s", "vector_store_ids": ["v"]}
    parsed = parse(tools=[tool, WEATHER])
    assert [one.name for one in parsed.ask.tools] == ["get_weather"]
    assert "tools[0]" in parsed.dropped
    with pytest.raises(Unsupported, match=f"`{kind}`"):
        parse(tools=[tool])
