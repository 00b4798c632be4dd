"""What every dialect owes its clients, whatever its format. What is one dialect's alone is in that dialect's tests."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect
from msgspec.structs import replace

from standpipe.chat.ask import (
    Ask,
    FormatKind,
    Image,
    JsonObject,
    Message,
    OutputFormat,
    Role,
    Sampling,
    Text,
    Tool,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from standpipe.chat.errors import Failure, InvalidAsk, TooLarge, Unsupported
from standpipe.dialects import bounds
from standpipe.dialects.images import shown
from standpipe.dialects.ollama import to_engine as to_ollama
from standpipe.dialects.openai import to_engine as to_openai
from standpipe.dialects.reading import DROPPED
from tests import pictures
from tests.dialects.formats import CONVERSATION, FORMATS, NOOP, SCHEMA, WEATHER, Format
from tests.pictures import PICTURE, PNG
from tests.strangers import JSON, bodies, places, put

SECRET = "my secret prompt"
HELLO = Message(Role.USER, (Text("Hello!"),))


def each(*having: str) -> Any:
    """All formats that have such things."""
    formats = [one for one in FORMATS if all(getattr(one, name) is not None for name in having)]
    assert formats
    return pytest.mark.parametrize("one", formats, ids=lambda one: one.dialect.name)


def merged(messages: tuple[Message, ...]) -> list[Message]:
    """With the results that follow each other in one message, as some formats have them."""
    found: list[Message] = []
    for message in messages:
        if found and found[-1].role is message.role is Role.TOOL:
            found[-1] = Message(Role.TOOL, found[-1].parts + message.parts)
        else:
            found.append(message)
    return found


def to_engines(ask: Ask) -> None:
    """It can be given to every kind of engine, or is refused in words."""
    with suppress(InvalidAsk, Unsupported):
        msgspec.json.encode(to_openai.request_body(ask, "m", extras=to_openai.LLAMA))
    with suppress(InvalidAsk, Unsupported):
        msgspec.json.encode(to_ollama.request_body(ask, "m"))


def fault(one: Format, **body: Any) -> Failure | None:
    """What is wrong with this, if anything is."""
    try:
        to_engines(one.parse(**body).ask)
    except Failure as failure:
        return failure
    return None


def blamed(failure: Failure) -> str:
    """The outermost field that it names."""
    return re.split(r"[.\[]", failure.param or "")[0]


# What is asked ------------------------------------------------------------------------------------------------------


@each()
def test_one_message_is_enough(one: Format):
    parsed = one.parse()
    assert parsed.ask.messages == (HELLO,)
    assert parsed.dropped == ()
    assert parsed.ask.tools == ()
    assert parsed.ask.format == OutputFormat()
    to_engines(parsed.ask)


@each()
def test_null_means_not_set(one: Format):
    names = one.dialect.reader.taken | one.dialect.reader.refused.keys()
    assert one.parse(**dict.fromkeys(names - one.hello.keys())) == one.parse()


@each()
def test_sampling_is_read_whole(one: Format):
    assert one.parse(**one.sampling).ask.sampling == one.sampled


@each()
def test_every_range_of_a_type_is_held_and_told(one: Format):
    found = 0
    for field, low, high in ranges(one.dialect.reader.kind):
        found += 1
        for value in (end for end in (low, high) if end is not None):
            if value or field not in {"max_tokens", "max_completion_tokens"}:
                one.parse(**{"logprobs": True, field: value} if field == "top_logprobs" else {field: value})
        for value in (low - 1, *(() if high is None else (high + 1,))):
            with pytest.raises(InvalidAsk) as caught:
                one.parse(**{field: value})
            assert caught.value.param == field
            assert str(low) in caught.value.message or "at least 1" in caught.value.message
            assert high is None or str(high) in caught.value.message
    assert found or one.dialect.name.startswith("ollama")  # whose options are never out of range


def ranges(kind: Any) -> Iterator[tuple[str, Any, Any]]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        members = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        for member in members:
            number = member.type if isinstance(member, inspect.Metadata) else member
            if isinstance(number, inspect.IntType | inspect.FloatType) and number.ge is not None:
                yield field.name, number.ge, number.le


@each()
def test_more_tokens_than_there_are_is_no_fault(one: Format):
    name, value = next((name, value) for name, value in one.sampling.items() if "max" in name or name == "options")
    many = {**value, "num_predict": 9_999_999_999} if name == "options" else 9_999_999_999
    assert one.parse(**{name: many}).ask.sampling.max_tokens == 9_999_999_999


@each("said")
def test_a_conversation_with_tools_is_read_in_order(one: Format):
    assert one.said is not None
    assert merged(one.parse(**one.said(CONVERSATION)).ask.messages) == list(CONVERSATION)


@each("schema")
def test_a_schema_for_the_answer_is_read(one: Format):
    assert one.schema is not None
    form = one.parse(**one.schema(SCHEMA)).ask.format
    assert (form.kind, form.schema) == (FormatKind.JSON_SCHEMA, SCHEMA)


# Tools --------------------------------------------------------------------------------------------------------------


@each("tool")
def test_tools_are_read(one: Format):
    assert one.parse(**one.tools(WEATHER, NOOP)).ask.tools == (WEATHER, NOOP)


@each("choice")
@pytest.mark.parametrize(
    "choice",
    [
        ToolChoice(ToolMode.AUTO),
        ToolChoice(ToolMode.NONE),
        ToolChoice(ToolMode.REQUIRED),
        ToolChoice(ToolMode.NAMED, "noop"),
    ],
    ids=lambda choice: choice.mode.value,
)
def test_the_choice_of_a_tool_is_read(one: Format, choice: ToolChoice):
    assert one.choice is not None
    assert one.parse(**one.tools(WEATHER, NOOP), tool_choice=one.choice(choice)).ask.tool_choice == choice


@each("choice")
def test_without_tools_there_is_nothing_to_choose(one: Format):
    assert one.choice is not None
    for mode in (ToolMode.AUTO, ToolMode.NONE):
        assert one.parse(tools=[], tool_choice=one.choice(ToolChoice(mode))).ask.tool_choice is None
    for tools, choice in (
        ({}, ToolChoice(ToolMode.REQUIRED)),
        (one.tools(WEATHER), ToolChoice(ToolMode.NAMED, "noop")),
    ):
        with pytest.raises(InvalidAsk) as caught:
            one.parse(**tools, tool_choice=one.choice(choice))
        assert blamed(caught.value) == "tool_choice"


@each("tool")
def test_a_tool_of_a_servers_own_is_passed_over_beside_functions_and_refused_alone(one: Format):
    assert one.tool is not None
    parsed = one.parse(tools=[one.other_tool, one.tool(WEATHER), one.other_tool])
    assert parsed.ask.tools == (WEATHER,)
    assert parsed.dropped == ("tools[0]", "tools[2]")
    assert len(one.parse(tools=[one.tool(WEATHER), *[one.other_tool] * 20], nonsense=1).dropped) == DROPPED
    with pytest.raises(Unsupported) as caught:
        one.parse(tools=[one.other_tool])
    assert caught.value.param == "tools[0].type"


@each("tool")
def test_a_tool_has_a_name_of_its_own(one: Format):
    assert one.tool is not None
    with pytest.raises(InvalidAsk, match="declared twice") as caught:
        one.parse(**one.tools(WEATHER, NOOP, WEATHER))
    assert (caught.value.param or "").startswith("tools[2].")
    for name in ("", "get weather", "a\n", "é", "x" * 129):
        with pytest.raises(InvalidAsk, match="letters, digits") as caught:
            one.parse(**one.tools(Tool(name, None, SCHEMA)))
        assert (caught.value.param or "").startswith("tools[0].")


# Bounds -------------------------------------------------------------------------------------------------------------


@each("said")
def test_a_long_conversation_is_taken(one: Format):
    assert one.said is not None
    assert len(one.parse(**one.said([HELLO, CONVERSATION[4]] * (bounds.MESSAGES // 2))).ask.messages) == bounds.MESSAGES
    with pytest.raises(InvalidAsk, match=f"at most {bounds.MESSAGES} entries") as caught:
        one.parse(**one.said([HELLO, CONVERSATION[4]] * (bounds.MESSAGES // 2) + [HELLO]))
    assert caught.value.param in one.hello


@each("tool")
def test_many_tools_are_taken(one: Format):
    tools = [Tool(f"f{i}", None, SCHEMA) for i in range(bounds.TOOLS + 1)]
    assert len(one.parse(**one.tools(*tools[:-1])).ask.tools) == bounds.TOOLS
    with pytest.raises(InvalidAsk, match=f"at most {bounds.TOOLS} entries"):
        one.parse(**one.tools(*tools))


@each("tool")
def test_a_deep_schema_is_taken(one: Format):
    """As deep as 48 levels of JSON: servers of tools have them."""
    schema: JsonObject = {"type": "string"}
    for _ in range(bounds.SCHEMA_LEVELS - 1):
        schema = {"type": "object", "properties": {"x": schema}}
    assert one.parse(**one.tools(Tool("f", None, schema))).ask.tools[0].parameters == schema


@each("schema")
def test_a_fault_of_a_schema_names_the_schema(one: Format):
    assert one.schema is not None
    for schema, kind in (({"$ref": "http://x"}, Unsupported), ({"enum": [1] * (bounds.SCHEMA_ITEMS + 1)}, InvalidAsk)):
        with pytest.raises(kind) as caught:
            one.parse(**one.schema(schema))
        assert blamed(caught.value) in one.schema(schema)
        if one.tool is not None:
            with pytest.raises(kind) as caught:
                one.parse(**one.tools(WEATHER, Tool("f", None, schema)))
            assert (caught.value.param or "").startswith("tools[1].")


@each("schema")
def test_schemas_have_a_size(one: Format):
    assert one.schema is not None
    with pytest.raises(TooLarge):
        one.parse(**one.schema({"description": "x" * bounds.SCHEMA_BYTES}))


# The past -----------------------------------------------------------------------------------------------------------


LOOK = Message(Role.USER, (Text("What?"), PICTURE))
LARGE = [pictures.text(data) for data in (pictures.jpeg(9000, 1), pictures.gif(8000, 8000))]
SHOWN = (
    *CONVERSATION[:3],
    Message(Role.TOOL, (ToolResult("call_1", "7 °C", images=(PICTURE,)), ToolResult("call_2", ""))),
)
"""A conversation in which a tool has shown something."""


@each("said")
def test_what_is_shown_is_read_in_its_place_and_reaches_every_kind_of_engine(one: Format):
    assert one.said is not None
    ask = one.parse(**one.said((LOOK, *SHOWN[2:], LOOK))).ask
    assert [message.parts for message in merged(ask.messages) if message.images] == [
        LOOK.parts,
        SHOWN[3].parts,
        LOOK.parts,
    ]
    assert shown(ask, sees=True) == ask
    chat = msgspec.json.encode(to_openai.request_body(ask, "m", extras=to_openai.LLAMA))
    native = msgspec.json.encode(to_ollama.request_body(ask, "m"))
    assert chat.count(f'"image_url":{{"url":"data:image/png;base64,{PNG}"}}'.encode()) == 3
    assert native.count(f'"images":["{PNG}"]'.encode()) == 3


@each("said")
def test_a_picture_that_nobody_sees_is_refused_by_name_and_in_the_past_there_are_words_for_it(one: Format):
    assert one.said is not None
    ask = one.parse(**one.said((*CONVERSATION, LOOK))).ask
    with pytest.raises(Unsupported, match=r"does not see images: .* These models do: `eyes`") as caught:
        shown(ask, sees=False, others=("eyes",))
    assert blamed(caught.value) in one.hello
    messages = shown(one.parse(**one.said((LOOK, *SHOWN[2:], CONVERSATION[4], HELLO))).ask, sees=False).messages
    words = "[image that cannot be shown here]"
    assert messages[0].parts == (Text("What?"), Text(words))
    result = next(message.parts[0] for message in messages if message.role is Role.TOOL)
    assert result == ToolResult("call_1", f"7 °C\n{words}")
    assert not any(message.images for message in messages)


@each("said")
@pytest.mark.parametrize("data", ["", "eA==", "x", PNG[:-1], f"{PNG} ", *LARGE])
def test_what_is_no_picture_or_too_large_is_refused_by_name_and_in_the_past_there_are_words_for_it(
    one: Format, data: str
):
    assert one.said is not None
    look = Message(Role.USER, (Text("What?"), Image("image/png", data, 4, 3)))
    with pytest.raises((InvalidAsk, TooLarge)) as caught:
        one.parse(**one.said((*CONVERSATION, look)))
    assert blamed(caught.value) in one.hello
    then = one.parse(**one.said((look, CONVERSATION[4], HELLO))).ask.messages[0]
    assert "image that cannot be shown here" in then.text
    assert not then.images
    result = Message(Role.TOOL, (ToolResult("call_1", "See.", images=look.images), ToolResult("call_2", "")))
    told = merged(one.parse(**one.said((*CONVERSATION[:3], result))).ask.messages)[3].parts[0]
    assert told == ToolResult("call_1", "See.\n[image that cannot be shown here]")


@each("said")
def test_only_a_user_and_a_tool_show_something(one: Format):
    assert one.said is not None
    with pytest.raises(Failure) as caught:
        one.parse(**one.said((replace(LOOK, role=Role.SYSTEM), HELLO)))
        raise Unsupported("it has no system message that may have parts", param=next(iter(one.hello)))
    assert blamed(caught.value) in one.hello
    past = one.parse(**one.said((HELLO, replace(LOOK, role=Role.ASSISTANT), HELLO))).ask.messages
    assert not any(message.images for message in past)


EMPTY: list[Any] = ["", None, []]


@each("said")
def test_a_past_turn_may_be_empty(one: Format):
    assert one.said is not None
    (where,) = one.hello.keys() & {"messages", "input"}
    for content in EMPTY if "ollama" not in one.dialect.name else EMPTY[:2]:
        empty = {"role": "assistant", "content": content}
        past = one.said([HELLO])[where]
        messages = one.parse(**{where: [*past, empty, *past]}).ask.messages
        assert messages == (HELLO, Message(Role.ASSISTANT, (Text(""),)), HELLO)


# Names of fields ----------------------------------------------------------------------------------------------------


@each()
def test_what_changes_no_answer_is_ignored_and_what_is_unknown_is_named(one: Format):
    ignored = {name: "x" for name in one.dialect.reader.ignored if "." not in name}
    parsed = one.parse(**ignored, grammar="root ::= x", new_field={"a": 1}, **{"not plain": 1, "x" * 65: 1})
    assert parsed.ask == one.parse().ask
    assert parsed.dropped == ("grammar", "new_field")
    assert len(one.parse(**{f"new{i}": 1 for i in range(40)}).dropped) == 16


@each("schema")
def test_what_is_unknown_inside_an_object_is_named(one: Format):
    assert one.schema is not None
    body = one.schema(SCHEMA)
    if one.dialect.name.startswith("ollama"):
        body = {"options": {"seed": 1}}
    ((name, value),) = body.items()
    assert one.parse(**{name: {**value, "grammar": 1}}).dropped == (f"{name}.grammar",)


@each()
def test_what_would_change_an_answer_is_refused_by_name(one: Format):
    for name in one.dialect.reader.refused:
        with pytest.raises(Unsupported) as caught:
            one.parse(**{name: "x"})
        assert caught.value.param == name


@each()
def test_a_fault_names_its_field_and_repeats_nothing(one: Format):
    @settings(deadline=None, max_examples=150)
    @given(st.sampled_from(sorted(one.dialect.reader.taken)), JSON | st.just(SECRET) | st.just([{"type": SECRET}]))
    def check(field, junk):
        failure = fault(one, **{field: junk})
        if failure is not None:
            assert blamed(failure) == field
            assert field in failure.message
            assert failure.message.endswith(".")
            assert SECRET not in failure.message

    check()


# Any bytes ----------------------------------------------------------------------------------------------------------


@each()
def test_the_whole_request_is_fine(one: Format):
    parsed = one.dialect.parse(msgspec.json.encode(one.whole))
    assert parsed.dropped == ()
    to_engines(parsed.ask)


@each()
@pytest.mark.parametrize(
    "body", [b"", b" \n", b"hello", b"[]", b"{}", b'{"messages": [', b"\xff", b'{"messages": NaN}']
)
def test_what_is_no_request_is_refused(one: Format, body: bytes):
    if body == b"{}" and one.dialect.name.startswith("ollama"):
        return  # asks nothing
    with pytest.raises(InvalidAsk):
        one.dialect.parse(body)


@each()
def test_a_byte_order_mark_is_passed_over(one: Format):
    assert one.dialect.parse(b"\xef\xbb\xbf" + msgspec.json.encode(one.hello)) == one.parse()


@each()
def test_whatever_is_sent_can_be_given_to_an_engine_or_is_refused(one: Format):
    @settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
    @given(bodies(one.whole))
    def check(body):
        try:
            parsed = one.dialect.parse(body)
        except (InvalidAsk, Unsupported, TooLarge):
            return
        to_engines(parsed.ask)

    check()


HALVES = (rb"\ud800", rb"\udfff", rb"\uD83D\uD83D", rb"\ud83dx", rb"\\\ud83d", rb"\ude00\ud83d")


@each()
def test_half_a_character_anywhere_is_no_bug(one: Format):
    """It becomes U+FFFD, in keys and in JSON within strings, too, or the value is refused like any other."""
    for path in places(msgspec.json.decode(msgspec.json.encode(one.whole))):
        for changed in with_mark(one.whole, path):
            for half in HALVES:
                body = msgspec.json.encode(changed).replace(rb"\\" + MARK, rb"\\" + half).replace(MARK, half)
                for text in (body, body.replace(half, half.replace(rb"\u", rb"\\u"))):
                    try:
                        parsed = one.dialect.parse(text)
                    except (InvalidAsk, Unsupported):
                        continue
                    msgspec.json.encode(parsed)
                    to_engines(parsed.ask)


MARK = "\ue000".encode()


def with_mark(whole: JsonObject, path: tuple[Any, ...]) -> Iterator[JsonObject]:
    """The request with a mark at the end of the text that stands there, and in the first key of the object."""
    whole = msgspec.json.decode(msgspec.json.encode(whole))
    node: Any = whole
    for step in path:
        node = node[step]
    if isinstance(node, str):
        yield put(whole, path, node + "\ue000")
        if node.startswith("{"):
            yield put(whole, path, node.replace('"}', '\ue000"}').replace('{"', '{"\ue000'))
    elif isinstance(node, dict) and path:
        yield put(whole, path, {f"{key}\ue000": value for key, value in node.items()})


def test_a_whole_character_in_two_escapes_stays_whole():
    for one in FORMATS:
        body = msgspec.json.encode(one.hello).replace(b"Hello!", rb"\ud83d\ude00 \\ud83d")
        assert one.dialect.parse(body).ask.messages[-1].text == "😀 \\ud83d"
        halved = msgspec.json.encode(one.hello).replace(b"Hello!", rb"a\ud83d")
        assert one.dialect.parse(halved).ask.messages[-1].text == "a\ufffd"


def test_sampling_of_all_formats_together_is_everything():
    for name in Sampling.__struct_fields__:
        assert any(getattr(one.sampled, name) != getattr(Sampling(), name) for one in FORMATS), name
