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
    ToolResult,
)
from standpipe.chat.errors import InvalidAsk, TooLarge, Unsupported
from standpipe.chat.events import NOTHING
from standpipe.dialects.dialect import Parsed, ResponseMeta
from standpipe.dialects.ollama.request import CHAT, GENERATE, IGNORED, OPTIONS
from standpipe.dialects.openai.to_engine import LLAMA, request_body
from tests.strangers import bodies

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


@pytest.mark.parametrize(("dialect", "parse"), [(CHAT, chat), (GENERATE, generate)])
def test_null_means_not_set(dialect, parse):
    assert parse(**dict.fromkeys(dialect.taken - {"messages", "prompt"})) == parse()
    assert parse(options=dict.fromkeys(OPTIONS)) == parse()


@pytest.mark.parametrize("parse", [chat, generate])
def test_what_changes_no_answer_is_ignored_and_what_is_unknown_is_named(parse):
    assert parse(**dict.fromkeys(IGNORED, "5m")).dropped == ()
    parsed = parse(grammar="x", options={"num_ctx": 1, "mirostat": 2, "seed": 1})
    assert parsed.dropped == ("grammar", "options.num_ctx", "options.mirostat")


@pytest.mark.parametrize("parse", [chat, generate])
def test_sampling_is_read_whole(parse):
    options = {
        "temperature": 2,
        "top_p": 0.5,
        "top_k": 40,
        "min_p": 0.05,
        "seed": -1,
        "num_predict": 10,
        "stop": ["a", "b"],
        "repeat_penalty": 1.1,
        "presence_penalty": -2,
        "frequency_penalty": 2,
    }
    assert set(options) == OPTIONS
    parsed = parse(options=options, logprobs=True, top_logprobs=5, stream=False, model="gpt-oss")
    assert parsed.ask.sampling == Sampling(
        temperature=2,
        top_p=0.5,
        top_k=40,
        min_p=0.05,
        max_tokens=10,
        stop=("a", "b"),
        seed=-1,
        frequency_penalty=2,
        presence_penalty=-2,
        repeat_penalty=1.1,
        logprobs=True,
        top_logprobs=5,
    )
    assert parsed.ask.model == "gpt-oss"
    assert not parsed.stream


@pytest.mark.parametrize("none", [-1, -2])
def test_no_limit_has_two_spellings(none):
    assert chat(options={"num_predict": none}).ask.sampling.max_tokens is None


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
    ({"messages": [HELLO] * 129}, "messages", InvalidAsk),
    ({"messages": [{"content": "x"}]}, "messages[0].role", InvalidAsk),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", InvalidAsk),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content", InvalidAsk),
    ({"messages": [{**HELLO, "images": ["aGk="]}]}, "messages[0].images", Unsupported),
    ({"messages": [result("7")]}, "messages[0]", InvalidAsk),
    ({"messages": [turn(CALL), result("7"), result("8")]}, "messages[2]", InvalidAsk),
    ({"messages": [turn(call("a b"))]}, "messages[0].tool_calls[0].function.name", InvalidAsk),
    (
        {"messages": [turn({"function": {"name": "f", "arguments": "{}"}})]},
        "messages[0].tool_calls[0].function.arguments",
        InvalidAsk,
    ),
    ({"messages": [turn({"function": {"name": "f"}})]}, "messages[0].tool_calls[0].function.arguments", InvalidAsk),
    ({"think": "deeply"}, "think", InvalidAsk),
    ({"think": 1}, "think", InvalidAsk),
    ({"format": "xml"}, "format", InvalidAsk),
    ({"format": {"$ref": "http://x"}}, "format", Unsupported),
    ({"format": {"enum": ["x" * 200] * 200}}, "format", TooLarge),
    ({"options": {"temperature": 2.1}}, "options.temperature", InvalidAsk),
    ({"options": {"top_p": -1}}, "options.top_p", InvalidAsk),
    ({"options": {"top_k": -1}}, "options.top_k", InvalidAsk),
    ({"options": {"top_k": "40"}}, "options.top_k", InvalidAsk),
    ({"options": {"min_p": 2}}, "options.min_p", InvalidAsk),
    ({"options": {"seed": 2**63}}, "options.seed", InvalidAsk),
    ({"options": {"num_predict": 0}}, "options.num_predict", InvalidAsk),
    ({"options": {"num_predict": -3}}, "options.num_predict", InvalidAsk),
    ({"options": {"stop": ["a"] * 5}}, "options.stop", InvalidAsk),
    ({"options": {"stop": [""]}}, "options.stop[0]", InvalidAsk),
    ({"options": {"repeat_penalty": 0}}, "options.repeat_penalty", InvalidAsk),
    ({"options": {"presence_penalty": 3}}, "options.presence_penalty", InvalidAsk),
    ({"options": {"frequency_penalty": -3}}, "options.frequency_penalty", InvalidAsk),
    ({"options": []}, "options", InvalidAsk),
    ({"top_logprobs": 6}, "top_logprobs", InvalidAsk),
    ({"tools": [WEATHER] * 33}, "tools", InvalidAsk),
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
        ({"raw": True}, "raw", Unsupported),
        ({"context": [1, 2]}, "context", Unsupported),
        ({"images": ["aGk="]}, "images", Unsupported),
        ({"options": {"top_p": 2}}, "options.top_p", InvalidAsk),
    ],
)
def test_a_fault_of_a_question_names_its_field(sent, param, kind):
    with pytest.raises(kind) as caught:
        generate(**sent)
    assert caught.value.param == param
    assert param in caught.value.message


def test_what_clients_send_empty_is_not_set():
    empty = {"suffix": "", "template": "", "system": "", "raw": False, "context": [], "images": [], "format": ""}
    assert generate(**empty) == generate()
    assert chat(messages=[{**HELLO, "images": []}], tools=[]) == chat()


WHOLE_CHAT: JsonObject = {
    "model": "gpt-oss",
    "messages": [
        {"role": "system", "content": "Be brief."},
        HELLO,
        turn({**CALL, "id": "a"}, CALL),
        result("7", tool_call_id="a"),
        result("8", tool_name="get_weather"),
    ],
    "tools": [WEATHER],
    "format": SCHEMA,
    "think": "low",
    "options": {"temperature": 0.5, "num_predict": 5, "stop": ["a"]},
    "keep_alive": "5m",
    "stream": True,
}
WHOLE_QUESTION: JsonObject = {
    "model": "gpt-oss",
    "prompt": "Hello!",
    "system": "Be brief.",
    "format": "json",
    "think": True,
    "options": {"top_k": 4, "seed": 5},
    "logprobs": True,
    "top_logprobs": 2,
}


def test_the_whole_requests_are_fine():
    assert chat(**WHOLE_CHAT).dropped == ()
    assert generate(**WHOLE_QUESTION).dropped == ()


@pytest.mark.parametrize(("dialect", "whole"), [(CHAT, WHOLE_CHAT), (GENERATE, WHOLE_QUESTION)])
def test_whatever_is_sent_can_be_given_to_an_engine_or_is_refused(dialect, whole):
    @settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
    @given(bodies(whole))
    def check(body):
        try:
            parsed = dialect.parse(body)
        except (InvalidAsk, Unsupported, TooLarge):
            return
        msgspec.json.decode(msgspec.json.encode(request_body(parsed.ask, "m", extras=LLAMA)))

    check()
