import copy
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from standpipe.chat.errors import Failure, InvalidAsk, TooLarge, Unsupported
from standpipe.dialects.dialect import Parsed
from standpipe.dialects.openai.request import API, COMPLETIONS, TAKEN, OpenAIChat
from standpipe.dialects.openai.to_engine import LLAMA, request_body

HELLO = {"role": "user", "content": "Hello!"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: JsonObject = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}


def parse(dialect: OpenAIChat = COMPLETIONS, **body: Any) -> Parsed:
    return dialect.parse(msgspec.json.encode({"messages": [HELLO], **body}))


def messages(*sent: JsonObject) -> tuple[Message, ...]:
    return parse(messages=list(sent)).ask.messages


def test_one_message_is_enough():
    parsed = parse()
    assert parsed.ask.messages == (Message(Role.USER, (Text("Hello!"),)),)
    assert parsed.ask.sampling == Sampling()
    assert not parsed.stream
    assert parsed.dropped == ()


def test_the_api_has_its_own_defaults():
    parsed = parse(API)
    assert parsed.stream
    assert parsed.ask.sampling == Sampling(temperature=0.8, top_p=0.9)


def test_a_default_yields_to_what_is_sent():
    parsed = parse(API, stream=False, temperature=0, top_p=1, max_tokens=-1)
    assert not parsed.stream
    assert parsed.ask.sampling == Sampling(temperature=0, top_p=1)


def test_null_means_not_set():
    names = {"functions", "function_call", "audio"} | TAKEN - {"messages"}
    assert parse(API, **dict.fromkeys(names)) == parse(API)


def test_sampling_is_read_whole():
    parsed = parse(
        temperature=2,
        top_p=0,
        max_tokens=10,
        n=1,
        stop=["a", "b"],
        seed=-(2**63),
        frequency_penalty=-2,
        presence_penalty=2,
        logit_bias={"50256": -100},
        logprobs=True,
        top_logprobs=5,
    )
    assert parsed.ask.sampling == Sampling(
        temperature=2,
        top_p=0,
        max_tokens=10,
        stop=("a", "b"),
        seed=-(2**63),
        frequency_penalty=-2,
        presence_penalty=2,
        logit_bias={"50256": -100},
        logprobs=True,
        top_logprobs=5,
    )


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


@pytest.mark.parametrize("mode", ["auto", "none", "required"])
def test_a_choice_of_tools_may_be_a_word(mode):
    assert parse(tools=[WEATHER], tool_choice=mode).ask.tool_choice == ToolChoice(ToolMode(mode))


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_without_tools_there_is_nothing_to_choose(mode):
    assert parse(tools=[], tool_choice=mode).ask.tool_choice is None


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


def test_unknown_fields_are_dropped_and_told():
    parsed = parse(grammar="root ::= x", best_of=5, id_slot=1, user="me", store=True, metadata={"a": "b"})
    assert parsed.ask == parse().ask
    assert parsed.dropped == ("grammar", "best_of", "id_slot")


def bad(param: str, kind: type[Failure] = InvalidAsk, **body: Any) -> Any:
    return pytest.param(body, param, kind, id=f"{param} {len(str(body))}")


def image(kind: str) -> list[JsonObject]:
    return [{"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": kind, kind: {"url": "x"}}]}]


def tool(**function: Any) -> list[JsonObject]:
    return [WEATHER, {"type": "function", "function": function}]


def called(**changes: Any) -> list[JsonObject]:
    return [HELLO, {"role": "assistant", "tool_calls": [CALL, {**CALL, **changes}]}]


def described(**schema: Any) -> JsonObject:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, **schema}}


DEEP: JsonObject = {}
for _ in range(8):
    DEEP = {"not": DEEP}

BAD = [
    bad("messages", messages=None),
    bad("messages", messages="Hello!"),
    bad("messages", messages=[]),
    bad("messages", messages=[HELLO] * 129),
    bad("messages[0]", messages=["Hello!"]),
    bad("messages[1].role", messages=[HELLO, {"content": "x"}]),
    bad("messages[0].role", messages=[{"role": "wizard", "content": "x"}]),
    bad("messages[0].role", Unsupported, messages=[{"role": "function", "name": "f", "content": "x"}]),
    bad("messages[2].content", messages=[HELLO, HELLO, {"role": "user", "content": 5}]),
    bad("messages[0].content", messages=[{"role": "user"}]),
    bad("messages[0].content", messages=[{"role": "system", "content": None}]),
    bad("messages[0].content", messages=[{"role": "user", "content": []}]),
    bad("messages[0].content", messages=[{"role": "assistant", "content": None}]),
    bad("messages[0].content[0].type", messages=[{"role": "user", "content": [{"text": "x"}]}]),
    bad("messages[0].content[0].type", messages=[{"role": "user", "content": [{"type": "sound"}]}]),
    bad("messages[0].content[0].type", messages=[{"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}]),
    bad("messages[0].content[0].text", messages=[{"role": "user", "content": [{"type": "text"}]}]),
    bad("messages[0].content[0].refusal", messages=[{"role": "assistant", "content": [{"type": "refusal"}]}]),
    bad("messages[0].content[1]", Unsupported, messages=image("image_url")),
    bad("messages[0].content[1]", Unsupported, messages=image("input_audio")),
    bad("messages[0].content[1]", Unsupported, messages=image("file")),
    bad("messages[0].content[1]", Unsupported, messages=image("video_url")),
    bad("messages[0].name", messages=[{**HELLO, "name": "a b"}]),
    bad("messages[0].name", messages=[{**HELLO, "name": ""}]),
    bad("messages[0].reasoning", messages=[{"role": "assistant", "content": "", "reasoning": {}}]),
    bad("messages[0].function_call", Unsupported, messages=[{"role": "assistant", "function_call": {"name": "f"}}]),
    bad("messages[0].audio", Unsupported, messages=[{"role": "assistant", "audio": {"id": "a"}}]),
    bad("messages[0].tool_call_id", messages=[{"role": "tool", "content": "x"}]),
    bad("messages[0].content", messages=[{"role": "tool", "tool_call_id": "x"}]),
    bad("messages[1].tool_calls[1].id", messages=called(id="")),
    bad("messages[1].tool_calls[1].id", messages=called(id=1)),
    bad("messages[1].tool_calls[1].type", Unsupported, messages=called(type="custom")),
    bad("messages[1].tool_calls[1].function", messages=called(function=None)),
    bad("messages[1].tool_calls[1].function.name", messages=called(function={"name": "<|x|>", "arguments": ""})),
    bad("messages[1].tool_calls[1].function.arguments", messages=called(function={"name": "x"})),
    bad("model", model=5),
    bad("stream", stream="yes"),
    bad("stream_options", stream_options=True),
    bad("stream_options.include_usage", stream_options={"include_usage": "yes"}),
    bad("temperature", temperature=2.1),
    bad("temperature", temperature=-0.1),
    bad("temperature", temperature="hot"),
    bad("top_p", top_p=1.1),
    bad("top_p", top_p=-1),
    bad("max_tokens", max_tokens=0),
    bad("max_tokens", max_tokens=-2),
    bad("max_tokens", max_tokens=2**31),
    bad("max_tokens", max_tokens=1.5),
    bad("max_completion_tokens", max_completion_tokens=0),
    bad("n", Unsupported, n=2),
    bad("n", Unsupported, n=0),
    bad("n", n="1"),
    bad("stop", stop=["a"] * 5),
    bad("stop", stop=""),
    bad("stop", stop="x" * 65),
    bad("stop[1]", stop=["a", ""]),
    bad("stop[0]", stop=[1]),
    bad("seed", seed=2**63),
    bad("seed", seed=-(2**63) - 1),
    bad("frequency_penalty", frequency_penalty=2.5),
    bad("presence_penalty", presence_penalty=-2.5),
    bad("logit_bias", logit_bias={str(i): 1 for i in range(65)}),
    bad("logit_bias", logit_bias={"1": 101}),
    bad("logit_bias", logit_bias={"1": None}),
    bad("logit_bias", logit_bias={"hello": 1}),
    bad("logit_bias", logit_bias=[[1, 2]]),
    bad("logprobs", logprobs=3),
    bad("top_logprobs", logprobs=True, top_logprobs=6),
    bad("top_logprobs", logprobs=True, top_logprobs=-1),
    bad("top_logprobs", top_logprobs=1),
    bad("modalities[1]", Unsupported, modalities=["text", "audio"]),
    bad("audio", Unsupported, audio={"voice": "x"}),
    bad("functions", Unsupported, functions=[]),
    bad("function_call", Unsupported, function_call="auto"),
    bad("tools", tools={}),
    bad("tools", tools=[{"function": {"name": f"f{i}"}} for i in range(33)]),
    bad("tools", TooLarge, tools=tool(name="x", parameters={"description": "x" * 32_768})),
    bad("tools[0].type", Unsupported, tools=[{"type": "web_search"}]),
    bad("tools[0].function", tools=[{"type": "function"}]),
    bad("tools[1].function.name", tools=tool()),
    bad("tools[1].function.name", tools=tool(name="get weather")),
    bad("tools[1].function.name", tools=tool(name="get_weather")),
    bad("tools[1].function.parameters", tools=tool(name="x", parameters=[])),
    bad("tools[1].function.parameters", tools=tool(name="x", parameters={"enum": [1] * 257})),
    bad("tools[1].function.strict", tools=tool(name="x", strict="yes")),
    bad("tool_choice", tool_choice="required"),
    bad("tool_choice", tools=[WEATHER], tool_choice="any"),
    bad("tool_choice", tools=[WEATHER], tool_choice=1),
    bad("tool_choice.type", Unsupported, tools=[WEATHER], tool_choice={"type": "allowed_tools"}),
    bad("tool_choice.function", tools=[WEATHER], tool_choice={"type": "function"}),
    bad("tool_choice.function.name", tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "x"}}),
    bad("parallel_tool_calls", parallel_tool_calls=1),
    bad("response_format", response_format="json"),
    bad("response_format.type", response_format={}),
    bad("response_format.type", response_format={"type": "grammar"}),
    bad("response_format.json_schema", response_format={"type": "json_schema"}),
    bad("response_format.json_schema.name", response_format=described(name="")),
    bad("response_format.json_schema.schema", response_format=described(schema=None)),
    bad("response_format.json_schema.schema", response_format=described(schema=DEEP)),
    bad("response_format.json_schema.strict", response_format=described(strict=1)),
    bad("reasoning_effort", reasoning_effort="extreme"),
    bad("reasoning_effort", reasoning_effort=3),
]


@pytest.mark.parametrize(("body", "param", "kind"), BAD)
def test_every_fault_names_its_field(body, param, kind):
    with pytest.raises(Failure) as caught:
        parse(**body)
    assert (caught.value.param, type(caught.value)) == (param, kind)
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b"{}", b'{"messages": [', b"\xff", b'{"messages": NaN}'])
def test_what_is_no_request_is_refused(body):
    with pytest.raises(InvalidAsk):
        API.parse(body)


def test_a_refused_medium_is_named():
    with pytest.raises(Unsupported, match="`image_url`"):
        parse(messages=image("image_url"))


def test_what_a_client_wrote_is_not_repeated_to_it():
    secret = "my secret prompt"
    for sent in ({"role": secret, "content": "x"}, {"role": "user", "content": [{"type": secret}]}):
        with pytest.raises(InvalidAsk) as caught:
            messages(sent)
        assert secret not in caught.value.message


# Anything at all --------------------------------------------------------------------------------------------------

WHOLE: JsonObject = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "x"}], "name": "n"},
        {"role": "assistant", "content": "x", "reasoning": "y", "refusal": "no", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "x"},
    ],
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 1,
    "max_tokens": 5,
    "stop": ["a"],
    "seed": 1,
    "logit_bias": {"1": 1},
    "logprobs": True,
    "top_logprobs": 1,
    "tools": [WEATHER],
    "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
    "reasoning_effort": "low",
}

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    | st.sampled_from(["user", "text", "function", "required", "json_schema", "$ref"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "function", "text", "$ref", "items", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(value, (*path, key))


PLACES = list(places(WHOLE))[1:]


def answered(body: bytes) -> bool:
    """Whether it is an ask that an engine can be given, and not a client's fault. Anything else raises."""
    try:
        parsed = API.parse(body)
    except (InvalidAsk, Unsupported, TooLarge):
        return False
    msgspec.json.decode(msgspec.json.encode(request_body(parsed.ask, "m", extras=LLAMA)))
    return True


def test_the_whole_request_is_fine():
    assert answered(msgspec.json.encode(WHOLE))


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(PLACES), JSON)
def test_whatever_is_put_in_any_place_is_read_or_refused(place, value):
    body = copy.deepcopy(WHOLE)
    node: Any = body
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    answered(msgspec.json.encode(body))


@settings(deadline=None)
@given(st.sampled_from(PLACES))
def test_whatever_is_missing_is_read_or_refused(place):
    body = copy.deepcopy(WHOLE)
    node: Any = body
    for key in place[:-1]:
        node = node[key]
    del node[place[-1]]
    answered(msgspec.json.encode(body))


@settings(deadline=None)
@given(JSON.map(msgspec.json.encode) | st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(body):
    answered(body)


@settings(deadline=None)
@given(st.data())
def test_any_damage_is_read_or_refused(data):
    body = bytearray(msgspec.json.encode(WHOLE))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    answered(bytes(body))
