"""What a scripted engine says: a script and an ask give the whole answer, token by token.

Pure, and always the same for the same two. It takes everything seriously that a client can notice (limits, stop
strings, tools, schemas, log-probabilities, usage) and understands nothing.

To a JSON Schema it answers with the `smallest` document that fits: what is required and nothing else, and the first of
several ways. It is no validator: a schema that contradicts itself, or wants a pattern, gets a document of the right
shape and no more. Depth and size are bounded, because a schema comes from a stranger and may point at itself.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from standpipe.chat.ask import Ask, FormatKind, Image, JsonObject, Message, Role, Tool, ToolCall, ToolMode, ToolResult
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

_VOCABULARY = """
a the some every this water jug street tap pipe stone bridge river rain cloud morning evening neighbour café child
carries fills pours waits shares finds keeps turns clear cold quiet open full slow and then while because again
"""
VOCABULARY = tuple(_VOCABULARY.split())

_ARGUMENTS = re.compile(r".{1,6}", re.DOTALL)
_WORDS = re.compile(r"\s*\S+|\s+")

DEPTH = 32
"""Levels. What lies deeper is null."""
SIZE = 1000
"""Values in the document, and characters in a string. What would be beyond is null, cut or left out."""

_LARGEST = 1e15
"""Bounds beyond this are not looked at: up to here a float still counts exactly."""

_FORMATS = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "name@example.org",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


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
    said = (part for part in message.parts if not isinstance(part, Image))
    return sum(len((part.arguments if isinstance(part, ToolCall) else part.text).split()) for part in said)


def _made_up(chance: random.Random, count: int) -> list[str]:
    return [(" " if index else "") + chance.choice(VOCABULARY) for index in range(count)]


def _text(script: Script, ask: Ask, said: str, chance: random.Random) -> list[str]:
    if ask.format.kind is not FormatKind.TEXT:
        return _ARGUMENTS.findall(json.dumps(smallest(ask.format.schema)))
    if script.text is None:
        return _made_up(chance, script.tokens)
    return _WORDS.findall(said if script.text == "echo" else script.text)


def _called_tool(script: Script, ask: Ask) -> Tool | None:
    """The tool to call: one that must be, or the script's where it may be. None once it was called often enough."""
    mode = ask.tool_choice.mode if ask.tool_choice else ToolMode.AUTO
    if not ask.tools or mode is ToolMode.NONE or _turns_with_results(ask) >= script.calls:
        return None
    wanted = ask.tool_choice.name if ask.tool_choice and mode is ToolMode.NAMED else script.tool
    declared = next((tool for tool in ask.tools if tool.name == wanted), None)
    return declared or (None if mode is ToolMode.AUTO else ask.tools[0])


def _turns_with_results(ask: Ask) -> int:
    """How often tools gave something back since the user last spoke. Results side by side are one turn's."""
    turns, inside = 0, False
    for message in reversed(ask.messages):
        results = any(isinstance(part, ToolResult) for part in message.parts)
        if not results and message.role is Role.USER:
            break
        turns += results and not inside
        inside = results
    return turns


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


def smallest(schema: JsonObject | None) -> Any:
    """A document for this schema; an empty object where there is none."""
    return _Filler(schema).fill(schema, 0) if schema else {}


class _Filler:
    """Fills one document: holds the schema that references point into, and what may still be made."""

    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._left = SIZE

    def fill(self, schema: Any, depth: int) -> Any:
        if depth > DEPTH:
            return None
        schema = self._plain(schema)
        if given := _list(schema, "enum") or ([schema["const"]] if "const" in schema else []):
            return given[0] if self._reserve(1 + len(str(given[0]))) else None
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((one for one in kind if one != "null"), "null")
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else "null"
        match kind:
            case "object":
                properties = _object(schema.get("properties"))
                names = dict.fromkeys(name for name in _list(schema, "required") if isinstance(name, str))
                count = self._reserve(len(names))
                return {name: self.fill(properties.get(name), depth + 1) for name in list(names)[:count]}
            case "array":
                count = self._reserve(_length(schema, "minItems"))
                kinds = _list(schema, "prefixItems")[:count]
                kinds += [schema.get("items")] * (count - len(kinds))
                return [self.fill(one, depth + 1) for one in kinds]
            case "string":
                return _string(schema)
            case "integer" | "number":
                return _number(schema, whole=kind == "integer")
            case _:
                return True if kind == "boolean" else None

    def _reserve(self, wanted: int) -> int:
        """How much of this may still be made."""
        granted = min(wanted, self._left)
        self._left -= granted
        return granted

    def _plain(self, schema: Any) -> JsonObject:
        """The schema without references and choices: each is replaced by what it stands for, the first of several."""
        plain = _object(schema)
        for _ in range(DEPTH):
            if isinstance(reference := plain.get("$ref"), str):
                parts = [self._resolve(reference)]
            elif options := _list(plain, "anyOf") or _list(plain, "oneOf"):
                parts = options[:1]
            else:
                parts = _list(plain, "allOf")
            if not parts:
                break
            plain = {key: value for key, value in plain.items() if key not in {"$ref", "anyOf", "oneOf", "allOf"}}
            for part in map(_object, parts):
                properties = _object(plain.get("properties")) | _object(part.get("properties"))
                required = _list(plain, "required") + _list(part, "required")
                plain = plain | part | ({"properties": properties} if properties else {}) | {"required": required}
        return plain

    def _resolve(self, reference: str) -> Any:
        """What `#/$defs/name` points at, None when it points nowhere."""
        here: Any = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            here = _object(here).get(step.replace("~1", "/").replace("~0", "~"))
        return here


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _list(schema: JsonObject, key: str) -> list[Any]:
    value = schema.get(key)
    return list(value) if isinstance(value, list) else []


def _length(schema: JsonObject, key: str, default: int = 0) -> int:
    value = schema.get(key)
    return min(value, SIZE) if isinstance(value, int) and value >= 0 else default


def _string(schema: JsonObject) -> str:
    text = _FORMATS.get(str(schema.get("format")), "text")
    return text[: _length(schema, "maxLength", SIZE)].ljust(_length(schema, "minLength"), "x")


def _number(schema: JsonObject, *, whole: bool) -> float:
    """0 where that is allowed, else the bound that is nearest to it."""

    def bound(key: str) -> float | None:
        value = schema.get(key)
        known = isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST
        return value if known else None

    step = bound("multipleOf") or 1
    if step < 1 / _LARGEST:
        step = 1
    value: float = 0
    low, above = bound("minimum"), bound("exclusiveMinimum")
    high, below = bound("maximum"), bound("exclusiveMaximum")
    if low is not None and value < low:
        value = math.ceil(low / step) * step
    if above is not None and value <= above:
        value = (math.floor(above / step) + 1) * step
    if high is not None and value > high:
        value = math.floor(high / step) * step
    if below is not None and value >= below:
        value = (math.ceil(below / step) - 1) * step
    return int(value) if whole else value
