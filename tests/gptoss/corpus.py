"""The corpus of damaged Harmony: what models were reported to write, and what is right to make of it.

`harmony_damage.jsonl` has one kind of damage per line: the raw completion, what it means, where it was reported, how
llama.cpp's own parser read it (without and with the tools declared), and the rule that repairs it. `held-out` are kinds
that were found when the parser was tried on what it had not been made for.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import msgspec

from standpipe.chat.ask import Ask, Message, Role, Sampling, Text, Tool
from standpipe.chat.events import Event, Finished, FinishReason, ReasoningDelta, TextDelta, ToolCallDelta
from tests.gptoss import tiny

FILE = Path(__file__).with_name("harmony_damage.jsonl")


class Call(msgspec.Struct, frozen=True):
    name: str
    arguments: str


class Meaning(msgspec.Struct, frozen=True):
    """What a completion means, as its reader sees it."""

    reasoning: str
    content: str
    tool_calls: list[Call]
    finish_reason: str


class Damage(msgspec.Struct, frozen=True):
    """One kind. `tools`: the declared ones, each with its required parameters, all strings."""

    name: str
    raw: str
    expect: Meaning
    source: str
    provenance: str
    repair: str
    tools: dict[str, list[str]]
    llama_cpp: dict[str, str] = {}
    filtered: Meaning | None = None
    """What a filter makes of it, where that cannot be the same: what came first was given out before it was known."""

    @property
    def reason(self) -> FinishReason:
        """Why the engine says that it stopped."""
        return FinishReason.LENGTH if self.expect.finish_reason == "length" else FinishReason.STOP

    def ask(self, content: str = "hi", *, max_tokens: int | None = None) -> Ask:
        """An ask that declares the tools."""
        tools = tuple(tool(name, required) for name, required in self.tools.items())
        return Ask((Message(Role.USER, (Text(content),)),), tools=tools, sampling=Sampling(max_tokens=max_tokens))

    def replayed(self) -> Ask:
        """An ask that makes the tiny model write exactly this: what is not cut off ends with an end of turn."""
        if self.reason is FinishReason.LENGTH:
            return self.ask(tiny.script(self.raw), max_tokens=len(tiny.pieces(self.raw)))
        ended = self.raw.endswith(("<|return|>", "<|call|>"))
        return self.ask(tiny.script(self.raw if ended else self.raw + "<|return|>"))


def tool(name: str, required: Sequence[str] = ()) -> Tool:
    """A tool that takes these strings."""
    properties = {key: {"type": "string"} for key in required}
    return Tool(name, f"The tool {name}.", {"type": "object", "properties": properties, "required": list(required)})


def load() -> list[Damage]:
    return [msgspec.json.decode(line, type=Damage) for line in FILE.read_bytes().splitlines()]


def cut(text: str, rng: random.Random, most: int = 40) -> list[str]:
    """The text in random pieces."""
    if len(text) < 2:
        return [text]
    at = sorted(rng.sample(range(1, len(text)), rng.randint(0, min(len(text) - 1, most))))
    return [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]


def meaning(events: Sequence[Event]) -> Meaning:
    """What these events say, ended by Finished."""
    finished = events[-1]
    assert isinstance(finished, Finished)
    calls: dict[int, Call] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            before = calls.get(event.index, Call(event.name or "", ""))
            calls[event.index] = Call(before.name, before.arguments + event.arguments)
    return Meaning(
        reasoning="".join(event.text for event in events if isinstance(event, ReasoningDelta)),
        content="".join(event.text for event in events if isinstance(event, TextDelta)),
        tool_calls=[calls[index] for index in sorted(calls)],
        finish_reason=str(finished.reason),
    )
