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
from standpipe.chat.errors import Failure, InvalidAsk, Unsupported
from standpipe.dialects.dialect import Parsed
from standpipe.dialects.openai.request import API, COMPLETIONS, OpenAIChat

HELLO = {"role": "user", "content": "Hello!"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: JsonObject = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}


def parse(dialect: OpenAIChat = COMPLETIONS, **body: Any) -> Parsed:
    return dialect.parse(msgspec.json.encode({"messages": [HELLO], **body}))


def messages(*sent: JsonObject) -> tuple[Message, ...]:
    return parse(messages=list(sent)).ask.messages


def test_the_api_has_its_own_defaults():
    parsed = parse(API)
    assert parsed.stream
    assert parsed.ask.sampling == Sampling(temperature=0.8, top_p=0.9)


def test_a_default_yields_to_what_is_sent():
    parsed = parse(API, stream=False, temperature=0, top_p=1, max_tokens=-1)
    assert not parsed.stream
    assert parsed.ask.sampling == Sampling(temperature=0, top_p=1)


@pytest.mark.parametrize(
    ("sent", "limit"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": -1}, None),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": -1}, None),
    ],
)
def test_the_newer_name_of_the_token_limit_wins_and_minus_one_is_none(sent, limit):
    assert parse(**sent).ask.sampling.max_tokens == limit


def test_one_stop_string_is_a_list_of_one():
    assert parse(stop="END").ask.sampling.stop == ("END",)


def test_every_role_is_read():
    assert messages(
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "No "}, {"type": "text", "text": "jokes."}]},
        {"role": "user", "content": "", "name": "Ann_1"},
        {"role": "assistant", "content": "Looking.", "reasoning": "Hm.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "7 °C"}]},
        {"role": "assistant", "content": None, "refusal": "No."},
    ) == (
        Message(Role.SYSTEM, (Text("Be brief."),)),
        Message(Role.DEVELOPER, (Text("No "), Text("jokes."))),
        Message(Role.USER, (Text(""),), "Ann_1"),
        Message(
            Role.ASSISTANT,
            (Reasoning("Hm."), Text("Looking."), ToolCall("call_1", "get_weather", '{"city":"Paris"}')),
        ),
        Message(Role.TOOL, (ToolResult("call_1", "7 °C"),)),
        Message(Role.ASSISTANT, (Refusal("No."),)),
    )


@pytest.mark.parametrize("content", [None, "", []])
def test_an_assistant_that_only_called_tools_has_no_text(content):
    (message,) = messages({"role": "assistant", "content": content, "tool_calls": [CALL]})
    assert message.parts == (ToolCall("call_1", "get_weather", '{"city":"Paris"}'),)


def test_an_assistant_may_have_said_nothing():
    assert messages({"role": "assistant", "content": ""})[0].parts == (Text(""),)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "thinking"])
def test_reasoning_is_taken_back_under_every_name_and_once(name):
    sent = {"role": "assistant", "content": "Hi.", name: "Hm."}
    assert messages(sent)[0].parts == (Reasoning("Hm."), Text("Hi."))
    assert messages({**sent, "reasoning_content": "Hm."})[0].parts == (Reasoning("Hm."), Text("Hi."))


def test_refusals_may_be_parts():
    sent = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert messages(sent)[0].parts == (Refusal("No."),)


def test_tools_are_read_whole():
    ask = parse(
        tools=[
            {"type": "function", "function": {**WEATHER["function"], "description": "Now.", "strict": True}},
            {"function": {"name": "noop"}},
        ],
        tool_choice={"type": "function", "function": {"name": "noop"}},
        parallel_tool_calls=False,
    ).ask
    assert ask.tools == (Tool("get_weather", "Now.", SCHEMA, strict=True), Tool("noop"))
    assert ask.tool_choice == ToolChoice(ToolMode.NAMED, "noop")
    assert ask.parallel_tool_calls is False


def test_formats_and_effort_are_read():
    described = {"name": "city", "schema": SCHEMA, "strict": True, "description": "A city."}
    ask = parse(response_format={"type": "json_schema", "json_schema": described}, reasoning_effort="low").ask
    assert ask.format == OutputFormat(FormatKind.JSON_SCHEMA, SCHEMA, "city", "A city.", strict=True)
    assert ask.effort is Effort.LOW
    assert parse(reasoning_effort="xhigh").ask.effort is Effort.HIGH
    assert parse(response_format={"type": "json_object"}).ask.format == OutputFormat(FormatKind.JSON_OBJECT)
    assert parse(response_format={"type": "text"}).ask.format == OutputFormat()


def test_usage_in_streams_is_remembered():
    assert parse(stream=True, stream_options={"include_usage": True}).echo is True
    assert parse(stream=True, stream_options={"include_obfuscation": False}).echo is False


def image(kind: str) -> list[JsonObject]:
    return [{"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": kind, kind: {"url": "x"}}]}]


@pytest.mark.parametrize(
    ("turn", "parts"),
    [
        ({"content": None}, (Text(""),)),
        ({"content": [{"type": "refusal"}]}, (Text("[something that cannot be shown here]"),)),
        ({"content": [{"type": "input_audio"}]}, (Text("[audio that cannot be shown here]"),)),
        ({"tool_calls": [{"function": {"name": "<|x|>", "arguments": None}}]}, (ToolCall("call_no_1", "__x__", ""),)),
        (
            {"tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "sh", "input": "ls"}}]},
            (ToolCall("c", "sh", '{"input":"ls"}'),),
        ),
        ({"function_call": {"name": "f", "arguments": "{}"}}, (ToolCall("call_no_1", "f", "{}"),)),
        ({"content": "Hi.", "audio": {"id": "a"}, "name": "é"}, (Text("Hi."),)),
    ],
)
def test_what_was_said_before_is_kept_as_far_as_it_can_be(turn, parts):
    assert messages(HELLO, {"role": "assistant", **turn}, HELLO)[1].parts == parts


@pytest.mark.parametrize(
    ("result", "call_id", "text"),
    [
        ({"role": "tool", "tool_call_id": "call_1", "content": None}, "call_1", ""),
        ({"role": "tool", "tool_call_id": "call_1", "content": []}, "call_1", ""),
        ({"role": "tool", "content": "7"}, "call_1", "7"),
        ({"role": "function", "name": "get_weather", "content": "7"}, "call_1", "7"),
        (
            {"role": "tool", "tool_call_id": "other", "content": image("image_url")[0]["content"]},
            "other",
            "What?\n[image that cannot be shown here]",
        ),
    ],
)
def test_the_result_of_a_tool_is_read_whatever_it_is(result, call_id, text):
    assert messages(HELLO, {"role": "assistant", "tool_calls": [CALL]}, result)[2].parts == (ToolResult(call_id, text),)


def test_a_schema_may_stand_beside_a_json_object_and_have_no_name():
    assert parse(response_format={"type": "json_object", "schema": SCHEMA}).ask.format.schema == SCHEMA
    assert parse(response_format={"type": "json_schema", "json_schema": {"schema": SCHEMA}}).ask.format.name is None


def bad(param: str, kind: type[Failure] = InvalidAsk, **body: Any) -> Any:
    return pytest.param(body, param, kind, id=f"{param} {len(str(body))}")


def tool(**function: Any) -> list[JsonObject]:
    return [WEATHER, {"type": "function", "function": function}]


def called(**changes: Any) -> list[JsonObject]:
    return [HELLO, {"role": "assistant", "tool_calls": [CALL, {**CALL, **changes}]}]


def described(**schema: Any) -> JsonObject:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, **schema}}


BAD = [
    bad("messages[1].role", messages=[HELLO, {"content": "x"}]),
    bad("messages[0].role", messages=[{"role": "wizard", "content": "x"}]),
    bad("messages[2].content", messages=[HELLO, HELLO, {"role": "user", "content": 5}]),
    bad("messages[0].content", messages=[{"role": "user"}]),
    bad("messages[0].content", messages=[{"role": "system", "content": None}]),
    bad("messages[0].content", messages=[{"role": "user", "content": []}]),
    bad("messages[0].content[0].type", messages=[{"role": "user", "content": [{"text": "x"}]}]),
    bad("messages[0].content[0].text", messages=[{"role": "user", "content": [{"type": "text"}]}]),
    bad("messages[0].content[1]", Unsupported, messages=image("image_url")),
    bad("messages[0].content[1]", Unsupported, messages=image("input_audio")),
    bad("messages[0].content[1]", Unsupported, messages=image("file")),
    bad("messages[0].content[1]", Unsupported, messages=image("video_url")),
    bad("messages[0].content[0]", Unsupported, messages=[{"role": "user", "content": [{"type": "refusal"}]}]),
    bad("messages[0].tool_call_id", messages=[{"role": "tool", "content": "x"}]),
    bad("max_tokens", max_tokens=0),
    bad("messages[0].name", messages=[{**HELLO, "name": "a b"}]),
    bad("messages[0].name", messages=[{**HELLO, "name": ""}]),
    bad("messages[0].reasoning", messages=[{"role": "assistant", "content": "", "reasoning": {}}]),
    bad("messages[1].tool_calls[1].id", messages=called(id=1)),
    bad("stream_options.include_usage", stream_options={"include_usage": "yes"}),
    bad("n", n=9),
    bad("n", n=0),
    bad("stop", stop=""),
    bad("stop", stop="x" * 65),
    bad("stop[1]", stop=["a", ""]),
    bad("stop[0]", stop=[1]),
    bad("top_logprobs", top_logprobs=1),
    bad("modalities[1]", Unsupported, modalities=["text", "audio"]),
    bad("tools[0].function", tools=[{"type": "function"}]),
    bad("tools[1].function.name", tools=tool()),
    bad("tools[1].function.parameters", tools=tool(name="x", parameters=[])),
    bad("tools[1].function.strict", tools=tool(name="x", strict="yes")),
    bad("tool_choice.type", Unsupported, tools=[WEATHER], tool_choice={"type": "allowed_tools"}),
    bad("tool_choice.function", tools=[WEATHER], tool_choice={"type": "function"}),
    bad("response_format.json_schema", response_format={"type": "json_schema"}),
    bad("response_format.json_schema.name", response_format=described(name="")),
    bad("response_format.json_schema.schema", response_format=described(schema=None)),
    bad("response_format.json_schema.strict", response_format=described(strict=1)),
]


@pytest.mark.parametrize(("body", "param", "kind"), BAD)
def test_every_fault_names_its_field(body, param, kind):
    with pytest.raises(Failure) as caught:
        parse(**body)
    assert (caught.value.param, type(caught.value)) == (param, kind)
    assert caught.value.message.endswith(".")
