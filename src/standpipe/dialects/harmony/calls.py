"""Tool calls as models and engines write them: their arguments read and mended, their names held against what was
declared.

Arguments are JSON text, given on exactly as written wherever it is a JSON object. What models write besides is mended
when there is only one thing that it can mean (a wrong or forgotten closing bracket, a trailing comma, a Python dict,
JSON in a string, a one-element array, an envelope that repeats the tool's name or holds several calls, bare code for a
tool that takes one text); else there are no arguments, and so no call.

An engine that reads Harmony itself lets markup into names (`get_weather<|channel|>commentary`) and calls tools that
nobody declared. `DeclaredCalls` passes a clean call as the same objects; a name loses its markup; a call that names no
declared tool is left out and remembered.

Pure. Knows neither streams of text nor where in a turn a call stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from standpipe.chat.ask import Tool
from standpipe.chat.events import ToolCallDelta
from standpipe.dialects.harmony.markup import (
    PARALLEL,
    Cutter,
    Marker,
    bare_name,
    strip_markers,
    tool_named,
    unfinished_marker,
)


class Signature(Struct, frozen=True):
    """What a tool takes: the keys it knows, those it needs, and the one that takes text if it needs just that."""

    known: frozenset[str]
    needed: frozenset[str]
    lone_text: str | None = None


Signatures = Mapping[str, Signature]
"""By the names of the declared tools."""


def signatures(tools: Iterable[Tool]) -> dict[str, Signature]:
    """What each declared tool takes, as far as its schema says it in the usual way."""
    return {tool.name: _signature(tool.parameters or {}) for tool in tools}


def _signature(schema: Mapping[str, Any]) -> Signature:
    properties, required = schema.get("properties"), schema.get("required")
    properties = properties if isinstance(properties, dict) else {}
    needed = frozenset(key for key in required if isinstance(key, str)) if isinstance(required, list) else frozenset()
    lone = next(iter(needed)) if len(needed) == 1 else None
    shape = properties.get(lone) if lone else None
    lone_text = lone if isinstance(shape, dict) and shape.get("type") == "string" else None
    return Signature(known=frozenset(properties) | needed, needed=needed, lone_text=lone_text)


def read_arguments(text: str, name: str, signature: Signature, *, says_json: bool, whole: bool) -> str | None:
    """The arguments, as JSON text of an object, or None when there are none to be had.

    `says_json`: the header declared JSON. `whole`: the message was ended, not cut off.
    """
    found = _first_object(text, whole=whole)
    if found is None:
        if not text.strip():
            return "{}" if whole and not signature.needed else None
        if whole and not says_json and signature.lone_text and not text.lstrip().startswith("{"):
            return json.dumps({signature.lone_text: text.strip()}, ensure_ascii=False)
        return None
    value, source = found
    inner = _enveloped(value)
    if inner is not None and bare_name(inner[0]) == name and not {"name"} & signature.known:
        return inner[1]
    return source


def guess_call(text: str, declared: Signatures) -> tuple[str, str] | None:
    """The call, as (name, arguments), that a message without a recipient is: the one declared tool that its keys fit.

    None when it is no JSON object, when it fits none, or more than one.
    """
    found = _first_object(text)
    if found is None:
        return None
    value, source = found
    if (inner := _enveloped(value)) and (name := bare_name(inner[0])) in declared:
        return name, inner[1]
    keys = frozenset(value)
    fitting = [name for name, signature in declared.items() if keys and signature.needed <= keys <= signature.known]
    return (fitting[0], source) if len(fitting) == 1 else None


def parallel_calls(text: str, declared: Collection[str], *, whole: bool) -> list[tuple[str, str]]:
    """The calls, as (name, arguments), in the envelope of several: those of declared tools, none if it is no such."""
    found = _first_object(text, whole=whole)
    uses = found[0].get("tool_uses") if found else None
    calls: list[tuple[str, str]] = []
    for use in uses if isinstance(uses, list) else ():
        if isinstance(use, dict) and isinstance(name := use.get("recipient_name"), str):
            tool, arguments = tool_named(name, declared), use.get("parameters")
            if tool is not None and isinstance(arguments, dict):
                calls.append((tool, _compact(arguments)))
    return calls


def is_object(text: str) -> bool:
    """Whether a text is a JSON object, or can be mended into one."""
    return _first_object(text) is not None


_OPENING: Final = re.compile(r"\s*+(?:```)?(?:json)?\s*+(?=[\[{])")
_STRUCTURE: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_MENDABLE: Final = re.compile(
    rf"{_STRUCTURE.pattern}|'(?:[^'\\]|\\.)*+(?:'|\\?\Z)|,(?=\s*+(?:[\]}}]|\Z))|\b(?:True|False|None)\b", re.DOTALL
)
_QUOTE: Final = re.compile(r'(?<!\\)"')
_PYTHON: Final = {"True": "true", "False": "false", "None": "null"}
_DEEPEST: Final = 64
"""Beyond this nothing is meant, and readers of JSON start to fail."""
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_CLOSER: Final = {"{": "}", "[": "]"}


def _no_constant(name: str) -> Any:
    raise ValueError(name)


_STRICT: Final = json.JSONDecoder(parse_constant=_no_constant)
_LAX: Final = json.JSONDecoder(strict=False, parse_constant=_no_constant)
"""Also reads raw line breaks inside strings, which models write and JSON forbids."""


def _first_object(text: str, *, whole: bool = True) -> tuple[dict[str, Any], str] | None:
    """The first JSON value, when it is an object or an array of just one; and its source, which is valid JSON.

    `whole`: the text was not cut off, so that what is not closed was forgotten.
    """
    if text.lstrip().startswith('"'):
        with suppress(ValueError):
            text = _STRICT.decode(text.strip())
    start = _OPENING.match(text)
    if start is None or _depth(text) > _DEEPEST:
        return None
    return _decoded(text, start.end()) or _decoded(_mended(text[start.end() :], whole=whole), 0)


def _decoded(text: str, at: int) -> tuple[dict[str, Any], str] | None:
    for decoder in (_STRICT, _LAX):
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError:
            continue
        source = text[at:end]
        if isinstance(value, list) and len(value) == 1:
            value, source = value[0], _compact(value[0])
        if isinstance(value, dict):
            return value, source if decoder is _STRICT else _compact(value)
        return None
    return None


def _depth(text: str) -> int:
    """How deeply its brackets are nested, those in strings not counted."""
    depth = deepest = 0
    for match in _STRUCTURE.finditer(text):
        depth += (match.group() in _CLOSER) - (match.group() in "]}")
        deepest = max(depth, deepest)
    return deepest


def _mended(text: str, *, whole: bool) -> str:
    """The first value with each closing bracket as it must be, without trailing commas, and with JSON for Python."""
    open_: list[str] = []
    out: list[str] = []
    at = 0
    for match in _MENDABLE.finditer(text):
        sign = instead = match.group()
        if sign in _CLOSER:
            open_.append(_CLOSER[sign])
        elif sign in "]}" and open_:
            instead = open_.pop()
        elif sign == ",":
            instead = ""
        elif sign.startswith("'") and sign.endswith("'") and len(sign) > 1:
            instead = '"' + _QUOTE.sub(r"\\\g<0>", sign[1:-1].replace("\\'", "'")) + '"'
        else:
            instead = _PYTHON.get(sign, sign)
        out += text[at : match.start()], instead
        at = match.end()
        if not open_:
            break
    forgotten = open_ and whole and text[1:].strip()
    return "".join([*out, text[at:], *reversed(open_)] if forgotten else out)


def _compact(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # Half of a surrogate pair is no character: it stays the escape as which it was written.
    return json.dumps(value, separators=(",", ":")) if _SURROGATE.search(text) else text


def _enveloped(value: dict[str, Any]) -> tuple[str, str] | None:
    """Name and arguments of `{"name": ..., "parameters": {...}}`, also with `arguments`, also as JSON text."""
    if len(value) != 2 or not isinstance(name := value.get("name"), str):
        return None
    inner = value.get("parameters", value.get("arguments"))
    if isinstance(inner, str):
        found = _first_object(inner)
        return (name, found[1]) if found else None
    return (name, _compact(inner)) if isinstance(inner, dict) else None


_NAME_END: Final = re.compile(r"<\||\s|\{")
LONGEST_NAME: Final = 64
"""Characters of an undeclared tool's name that are remembered."""


class MarkerStripper:
    """Takes markers out of a text that has none to have."""

    __slots__ = ("_cutter", "_last")

    def __init__(self) -> None:
        self._cutter = Cutter()
        self._last = ""

    def feed(self, piece: str) -> str:
        """The piece without markers; the start of one is kept back."""
        out: list[str] = []
        for text in self._cutter.feed(piece):
            if not isinstance(text, Marker):
                out.append(text)
                self._last = text
            elif unfinished_marker(self._last):
                out.append(" ")
                self._last = " "
        return "".join(out)

    def flush(self) -> str:
        """What was kept back, now that no more comes."""
        return self._cutter.flush()


class DeclaredCalls:
    """One answer's calls. `count` is how many were given out, `undeclared` names those that were not."""

    __slots__ = ("_envelopes", "_open", "_tools", "count", "undeclared")

    def __init__(self, tools: Collection[str]) -> None:
        self._envelopes: dict[int, tuple[str, list[str]]] = {}
        """The id and the arguments of what is no call but the envelope of several."""
        self.count = 0
        self.undeclared: list[str] = []
        self._tools = tools
        self._open: dict[int, tuple[int, MarkerStripper] | None] = {}

    def take(self, delta: ToolCallDelta) -> list[ToolCallDelta]:
        """Take a delta of the engine's; give it, mended where it needs it, or nothing."""
        name = delta.name
        if delta.index not in self._open:
            name = self._begin(delta)
        call = self._open[delta.index]
        if call is None:
            if delta.index in self._envelopes:
                self._envelopes[delta.index][1].append(delta.arguments)
            return []
        index, scrub = call
        arguments = scrub.feed(delta.arguments)
        if (index, name, arguments) == (delta.index, delta.name, delta.arguments):
            return [delta]
        return [replace(delta, index=index, name=name, arguments=arguments)]

    def adopt(self, delta: ToolCallDelta) -> ToolCallDelta:
        """A whole call that somebody else found, in its place among the others."""
        index = self.count
        self.count += 1
        return delta if delta.index == index else replace(delta, index=index)

    def finish(self) -> list[ToolCallDelta]:
        """What was kept back."""
        rest = [(call[0], call[1].flush()) for call in self._open.values() if call]
        out = [ToolCallDelta(index, text) for index, text in rest if text]
        for call_id, pieces in self._envelopes.values():
            for name, arguments in parallel_calls("".join(pieces), self._tools, whole=True):
                out.append(self.adopt(ToolCallDelta(-1, strip_markers(arguments), f"{call_id}_{self.count}", name)))
        return out

    def __repr__(self) -> str:
        return f"<DeclaredCalls {self.count} undeclared={len(self.undeclared)}>"

    def _begin(self, delta: ToolCallDelta) -> str | None:
        written = delta.name or ""
        name = tool_named(_NAME_END.split(written.strip(), maxsplit=1)[0], self._tools)
        if name is None:
            self._open[delta.index] = None
            if bare_name(written) == PARALLEL:
                self._envelopes[delta.index] = delta.id or "call", []
                return None
            self.undeclared.append(strip_markers(written)[:LONGEST_NAME])
            return None
        self._open[delta.index] = (self.count, MarkerStripper())
        self.count += 1
        return name
