import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from standpipe.chat.ask import Ask, Message, Role, Text, Tool, ToolChoice, ToolMode
from standpipe.chat.errors import InvalidAsk, Unsupported
from standpipe.engines.engine import NeedsTemplate
from standpipe.engines.guard.control_tokens import BREAK, Handling
from standpipe.engines.guard.forced_calls import Constrained
from standpipe.engines.guard.guarded import GrammarUpstream, Guarded, HarmonyUpstream, speaks_harmony
from standpipe.engines.scripted.script import Script
from standpipe.engines.scripted.scripted import Scripted
from standpipe.engines.upstream import LLAMA_CPP
from tests.dialects.formats import FORMATS
from tests.virtual import Collected, run


def ask(text: str, model: str | None = None, **fields) -> Ask:
    return Ask((Message(Role.USER, (Text(text),)),), model=model, **fields)


def answer(engine, asked: Ask):
    async def scene():
        await Guarded(engine).answer(asked, sink := Collected())
        return sink.answer

    return run(scene())


def test_leaked_harmony_is_repaired_where_a_gpt_oss_answers_and_nowhere_else():
    leaky = Scripted(
        Script(text="<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi.")
    )
    found = answer(leaky, ask("x", model="openai/gpt-oss-20b"))
    assert (found.reasoning, found.text) == ("Hm.", "Hi.")
    assert "<|channel|>" in answer(leaky, ask("x", model="another")).text


@pytest.mark.parametrize(
    ("name", "speaks"), [("gpt-oss:20b", True), ("openai/GPT_OSS-120b", True), ("gpt-4", False), (None, False)]
)
def test_gpt_oss_is_known_by_its_name(name, speaks):
    assert speaks_harmony(name) is speaks


class Templating(Scripted):
    """Continues no text."""

    async def answer(self, ask, sink):
        if ask.raw:
            raise NeedsTemplate
        await super().answer(ask, sink)


def test_a_raw_text_is_answered_like_a_question_where_nothing_continues_it_and_that_is_told():
    async def scene():
        await Guarded(Templating(Script(text="Hi."))).answer(ask("x", raw=True), sink := Collected())
        return sink

    sink = run(scene())
    assert sink.answer.text == "Hi."
    assert sink.events[0].dropped == ("raw",)


def test_a_text_that_is_continued_is_not_read_as_harmony():
    said = "analysis<|channel|>final<|message|>Hi."
    found = answer(Scripted(Script(text=said)), ask("x", model="gpt-oss:20b", raw=True))
    assert (found.reasoning, found.text) == ("", said)


class Counting(Scripted):
    """Counts a prompt's tokens like an engine that reads control tokens (1 each) or spells them (5 each)."""

    def __init__(self, per_token: int, per_broken: int) -> None:
        super().__init__(Script(model="gpt-oss:20b"))
        self.costs = {f"<{BREAK}|start|>": per_broken, "<|start|>": per_token}

    async def answer(self, ask, sink):
        text = ask.messages[0].text
        count = 5
        for token, cost in self.costs.items():
            count += cost * text.count(token)
            text = text.replace(token, "")
        words = Message(Role.USER, (Text(" ".join(["w"] * count)),))
        await super().answer(Ask((words,)), sink)


@pytest.mark.parametrize(
    ("per_token", "per_broken", "handling"),
    [(1, 8, Handling.READS), (5, 7, Handling.SPELLS), (1, 1, Handling.READS_ANYWAY)],
)
def test_a_probe_tells_how_an_engine_handles_control_tokens(per_token, per_broken, handling):
    guard = Guarded(Counting(per_token, per_broken))
    assert run(guard.probe()) is handling
    assert guard.handling is handling


def test_an_engine_that_cannot_be_probed_is_unclear():
    class Broken(Scripted):
        async def models(self):
            raise InvalidAsk("no")

    assert run(Guarded(Broken(Script())).probe()) is Handling.UNCLEAR


def test_a_probe_does_not_wait_for_ever():
    class Silent(Scripted):
        async def answer(self, ask, sink):
            await asyncio.Event().wait()

    async def scene():
        guard = Guarded(Silent(Script()))
        return await guard.probe(), asyncio.get_running_loop().time()

    assert run(scene()) == (Handling.UNCLEAR, 120)


def test_guards_can_be_stacked_and_look_like_the_engine():
    engine = Constrained(Guarded(Scripted(Script(name="n", slots=3))))
    assert (engine.name, engine.slots) == ("n", 3)
    assert "Scripted" in repr(engine)


class Wire:
    """A llama.cpp's client: it answers with this text, and has what it was asked."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: dict[str, Any] = {}

    async def request(self, _, path, *, on_head, on_body, body, **__):
        self.asked = json.loads(body)
        on_head(200, {}, SimpleNamespace(pause=lambda: None, resume=lambda: None))
        on_body(b"data: " + json.dumps({"choices": [{"delta": {"content": self.text}}]}).encode() + b"\n\n")
        on_body(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')


CITY = {"type": "object", "properties": {"city": {"type": "string", "pattern": "(?=P)Paris"}}, "minProperties": 1}
JSON = '{"city":"Paris"}'
LLAMAS = {
    GrammarUpstream: JSON,
    HarmonyUpstream: f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{JSON}",
}


@pytest.mark.parametrize("kind", LLAMAS)
@pytest.mark.parametrize("one", [one for one in FORMATS if one.schema], ids=lambda one: one.dialect.name)
def test_what_a_schema_asks_and_no_grammar_can_say_is_told_or_refused(one, kind):
    wire = Wire(LLAMAS[kind])
    engine = kind("e", wire, slots=1, models=("m",), capabilities=LLAMA_CPP)
    asked = one.parse(**one.schema(CITY)).ask

    async def told():
        await engine.answer(replace(asked, format=replace(asked.format, strict=False)), sink := Collected())
        return sink

    async def held():
        await engine.answer(replace(asked, format=replace(asked.format, strict=True)), Collected())

    sink = run(told())
    names = [f"{asked.format.field}.{key}" for key in ("minProperties", "properties.city.pattern")]
    assert sink.events[0].dropped == tuple(names)
    assert sink.answer.text == JSON
    assert "grammar" in wire.asked
    with pytest.raises(Unsupported) as refused:
        run(held())
    assert refused.value.param in names


def test_what_a_tool_asks_and_no_grammar_can_say_is_told():
    tool = Tool("f", None, CITY, field="tools[0].function.parameters")
    call = f"<|channel|>commentary to=functions.f <|constrain|>json<|message|>{JSON}"
    engine = HarmonyUpstream("e", Wire(call), slots=1, models=("m",), capabilities=LLAMA_CPP)

    async def scene():
        await engine.answer(ask("x", tools=(tool,), tool_choice=ToolChoice(ToolMode.REQUIRED)), sink := Collected())
        return sink

    sink = run(scene())
    assert sink.events[0].dropped == (f"{tool.field}.minProperties", f"{tool.field}.properties.city.pattern")
    assert sink.answer.tool_calls[0].arguments == JSON
