import json

import pytest
from msgspec.structs import replace

from standpipe.chat.ask import Ask, FormatKind, Message, Role, Text, Tool, ToolChoice, ToolMode
from standpipe.chat.events import ToolCallDelta
from standpipe.engines.guard.forced_calls import calls, constrain, must_call

WEATHER = Tool("weather", "Tells the weather.", {"type": "object", "properties": {"city": {"$ref": "#/$defs/c"}},
               "$defs": {"c": {"type": "string"}}})  # fmt: skip
CLOCK = Tool("clock")
HELLO = Message(Role.USER, (Text("hello"),))
ASK = Ask((HELLO,), tools=(WEATHER, CLOCK), tool_choice=ToolChoice(ToolMode.REQUIRED))
NAMED = replace(ASK, tool_choice=ToolChoice(ToolMode.NAMED, "weather"))


def test_only_required_and_named_choices_must_call():
    assert must_call(ASK)
    assert must_call(NAMED)
    for choice in (None, ToolChoice(), ToolChoice(ToolMode.NONE)):
        assert not must_call(replace(ASK, tool_choice=choice))


def test_an_ask_that_may_call_loses_its_tools_and_nothing_else():
    assert constrain(replace(ASK, tool_choice=None)) == Ask((HELLO,))


def test_an_ask_that_must_call_asks_for_the_json_of_a_call():
    constrained = constrain(ASK)
    assert constrained.tools == ()
    assert constrained.format.kind is FormatKind.JSON_SCHEMA
    schema = constrained.format.schema
    assert schema is not None
    assert [variant["properties"]["name"] for variant in schema["anyOf"]] == [{"const": "weather"}, {"const": "clock"}]
    assert schema["$defs"] == {"c": {"type": "string"}}
    assert "Tells the weather." in constrained.messages[0].text
    assert constrained.messages[1:] == ASK.messages


def test_a_named_choice_leaves_one_tool():
    schema = constrain(NAMED).format.schema
    assert schema is not None
    assert schema["properties"]["name"] == {"const": "weather"}


def test_the_clients_system_message_stays_first_and_alone():
    ask = replace(ASK, messages=(Message(Role.SYSTEM, (Text("Be kind."),)), HELLO))
    first, second = constrain(ask).messages
    assert first.text.startswith("Be kind.\n\n")
    assert second == HELLO


def test_the_json_of_a_call_is_a_call():
    text = json.dumps({"name": "weather", "arguments": {"city": "Łódź"}})
    assert calls(text, ASK, "1") == [ToolCallDelta(0, '{"city":"Łódź"}', id="call_1", name="weather")]


@pytest.mark.parametrize(
    "text",
    ["", "prose", "[]", "{}", '{"name":"rm","arguments":{}}', '{"name":"clock","arguments":"{}"}', '{"name":"we'],
)
def test_anything_else_is_none(text):
    assert calls(text, ASK, "1") is None


def test_a_tool_that_was_not_named_is_none():
    assert calls('{"name":"clock","arguments":{}}', NAMED, "1") is None
