import json
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from standpipe.chat.ask import Ask, Message, Role, Sampling, Text, Tool, ToolCall, ToolChoice, ToolMode
from standpipe.chat.errors import InvalidAsk, Unsupported
from standpipe.chat.events import FinishReason
from standpipe.engines.guard.constrained import Constrained
from standpipe.engines.scripted.script import Script
from standpipe.engines.scripted.scripted import Scripted
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
        return engine.statistics().asked

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


def test_an_engine_that_refuses_tools_is_asked_for_json():
    class Refusing(Scripted):
        async def answer(self, ask, sink):
            if ask.tools:
                raise InvalidAsk("this model does not support tools")
            await super().answer(ask, sink)

    assert [call.name for call in answer(Refusing(Script()), ASK, ignores=False).tool_calls] == ["clock"]


def test_an_answer_that_is_cut_before_its_call_stays_what_it_is():
    ask = replace(ASK, sampling=Sampling(max_tokens=2))
    assert answer(Scripted(Script(reasoning=5)), ask, ignores=False).reason is FinishReason.LENGTH


def test_everything_else_is_the_engines():
    inner = Scripted(Script(name="n", slots=7))
    outer = Constrained(inner)
    assert (outer.name, outer.slots) == ("n", 7)

    async def scene():
        await outer.close()
        return SimpleNamespace(models=await outer.models(), up=(await outer.health()).up)

    assert run(scene()) == SimpleNamespace(models=("scripted",), up=True)
