"""Reading the corpus in three ways, and what becomes of each kind of damage. No clock: this measures what is right."""

from __future__ import annotations

import random
from collections import Counter
from enum import StrEnum

from msgspec.structs import replace

from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import Delta, Event, Finished, ReasoningDelta, TextDelta
from standpipe.dialects.harmony.filter import HarmonyFilter
from standpipe.dialects.harmony.markup import find_marker
from standpipe.dialects.harmony.parser import HarmonyParser
from tests.gptoss.corpus import Call, Damage, Meaning, cut, meaning
from tests.gptoss.serving import Server, own_body

MOST_TOKENS = 600
"""Where the engine's own grammar has bent the output, the model has no reason to stop."""


class Outcome(StrEnum):
    """What a reader got. `failed` is an error instead of an answer, before or in the middle of the stream."""

    RIGHT = "right"
    WRONG = "wrong"
    LEAKED = "leaked"
    FAILED = "failed"


NEXT = "<|end|><|start|>assistant"
CALL = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"location":"Oslo"}<|call|>'
UNDAMAGED = {
    "answer": ("<|channel|>final<|message|>Hi <b>, a < b 🙂.<|return|>", Meaning("", "Hi <b>, a < b 🙂.", [], "stop")),
    "analysis and answer": (
        f"<|channel|>analysis<|message|>Think.{NEXT}<|channel|>final<|message|>Hi.<|return|>",
        Meaning("Think.", "Hi.", [], "stop"),
    ),
    "preamble and answer": (
        f"<|channel|>commentary<|message|>Plan: 1.{NEXT}<|channel|>final<|message|>Hi.<|return|>",
        Meaning("", "Plan: 1.\n\nHi.", [], "stop"),
    ),
    "call": (CALL, Meaning("", "", [Call("get_weather", '{"location":"Oslo"}')], "tool_calls")),
    "analysis, preamble and call": (
        f"<|channel|>analysis<|message|>Think.{NEXT}<|channel|>commentary<|message|>I look.{NEXT}{CALL}",
        Meaning("Think.", "I look.", [Call("get_weather", '{"location":"Oslo"}')], "tool_calls"),
    ),
}
"""Turns as the format describes them, and what they say."""


def undamaged(like: Damage) -> list[Damage]:
    """The undamaged turns, in the corpus's own form."""
    return [
        Damage(name, raw, expect, "", "", "none needed", like.tools, {}) for name, (raw, expect) in UNDAMAGED.items()
    ]


def outcome(got: Meaning, expect: Meaning) -> Outcome:
    """How a reading compares. Blank lines between blocks are a matter of taste and not compared."""
    fields = [got.reasoning, got.content, *(text for call in got.tool_calls for text in (call.name, call.arguments))]
    if any(find_marker(field) for field in fields):
        return Outcome.LEAKED
    return Outcome.RIGHT if _without_blank_lines(got) == _without_blank_lines(expect) else Outcome.WRONG


def _without_blank_lines(said: Meaning) -> Meaning:
    joined = (said.reasoning.replace("\n\n", ""), said.content.replace("\n\n", ""))
    return Meaning(*joined, said.tool_calls, said.finish_reason)


def pure(damage: Damage, splits: int, seed: int) -> Counter[Outcome]:
    """Our parser alone, at random splits. Here blank lines count, too: one reading must be exactly the other."""
    rng = random.Random(f"{seed} {damage.name}")
    counts: Counter[Outcome] = Counter()
    for _ in range(splits):
        parser = HarmonyParser(damage.ask().tools, "t")
        events: list[Delta] = [event for piece in cut(damage.raw, rng) for event in parser.feed(piece)]
        events += parser.finish(damage.reason)
        assert parser.turn is not None
        got = meaning([*events, Finished(parser.turn.reason)])
        compared = outcome(got, damage.expect)
        counts[Outcome.WRONG if compared is Outcome.RIGHT and got != damage.expect else compared] += 1
    return counts


def filtered(damage: Damage, splits: int, seed: int) -> Counter[Outcome]:
    """Our filter behind an engine that leaks all of it as the answer."""
    rng = random.Random(f"{seed} {damage.name}")
    counts: Counter[Outcome] = Counter()
    for _ in range(splits):
        filter_ = HarmonyFilter(damage.ask(), "t")
        given: list[Event] = [*map(TextDelta, cut(damage.raw, rng)), Finished(damage.reason)]
        got = meaning([event for one in given for event in filter_.take([one])])
        counts[outcome(got, damage.filtered or damage.expect)] += 1
    return counts


def held(damage: Damage) -> int:
    """The most characters of reasoning or answer that our parser ever held back, fed one character at a time.

    Only for a turn without a call: that one is held until it is whole.
    """
    parser = HarmonyParser(damage.ask().tools, "t")
    most = given = said = 0
    inside = False
    at = 0
    while at < len(damage.raw):
        marker = find_marker(damage.raw[at:])
        step = marker.group() if marker and marker.start() == 0 else damage.raw[at]
        inside = step == "<|message|>" or (inside and not (marker and marker.start() == 0))
        said += inside and step != "<|message|>"
        events = [event for character in step for event in parser.feed(character)]
        given += sum(len(e.text.replace("\n\n", "")) for e in events if isinstance(e, TextDelta | ReasoningDelta))
        most = max(most, said - given)
        at += len(step)
    return most


def embedded(server: Server, damage: Damage) -> Outcome:
    """The real engine with its parsing switched off, and our parser."""
    events, _ = server.events(damage.replayed())
    return outcome(meaning(events), damage.expect)


def engines_own(server: Server, damage: Damage) -> Outcome:
    """The real engine with its own parser, asked for a stream."""
    ask = damage.replayed()
    if ask.sampling.max_tokens is None:
        ask = replace(ask, sampling=replace(ask.sampling, max_tokens=MOST_TOKENS))
    try:
        batches = server.stream(own_body(ask))
    except EngineFailed:
        return Outcome.FAILED
    return outcome(meaning([event for batch in batches for event in batch]), damage.expect)
