import json
from types import SimpleNamespace

import pytest

from standpipe.chat.ask import Ask, Message, Role, Text, Tool, ToolCall, ToolChoice, ToolMode
from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import FinishReason
from standpipe.engines.constrained import Constrained
from standpipe.engines.script import Script
from standpipe.engines.scripted import Scripted
from tests.virtual import Collected, run

TOOL = Tool(
    "clock", "Tells the time.", {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
)
ASK = Ask((Message(Role.USER, (Text("What time is it?"),)),), tools=(TOOL,), tool_choice=ToolChoice(ToolMode.REQUIRED))


def answer(engine, ask: Ask):
    async def scene():
        await Constrained(engine).answer(ask, sink := Collected())
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
    class Deaf(Scripted):
        async def answer(self, ask, sink):
            await super().answer(Ask(ask.messages), sink)

    with pytest.raises(EngineFailed, match="had to call a tool"):
        answer(Deaf(Script(tokens=3)), ASK)


def test_everything_else_is_the_engines():
    inner = Scripted(Script(name="n", slots=7))
    outer = Constrained(inner)
    assert (outer.name, outer.slots) == ("n", 7)

    async def scene():
        await outer.close()
        return SimpleNamespace(models=await outer.models(), up=(await outer.health()).up)

    assert run(scene()) == SimpleNamespace(models=("scripted",), up=True)
