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
from standpipe.dialects.openai.responses.request import TAKEN, OpenAIResponses
from standpipe.dialects.openai.to_engine import LLAMA, request_body

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


def test_null_means_not_set():
    names = {"conversation", "moderation", "prompt"} | TAKEN - {"input"}
    assert parse(**dict.fromkeys(names)) == parse()


def test_instructions_come_first_and_empty_ones_do_not():
    assert parse(instructions="Be brief.").ask.messages[0] == Message(Role.SYSTEM, (Text("Be brief."),))
    assert parse(instructions="").ask == parse().ask


def test_sampling_is_read_whole():
    parsed = parse(
        temperature=2, top_p=0, max_output_tokens=10, include=["message.output_text.logprobs"], top_logprobs=5
    )
    assert parsed.ask.sampling == Sampling(temperature=2, top_p=0, max_tokens=10, logprobs=True, top_logprobs=5)


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


def test_a_tool_that_agents_declare_unasked_is_passed_over_beside_functions_and_told():
    others: list[JsonObject] = [{"type": "web_search"}, {"type": "namespace", "name": "n", "tools": [WEATHER]}]
    parsed = parse(tools=[others[0], WEATHER, others[1]], nonsense=1)
    assert [tool.name for tool in parsed.ask.tools] == ["get_weather"]
    assert parsed.dropped == ("nonsense", "tools[0]", "tools[2]")
    assert [tool.name for tool in parsed.echo.outline.tools] == ["get_weather"]
    many = [{"type": "web_search"}] * 20
    assert len(parse(tools=[WEATHER, *many]).dropped) == 16


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_without_tools_there_is_nothing_to_choose(mode):
    assert parse(tools=[], tool_choice=mode).ask.tool_choice is None


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


def test_unknown_fields_are_dropped_and_told():
    parsed = parse(grammar="root ::= x", user="me", service_tier="auto", stop="x", seed=1, messages=[])
    assert parsed.ask == parse().ask
    assert parsed.dropped == ("grammar", "stop", "seed", "messages")


def bad(param: str, kind: type[Failure] = InvalidAsk, **body: Any) -> Any:
    return pytest.param(body, param, kind, id=f"{param} {len(str(body))}")


def part(kind: str, **fields: Any) -> list[JsonObject]:
    return [{"role": "user", "content": [{"type": "input_text", "text": "What?"}, {"type": kind, **fields}]}]


def form(**fields: Any) -> JsonObject:
    return {"format": {"type": "json_schema", "name": "x", "schema": {}, **fields}}


def allowed(**fields: Any) -> JsonObject:
    return {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "get_weather"}], **fields}


BAD = [
    bad("input", input=None),
    bad("input", input=5),
    bad("input", input=[]),
    bad("input", input=[HELLO] * 513),
    bad("input", input=[{**THOUGHT, "content": None}]),
    bad("input[0]", input=["Hello!"]),
    bad("input[1].role", input=[HELLO, {"content": "x"}]),
    bad("input[0].role", input=[{"role": "wizard", "content": "x"}]),
    bad("input[0].role", input=[{"role": "tool", "content": "x"}]),
    bad("input[2].content", input=[HELLO, HELLO, {"role": "user", "content": 5}]),
    bad("input[0].content", input=[{"role": "user"}]),
    bad("input[0].content", input=[{"role": "user", "content": []}]),
    bad("input[0].content[1].type", input=part("sound")),
    bad("input[0].content[1].type", input=part("refusal", refusal="x")),
    bad("input[0].content[1].text", input=part("input_text")),
    bad("input[0].content[1]", Unsupported, input=part("input_image", image_url="x")),
    bad("input[0].content[1]", Unsupported, input=part("input_file", file_id="x")),
    bad("input[0].content[1]", Unsupported, input=part("input_audio")),
    bad("input[0].content[0].refusal", input=[{"role": "assistant", "content": [{"type": "refusal"}]}]),
    bad("input[0].content", input=[{**THOUGHT, "content": "Hm."}]),
    bad("input[0].content[0].text", input=[{**THOUGHT, "content": [{"type": "reasoning_text"}]}]),
    bad("input[0].summary[0].text", input=[{**THOUGHT, "content": None, "summary": [{"type": "summary_text"}]}]),
    bad("input[0].call_id", input=[{**CALL, "call_id": None}]),
    bad("input[0].name", input=[{**CALL, "name": "<|x|>"}]),
    bad("input[0].name", input=[{**CALL, "name": None}]),
    bad("input[0].arguments", input=[{**CALL, "arguments": {}}]),
    bad("input[0].arguments", input=[{**CALL, "arguments": None}]),
    bad("input[0].call_id", input=[{**OUTPUT, "call_id": ""}]),
    bad("input[0].output", input=[{**OUTPUT, "output": None}]),
    bad("input[0].output", input=[{**OUTPUT, "output": 7}]),
    bad("input[0].output[0]", Unsupported, input=[{**OUTPUT, "output": [{"type": "input_image"}]}]),
    bad("input[0]", Unsupported, input=[{"type": "item_reference", "id": "msg_1"}]),
    bad("input[1].type", Unsupported, input=[HELLO, {"type": "web_search_call", "id": "ws_1", "status": "completed"}]),
    bad("input[0].type", Unsupported, input=[{"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"}]),
    bad("input[0].type", Unsupported, input=[{"type": "mcp_call", "id": "m", "name": "f", "arguments": "{}"}]),
    bad("model", model=5),
    bad("instructions", instructions=["x"]),
    bad("stream", stream="yes"),
    bad("store", store="yes"),
    bad("background", Unsupported, background=True),
    bad("conversation", Unsupported, conversation="conv_1"),
    bad("prompt", Unsupported, prompt={"id": "pmpt_1"}),
    bad("moderation", Unsupported, moderation={"model": "x"}),
    bad("include[1]", include=["reasoning.encrypted_content", "everything"]),
    bad("include", include="reasoning.encrypted_content"),
    bad("truncation", truncation="middle"),
    bad("metadata", metadata={str(i): "" for i in range(17)}),
    bad("metadata", metadata={"k" * 65: ""}),
    bad("metadata", metadata={"k": "v" * 513}),
    bad("metadata", metadata={"k": 1}),
    bad("temperature", temperature=2.1),
    bad("top_p", top_p=-1),
    bad("top_logprobs", top_logprobs=6),
    bad("max_output_tokens", max_output_tokens=0),
    bad("max_output_tokens", max_output_tokens=-1),
    bad("max_output_tokens", max_output_tokens=2**31),
    bad("reasoning.effort", reasoning={"effort": "extreme"}),
    bad("reasoning", reasoning="high"),
    bad("text.format.type", text={"format": {"type": "grammar"}}),
    bad("text.format.type", text={"format": {}}),
    bad("text.format.name", text=form(name=None)),
    bad("text.format.name", text=form(name="a b")),
    bad("text.format.schema", text=form(schema=None)),
    bad("text.format.schema", text=form(schema={"enum": [1] * 257})),
    bad("text.format.strict", text=form(strict=1)),
    bad("tools", tools={}),
    bad("tools", tools=[{**WEATHER, "name": f"f{i}"} for i in range(33)]),
    bad("tools", TooLarge, tools=[{**WEATHER, "parameters": {"description": "x" * 32_768}}]),
    bad("tools[0].type", Unsupported, tools=[{"type": "web_search"}]),
    bad("tools[1].type", Unsupported, tools=[WEATHER, {"type": "file_search", "vector_store_ids": []}]),
    bad("tools[0].type", Unsupported, tools=[{"type": "custom", "name": "shell"}]),
    bad("tools[0].type", tools=[{"name": "x"}]),
    bad("tools[0].name", tools=[{"type": "function", "function": {"name": "x"}}]),
    bad("tools[0].name", tools=[{"type": "function", "name": "get weather"}]),
    bad("tools[1].name", tools=[WEATHER, WEATHER]),
    bad("tools[0].parameters", tools=[{**WEATHER, "parameters": {"$ref": "http://x"}}], kind=Unsupported),
    bad("tool_choice", tool_choice="required"),
    bad("tool_choice", tools=[WEATHER], tool_choice="any"),
    bad("tool_choice.type", Unsupported, tools=[WEATHER], tool_choice={"type": "web_search_preview"}),
    bad("tool_choice.name", tools=[WEATHER], tool_choice={"type": "function"}),
    bad("tool_choice.name", tools=[WEATHER], tool_choice={"type": "function", "name": "x"}),
    bad("tool_choice.mode", tools=[WEATHER], tool_choice=allowed(mode="none")),
    bad("tool_choice.mode", tools=[WEATHER], tool_choice=allowed(mode=None)),
    bad("tool_choice.tools", tools=[WEATHER], tool_choice=allowed(tools=[])),
    bad("tool_choice.tools[0].name", tool_choice=allowed()),
    bad("tool_choice.tools[0].type", Unsupported, tools=[WEATHER], tool_choice=allowed(tools=[{"type": "mcp"}])),
    bad("parallel_tool_calls", parallel_tool_calls=1),
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


@pytest.mark.parametrize("kind", ["web_search", "mcp", "code_interpreter"])
def test_a_tool_of_openais_own_is_refused_by_name(kind):
    with pytest.raises(Unsupported, match=f"`{kind}`"):
        parse(tools=[{"type": kind}])


def test_what_a_client_wrote_is_not_repeated_to_it():
    secret = "my secret prompt"
    for sent in (
        {"input": [{"role": secret, "content": "x"}]},
        {"input": [{"type": secret}]},
        {"input": [{"role": "user", "content": [{"type": secret}]}]},
        {"tools": [{"type": secret}]},
        {"include": [secret]},
        {"truncation": secret},
    ):
        with pytest.raises((InvalidAsk, Unsupported)) as caught:
            parse(**sent)
        assert secret not in caught.value.message


# Anything at all --------------------------------------------------------------------------------------------------

WHOLE: JsonObject = {
    "model": "m",
    "instructions": "x",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
        {**THOUGHT, "summary": [{"type": "summary_text", "text": "x"}]},
        SAID,
        CALL,
        OUTPUT,
    ],
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
    "temperature": 1,
    "max_output_tokens": 5,
    "top_logprobs": 1,
    "tools": [WEATHER],
    "tool_choice": allowed(),
    "text": form(schema=SCHEMA),
    "reasoning": {"effort": "low"},
    "truncation": "auto",
}

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    | st.sampled_from(["user", "input_text", "function", "message", "reasoning", "function_call", "required"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "role", "content", "text", "name", "output"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(value, (*path, key))


def test_the_whole_request_is_fine():
    assert DIALECT.parse(msgspec.json.encode(WHOLE)).ask.messages


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list(places(WHOLE))[1:]), JSON)
def test_whatever_stands_anywhere_is_an_ask_or_the_clients_fault(place, value):
    body = msgspec.json.decode(msgspec.json.encode(WHOLE))
    node = body
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = value
    try:
        parsed = DIALECT.parse(msgspec.json.encode(body))
    except (InvalidAsk, Unsupported, TooLarge):
        return
    assert parsed.ask.messages
    msgspec.json.decode(msgspec.json.encode(request_body(parsed.ask, "m", extras=LLAMA)))
