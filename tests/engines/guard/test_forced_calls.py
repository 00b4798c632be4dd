from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from standpipe.chat.ask import (
    Ask,
    FormatKind,
    Message,
    OutputFormat,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
)
from standpipe.chat.errors import InvalidAsk, Unsupported
from standpipe.chat.events import FinishReason, ToolCallDelta
from standpipe.dialects.gbnf import Grammar
from standpipe.dialects.openai.faults import failure_from
from standpipe.dialects.schema_grammar import add_schema
from standpipe.engines.guard.forced_calls import Constrained, call_from, constrain
from standpipe.engines.scripted.script import Script
from standpipe.engines.scripted.scripted import Scripted
from tests.dialects.formats import FORMATS, NOOP
from tests.virtual import Collected, run

TOOL = Tool(
    "clock", "Tells the time.", {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
)
ASK = Ask((Message(Role.USER, (Text("What time is it?"),)),), tools=(TOOL,), tool_choice=ToolChoice(ToolMode.REQUIRED))


class Deaf(Scripted):
    """Ignores tools and schemas."""

    async def answer(self, ask, sink):
        await super().answer(Ask(ask.messages), sink)


def answer(engine, ask: Ask, *, ignores: bool = True):
    async def scene():
        await Constrained(engine, ignores_tools=ignores).answer(ask, sink := Collected())
        return sink.answer

    return run(scene())


def test_a_model_that_must_call_a_tool_calls_it():
    found = answer(Scripted(Script(reasoning=2)), ASK)
    (call,) = found.tool_calls
    assert isinstance(call, ToolCall)
    assert call.name == "clock"
    assert set(json.loads(call.arguments)) == {"zone"}
    assert (found.text, found.reason) == ("", FinishReason.TOOL_CALLS)
    assert len(found.reasoning.split()) == 2


def test_a_model_that_may_call_a_tool_answers_in_prose():
    found = answer(Scripted(Script(tokens=3, tool="clock")), Ask(ASK.messages, tools=(TOOL,)))
    assert (len(found.text.split()), found.tool_calls) == (3, ())


def test_prose_in_the_place_of_a_call_is_a_failure_and_never_an_answer():
    for ignores in (True, False):
        with pytest.raises(Unsupported, match="cannot be made to call a tool"):
            answer(Deaf(Script(tokens=3)), ASK, ignores=ignores)


def test_an_engine_that_calls_tools_is_left_to_it_and_streams_its_call():
    found = answer(Scripted(Script(reasoning=2)), ASK, ignores=False)
    assert [call.name for call in found.tool_calls] == ["clock"]
    assert len(found.reasoning.split()) == 2


def test_an_engine_that_turns_out_to_ignore_tools_is_asked_for_json():
    class Toolless(Scripted):
        async def answer(self, ask, sink):
            await super().answer(replace(ask, tools=(), tool_choice=None), sink)

    engine = Toolless(Script(tokens=3))
    outer = Constrained(engine)

    async def scene():
        await outer.answer(ASK, sink := Collected())
        assert [call.name for call in sink.answer.tool_calls] == ["clock"]
        return engine.asked

    assert run(scene()) == 2


def test_prose_in_one_ask_takes_no_tools_from_the_next():
    class Capable(Scripted):
        async def answer(self, ask, sink):
            said.append(ask.tools)
            await super().answer(ask, sink)

    said: list[tuple[Tool, ...]] = []
    outer = Constrained(Capable(Script(text="prose")))

    async def scene():
        await outer.answer(replace(ASK, tool_choice=ToolChoice(ToolMode.NAMED, "clock")), Collected())
        await outer.answer(replace(ASK, tool_choice=None), Collected())

    run(scene())
    assert said[-1] == (TOOL,)


VLLM = b'{"error":{"message":"tool_choice=\\"required\\" requires --tool-call-parser to be set","code":400}}'


@pytest.mark.parametrize("refusal", [InvalidAsk("this model does not take it"), failure_from(400, VLLM)])
def test_an_engine_that_refuses_tools_is_asked_for_json(refusal):
    class Refusing(Scripted):
        async def answer(self, ask, sink):
            if ask.tools:
                raise refusal
            await super().answer(ask, sink)

    assert [call.name for call in answer(Refusing(Script()), ASK, ignores=False).tool_calls] == ["clock"]


def test_an_answer_that_is_cut_before_its_call_stays_what_it_is():
    ask = replace(ASK, sampling=Sampling(max_tokens=2))
    assert answer(Scripted(Script(reasoning=5)), ask, ignores=False).reason is FinishReason.LENGTH


def test_prose_that_is_cut_before_its_call_is_prose():
    class Toolless(Scripted):
        async def answer(self, ask, sink):
            prose = replace(ask, tools=(), tool_choice=None)
            if ask.format.kind is FormatKind.TEXT:
                prose = replace(prose, sampling=Sampling(max_tokens=2))
            await super().answer(prose, sink)

    assert [call.name for call in answer(Toolless(Script(tokens=9)), ASK, ignores=False).tool_calls] == ["clock"]


def strictly(**schema):
    return Ask(ASK.messages, format=OutputFormat(FormatKind.JSON_SCHEMA, schema=schema, strict=True))


def test_prose_in_the_place_of_strict_json_is_a_failure_and_never_an_answer():
    for schema in ({"type": "object"}, {"type": "string"}, {"enum": [1]}):
        with pytest.raises(Unsupported) as failure:
            answer(Deaf(Script(text="Well, no.")), strictly(**schema))
        assert failure.value.param == "response_format"


def test_json_that_is_held_to_a_schema_comes_as_it_is():
    assert json.loads(answer(Scripted(Script()), strictly(type="object")).text) == {}
    assert isinstance(json.loads(answer(Scripted(Script()), strictly(type="string")).text), str)


def test_everything_else_is_the_engines():
    inner = Scripted(Script(name="n", slots=7))
    outer = Constrained(inner)
    assert (outer.name, outer.slots) == ("n", 7)

    async def scene():
        await outer.close()
        return SimpleNamespace(models=await outer.models(), up=(await outer.health()).up)

    assert run(scene()) == SimpleNamespace(models=("scripted",), up=True)


WEATHER = Tool("weather", "Tells the weather.", {"type": "object", "properties": {"city": {"$ref": "#/$defs/c"}},
               "$defs": {"c": {"type": "string"}}})  # fmt: skip
CLOCK = Tool("clock")
HELLO = Message(Role.USER, (Text("hello"),))
TWO_TOOLS = Ask((HELLO,), tools=(WEATHER, CLOCK), tool_choice=ToolChoice(ToolMode.REQUIRED))
NAMED = replace(TWO_TOOLS, tool_choice=ToolChoice(ToolMode.NAMED, "weather"))


def test_only_required_and_named_choices_must_call():
    assert TWO_TOOLS.must_call
    assert NAMED.must_call
    for choice in (None, ToolChoice(), ToolChoice(ToolMode.NONE)):
        assert not replace(TWO_TOOLS, tool_choice=choice).must_call


def test_an_ask_that_may_call_loses_its_tools_and_nothing_else():
    assert constrain(replace(TWO_TOOLS, tool_choice=None)) == Ask((HELLO,))


def test_an_ask_that_must_call_asks_for_the_json_of_a_call():
    constrained = constrain(TWO_TOOLS)
    assert constrained.tools == ()
    assert constrained.format.kind is FormatKind.JSON_SCHEMA
    schema = constrained.format.schema
    assert schema is not None
    assert [variant["properties"]["name"] for variant in schema["anyOf"]] == [{"const": "weather"}, {"const": "clock"}]
    arguments = schema["anyOf"][0]["properties"]["arguments"]
    assert arguments == {"$ref": "#/$defs/tool0"}
    assert schema["$defs"]["tool0"]["properties"]["city"] == {"$ref": "#/$defs/tool0/$defs/c"}
    assert schema["$defs"]["tool0"]["$defs"] == {"c": {"type": "string"}}
    assert "Tells the weather." in constrained.messages[0].text
    assert constrained.messages[1:] == TWO_TOOLS.messages


def test_definitions_of_two_tools_never_meet():
    def tool(name: str, definition: dict[str, str]) -> Tool:
        return Tool(
            name, None, {"type": "object", "properties": {"x": {"$ref": "#/$defs/d"}}, "$defs": {"d": definition}}
        )

    schema = constrain(
        replace(TWO_TOOLS, tools=(tool("a", {"type": "null"}), tool("b", {"type": "boolean"})))
    ).format.schema
    assert schema is not None
    assert [one["$defs"]["d"]["type"] for one in schema["$defs"].values()] == ["null", "boolean"]
    assert schema["$defs"]["tool1"]["properties"]["x"] == {"$ref": "#/$defs/tool1/$defs/d"}


def test_a_named_choice_leaves_one_tool():
    schema = constrain(NAMED).format.schema
    assert schema is not None
    assert schema["properties"]["name"] == {"const": "weather"}


def test_the_clients_system_message_stays_first_and_alone():
    ask = replace(TWO_TOOLS, messages=(Message(Role.SYSTEM, (Text("Be kind."),)), HELLO))
    first, second = constrain(ask).messages
    assert first.text.startswith("Be kind.\n\n")
    assert second == HELLO


def test_the_json_of_a_call_is_a_call():
    text = json.dumps({"name": "weather", "arguments": {"city": "Łódź"}})
    assert call_from(text, TWO_TOOLS, "1") == ToolCallDelta(0, '{"city":"Łódź"}', id="call_1", name="weather")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "prose",
        "[]",
        "{}",
        '{"name":"clock","arguments":{"n":"\\ud800"}}',
        "[" * 5000,
        '{"name":"rm","arguments":{}}',
        '{"name":"clock","arguments":"{}"}',
        '{"name":"we',
    ],
)
def test_anything_else_is_none(text):
    assert call_from(text, TWO_TOOLS, "1") is None


def test_a_tool_that_was_not_named_is_none():
    assert call_from('{"name":"clock","arguments":{}}', NAMED, "1") is None


# Faults of schemas --------------------------------------------------------------------------------------------------


def standing(body, param: str):
    """What stands in this field of a client's request."""
    for step in re.findall(r"[^.\[\]]+", param):
        body = body[int(step)] if isinstance(body, list) else body[step]
    return body


def blamed(ask: Ask) -> str:
    """The field that is blamed for what a grammar cannot say."""
    with pytest.raises((InvalidAsk, Unsupported)) as caught:
        form = constrain(ask).format
        add_schema(Grammar(), form.schema or {}, form.field, strict=False, fields=form.fields)
    assert f"`{caught.value.param}`" in caught.value.message
    return caught.value.param or ""


BAD = {
    "plain": {"type": "object", "properties": {"a": {"type": "odd"}}},
    "referring": {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"type": "odd"}}},
}


@pytest.mark.parametrize("schema", BAD.values(), ids=BAD)
@pytest.mark.parametrize("one", FORMATS, ids=lambda one: one.dialect.name)
def test_a_fault_of_a_schema_is_told_where_the_client_wrote_it(one, schema):
    if one.schema is not None:
        body = one.schema(schema)
        assert standing(body, blamed(one.parse(**body).ask)) == "odd"
    bad = Tool("bad", None, schema)
    for tools in ((bad,), (NOOP, bad)) if one.tool is not None else ():
        body = one.tools(*tools)
        ask = replace(one.parse(**body).ask, tool_choice=ToolChoice(ToolMode.REQUIRED))
        assert standing(body, blamed(ask)) == "odd"


@pytest.mark.parametrize("one", [one for one in FORMATS if one.tool], ids=lambda one: one.dialect.name)
def test_arguments_that_are_no_object_are_the_fault_of_their_schema(one):
    body = one.tools(NOOP, Tool("bad", None, {"type": "string"}))
    ask = replace(one.parse(**body).ask, tool_choice=ToolChoice(ToolMode.REQUIRED))
    with pytest.raises(InvalidAsk, match="must be `object`") as caught:
        answer(Deaf(Script(tokens=3)), ask)
    assert standing(body, caught.value.param or "") == "string"
