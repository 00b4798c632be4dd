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
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from standpipe.chat.errors import InvalidAsk, TooLarge, Unsupported
from standpipe.chat.events import NOTHING
from standpipe.dialects.dialect import Parsed, ResponseMeta
from standpipe.dialects.ollama.request import CHAT, GENERATE, NEAREST
from tests.pictures import PNG

HELLO = {"role": "user", "content": "Hello!"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: JsonObject = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
CALL: JsonObject = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}


def chat(**body: Any) -> Parsed:
    return CHAT.parse(msgspec.json.encode({"messages": [HELLO], **body}))


def generate(**body: Any) -> Parsed:
    return GENERATE.parse(msgspec.json.encode({"prompt": "Hello!", **body}))


def messages(*sent: JsonObject) -> tuple[Message, ...]:
    return chat(messages=list(sent)).ask.messages


@pytest.mark.parametrize("parse", [chat, generate])
def test_a_question_is_enough_and_streams(parse):
    parsed = parse()
    assert parsed.ask.messages == (Message(Role.USER, (Text("Hello!"),)),)
    assert parsed.ask.sampling == Sampling()
    assert parsed.ask.effort is None
    assert parsed.stream
    assert parsed.echo
    assert parsed.dropped == ()


@pytest.mark.parametrize("none", [-1, -2, 0, -3.0])
def test_no_limit_has_many_spellings(none):
    assert chat(options={"num_predict": none}).ask.sampling.max_tokens is None


def test_an_option_out_of_range_is_the_nearest_within_as_with_ollama():
    high = chat(options=dict.fromkeys(NEAREST, 1e30)).ask.sampling
    low = chat(options=dict.fromkeys(NEAREST, -1e30)).ask.sampling
    for name, (least, most) in NEAREST.items():
        assert (getattr(low, name), getattr(high, name)) == (least, most)
        assert type(getattr(low, name)) is (int if name in {"top_k", "seed"} else type(least))


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ("{}", "{}"),
        ('{"a":1}', '{"a":1}'),
        ("", "{}"),
        (None, "{}"),
        ([1], '{"input":"[1]"}'),
        ("ls", '{"input":"ls"}'),
    ],
)
def test_past_arguments_are_an_object_whatever_they_were(arguments, read):
    made = {"function": {"name": "a b", "arguments": arguments}}
    assert messages(HELLO, turn(made), result("7"))[1].parts[1] == ToolCall("call_no_1", "a_b", read)


@pytest.mark.parametrize(
    ("think", "effort", "shown"),
    [
        (True, Effort.MEDIUM, True),
        (False, Effort.NONE, False),
        ("low", Effort.LOW, True),
        ("medium", Effort.MEDIUM, True),
        ("high", Effort.HIGH, True),
        ("max", Effort.HIGH, True),
    ],
)
@pytest.mark.parametrize("parse", [chat, generate])
def test_think_is_a_boolean_or_a_level(parse, think, effort, shown):
    parsed = parse(think=think)
    assert (parsed.ask.effort, parsed.echo) == (effort, shown)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("", OutputFormat()),
        ("json", OutputFormat(FormatKind.JSON_OBJECT)),
        (SCHEMA, OutputFormat(FormatKind.JSON_SCHEMA, SCHEMA)),
    ],
)
@pytest.mark.parametrize("parse", [chat, generate])
def test_a_format_is_json_or_a_schema(parse, sent, read):
    assert parse(format=sent).ask.format == read


def test_every_role_is_read_whatever_its_case():
    assert messages({"role": "System", "content": "Be brief."}, HELLO, {"role": "assistant", "content": ""}) == (
        Message(Role.SYSTEM, (Text("Be brief."),)),
        Message(Role.USER, (Text("Hello!"),)),
        Message(Role.ASSISTANT, (Text(""),)),
    )


@pytest.mark.parametrize(
    ("keep_alive", "done"),
    [(None, "load"), ("5m", "load"), (-1, "load"), (0, "unload"), (0.0, "unload"), ("0", "unload"), ("0s", "unload")],
)
def test_without_a_question_nothing_is_asked_but_that_a_model_be_there_or_not(keep_alive, done):
    for dialect, parsed in (
        (CHAT, chat(messages=[], keep_alive=keep_alive)),
        (CHAT, chat(messages=None, keep_alive=keep_alive)),
        (GENERATE, generate(prompt="", system="Be brief.", keep_alive=keep_alive)),
        (GENERATE, generate(prompt=None, keep_alive=keep_alive)),
    ):
        assert parsed.ask.messages == ()
        body = msgspec.json.decode(dialect.answer(parsed, ResponseMeta("id", 0, "m"), NOTHING))
        assert (body["model"], body["done"], body["done_reason"]) == ("m", True, done)
        assert (body["message"]["content"] if dialect is CHAT else body["response"]) == ""


def test_a_system_prompt_stands_before_the_question():
    assert generate(system="Be brief.").ask.messages == (
        Message(Role.SYSTEM, (Text("Be brief."),)),
        Message(Role.USER, (Text("Hello!"),)),
    )


def test_tools_are_read():
    tools = [WEATHER, {"function": {"name": "noop", "description": "Nothing."}}]
    assert chat(tools=tools).ask.tools == (Tool("get_weather", None, SCHEMA), Tool("noop", "Nothing."))


def turn(*calls: JsonObject) -> JsonObject:
    return {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": list(calls)}


def result(said: str, **named: str) -> JsonObject:
    return {"role": "tool", "content": said, **named}


def call(name: str, **more: Any) -> JsonObject:
    return {"function": {"name": name, "arguments": {}}, **more}


def test_a_tool_loop_is_read():
    assert messages(HELLO, turn(CALL), result("7 °C", tool_name="get_weather"))[1:] == (
        Message(Role.ASSISTANT, (Reasoning("Hm."), ToolCall("call_no_1", "get_weather", '{"city":"Paris"}'))),
        Message(Role.TOOL, (ToolResult("call_no_1", "7 °C"),)),
    )


@pytest.mark.parametrize(
    ("calls", "results", "ids"),
    [
        ([call("f"), call("g")], [result(""), result("")], ["call_no_1", "call_no_2"]),
        ([call("f"), call("g")], [result("", tool_name="g"), result("", tool_name="f")], ["call_no_2", "call_no_1"]),
        ([call("f"), call("f")], [result("", tool_name="f"), result("", tool_name="f")], ["call_no_1", "call_no_2"]),
        ([call("f", id="a"), call("g", id="b")], [result("", tool_call_id="b"), result("")], ["b", "a"]),
        ([call("f", id="a")], [result("", tool_call_id="other")], ["other"]),
        ([call("f", id="a")], [result("", tool_name="renamed")], ["a"]),
    ],
)
def test_a_result_finds_its_call_by_id_by_name_or_by_place(calls, results, ids):
    read = messages(HELLO, turn(*calls), *results)[2:]
    assert [part.call_id for message in read for part in message.parts if isinstance(part, ToolResult)] == ids


def test_the_calls_of_two_turns_have_different_ids():
    read = messages(HELLO, turn(CALL), result("1"), turn(CALL), result("2"))
    assert [part.call_id for message in read for part in message.parts if isinstance(part, ToolResult)] == [
        "call_no_1",
        "call_no_2",
    ]


FAULTS = [
    ({"messages": [{"content": "x"}]}, "messages[0].role", InvalidAsk),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", InvalidAsk),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content", InvalidAsk),
    ({"messages": [{**HELLO, "images": ["aGk="]}]}, "messages[0].images[0]", InvalidAsk),
    ({"messages": [{**HELLO, "images": [PNG] * 50}] * 100}, "messages", TooLarge),
    ({"messages": [{**HELLO, "images": [7]}]}, "messages[0].images[0]", InvalidAsk),
    ({"messages": [{"role": "system", "content": "", "images": [PNG]}]}, "messages[0].images", Unsupported),
    ({"messages": [result("7")]}, "messages[0]", InvalidAsk),
    ({"messages": [turn(CALL), result("7"), result("8")]}, "messages[2]", InvalidAsk),
    ({"format": "xml"}, "format", InvalidAsk),
    ({"format": {"$ref": "http://x"}}, "format", Unsupported),
    ({"options": {"top_k": "40"}}, "options.top_k", InvalidAsk),
    ({"options": {"stop": [""]}}, "options.stop[0]", InvalidAsk),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name", InvalidAsk),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", Unsupported),
    ({"tools": [{"type": "function"}]}, "tools[0].function", InvalidAsk),
]


@pytest.mark.parametrize(("sent", "param", "kind"), FAULTS)
def test_a_fault_of_a_chat_names_its_field(sent, param, kind):
    with pytest.raises(kind) as caught:
        chat(**sent)
    assert caught.value.param == param
    assert param in caught.value.message


@pytest.mark.parametrize(
    ("sent", "param", "kind"),
    [
        ({"prompt": ["a"]}, "prompt", InvalidAsk),
        ({"suffix": "}"}, "suffix", Unsupported),
        ({"template": "{{ .Prompt }}"}, "template", Unsupported),
        ({"raw": True, "system": "Be brief."}, "system", Unsupported),
        ({"raw": True, "format": "json"}, "format", Unsupported),
        ({"context": [1, 2]}, "context", Unsupported),
        ({"images": ["aGk="]}, "images[0]", InvalidAsk),
        ({"raw": True, "images": [PNG]}, "images", Unsupported),
        ({"options": {"top_k": "40"}}, "options.top_k", InvalidAsk),
    ],
)
def test_a_fault_of_a_question_names_its_field(sent, param, kind):
    with pytest.raises(kind) as caught:
        generate(**sent)
    assert caught.value.param == param
    assert param in caught.value.message


def test_a_raw_prompt_is_to_be_continued_and_nothing_is_thought_of_in_it():
    asked = generate(prompt="Once upon", raw=True, think=True)
    assert asked.ask.raw
    assert asked.ask.prompt == "Once upon"
    assert asked.ask.effort is None
    assert asked.dropped == ("think",)
    assert not generate(prompt=None, raw=True).ask.messages


def test_what_clients_send_empty_is_not_set():
    empty = {"suffix": "", "template": "", "system": "", "raw": False, "context": [], "images": [], "format": ""}
    assert generate(**empty) == generate()
    assert chat(messages=[{**HELLO, "images": []}], tools=[]) == chat()
