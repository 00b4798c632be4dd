"""What a scripted engine says: a script and an ask give the whole answer, token by token.

Pure, and always the same for the same two. It takes everything seriously that a client can notice (limits, stop
strings, tools, schemas, log-probabilities, usage) and understands nothing.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence

from msgspec import Struct

from standpipe.chat.ask import Ask, FormatKind, Message, Role, Tool, ToolCall, ToolMode, ToolResult
from standpipe.chat.events import (
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from standpipe.engines.scripted.script import Script
from standpipe.engines.scripted.smallest import smallest

_VOCABULARY = """
a the some every this water jug street tap pipe stone bridge river rain cloud morning evening neighbour café child
carries fills pours waits shares finds keeps turns clear cold quiet open full slow and then while because again
"""
VOCABULARY = tuple(_VOCABULARY.split())

_ARGUMENTS = re.compile(r".{1,6}", re.DOTALL)
_WORDS = re.compile(r"\s*\S+|\s+")


class Composition(Struct, frozen=True):
    """A whole answer. Each delta is one token."""

    deltas: tuple[Delta, ...]
    finished: Finished


def compose(script: Script, ask: Ask) -> Composition:
    """The answer of this script to this ask: always the same for the same two."""
    sampling = ask.sampling
    said = _last_user_text(ask)
    # The number of messages is in it so that the calls of one conversation have different ids.
    chance = random.Random(f"{script.seed} {sampling.seed} {len(ask.messages)} {said}")  # noqa: S311  # no secret
    reasoning: list[Delta] = [ReasoningDelta(word) for word in _made_up(chance, script.reasoning)]
    tool = _called_tool(script, ask)
    body: list[Delta]
    stop: str | None = None
    if tool is not None:
        reason = FinishReason.TOOL_CALLS
        arguments = _ARGUMENTS.findall(json.dumps(smallest(tool.parameters)))
        body = [ToolCallDelta(0, id=f"call_{chance.randrange(16**12):012x}", name=tool.name)]
        body += [ToolCallDelta(0, piece) for piece in arguments]
    else:
        reason = FinishReason.STOP
        pieces, stop = _until(_text(script, ask, said, chance), sampling.stop)
        rivals = (sampling.top_logprobs or 0) if sampling.logprobs else None
        body = [TextDelta(piece, () if rivals is None else _logprobs(piece, rivals)) for piece in pieces]
    deltas = reasoning + body
    if sampling.max_tokens is not None and len(deltas) > sampling.max_tokens:
        deltas, reason, stop = deltas[: max(0, sampling.max_tokens)], FinishReason.LENGTH, None
    usage = Usage(
        prompt_tokens=max(1, sum(map(_words_in, ask.messages))),
        completion_tokens=len(deltas),
        reasoning_tokens=min(len(reasoning), len(deltas)),
    )
    timings = Timings(script.first, len(deltas) / script.rate if script.rate else 0.0)
    return Composition(tuple(deltas), Finished(reason, usage, timings, stop))


def _last_user_text(ask: Ask) -> str:
    return next((message.text for message in reversed(ask.messages) if message.role is Role.USER), "")


def _words_in(message: Message) -> int:
    texts = (part.arguments if isinstance(part, ToolCall) else part.text for part in message.parts)
    return sum(len(text.split()) for text in texts)


def _made_up(chance: random.Random, count: int) -> list[str]:
    return [(" " if index else "") + chance.choice(VOCABULARY) for index in range(count)]


def _text(script: Script, ask: Ask, said: str, chance: random.Random) -> list[str]:
    if ask.format.kind is not FormatKind.TEXT:
        return _ARGUMENTS.findall(json.dumps(smallest(ask.format.schema)))
    if script.text is None:
        return _made_up(chance, script.tokens)
    return _WORDS.findall(said if script.text == "echo" else script.text)


def _called_tool(script: Script, ask: Ask) -> Tool | None:
    """The tool to call: one that must be, or the script's where it may be. None once there are results to talk of."""
    mode = ask.tool_choice.mode if ask.tool_choice else ToolMode.AUTO
    if not ask.tools or mode is ToolMode.NONE or _has_results(ask):
        return None
    wanted = ask.tool_choice.name if ask.tool_choice and mode is ToolMode.NAMED else script.tool
    declared = next((tool for tool in ask.tools if tool.name == wanted), None)
    return declared or (None if mode is ToolMode.AUTO else ask.tools[0])


def _has_results(ask: Ask) -> bool:
    """Whether a tool gave something back since the model last spoke."""
    for message in reversed(ask.messages):
        if message.role is Role.ASSISTANT:
            return False
        if any(isinstance(part, ToolResult) for part in message.parts):
            return True
    return False


def _until(pieces: list[str], stops: Sequence[str]) -> tuple[list[str], str | None]:
    """The pieces before the first stop string, and that string."""
    text = "".join(pieces)
    left, first = min(
        ((at, stop) for stop in stops if stop and (at := text.find(stop)) >= 0), default=(len(text), None)
    )
    kept = []
    for piece in pieces:
        if left > 0:
            kept.append(piece[:left])
        left -= len(piece)
    return kept, first


def _logprobs(token: str, rivals: int) -> tuple[TokenLogprob, ...]:
    """One token's log-probability with its likeliest rivals, the token itself being the first of them."""

    def one(text: str, place: int) -> TokenLogprob:
        return TokenLogprob(text, -0.25 * (place + 1), tuple(text.encode()))

    others = [f" {word}" for word in VOCABULARY if word != token.strip()]
    top = tuple(one(text, place) for place, text in enumerate([token, *others][:rivals]))
    return (TokenLogprob(token, -0.25, tuple(token.encode()), top),)
