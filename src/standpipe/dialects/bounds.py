"""Bounds on what a stranger may send: ranges, counts, names, and the JSON Schemas of tools and answer formats.

Engines turn a schema into a grammar inside the loop that serves everybody. A deep schema has crashed them, and one
with a thousand alternatives has frozen all streams for seconds. So a schema is measured here, without recursion,
before any engine sees it. What it means is the engine's business.

Every check takes the field as the client spelled it and raises a failure that names it. The bounds are those of the
format, not of an operator, who may set tighter ones elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Sized
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from standpipe.chat.ask import Effort, JsonObject, Tool
from standpipe.chat.errors import InvalidAsk, TooLarge, Unsupported
from standpipe.dialects.schema_cost import check_cost

MESSAGES = 128
"""Most messages of one ask."""
STOPS = 4
"""Most stop strings of one ask."""
STOP_CHARACTERS = 64
"""Most characters of one stop string."""
TOOLS = 32
"""Most tools of one ask."""
SCHEMA_BYTES = 32 * 1024
"""Most bytes of all schemas of one ask, as compact JSON."""
SCHEMA_LEVELS = 8
"""Most schemas inside each other, the outermost counted. Maps from names to schemas are no level of their own."""
SCHEMA_NODES = 1000
"""Most values of any kind in one schema."""
SCHEMA_ITEMS = 256
"""Most items of one array in a schema: the values of an `enum`, the branches of an `anyOf`."""

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")

_MAPS = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
_INTEGERS = range(-(2**63), 2**64)
_BEYOND_HIGH = frozenset({"xhigh", "max"})
_EFFORTS = tuple(Effort)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_range(value: float | None, low: float, high: float, param: str) -> None:
    """None passes: it was not set. Raises InvalidAsk."""
    if value is not None and not low <= value <= high:
        raise InvalidAsk(f"`{param}` must be between {low} and {high}.", param=param)


def check_count(values: Sized, least: int, most: int, param: str) -> None:
    """How many there may be. Raises InvalidAsk."""
    if len(values) < least:
        raise InvalidAsk(f"`{param}` must not be empty.", param=param)
    if len(values) > most:
        raise InvalidAsk(f"`{param}` has {len(values)} entries; at most {most} are allowed.", param=param)


def present(value: T | None, param: str) -> T:
    """The value of a field that must be set. Raises InvalidAsk."""
    if value is None:
        raise InvalidAsk(f"`{param}` is missing.", param=param)
    return value


def filled(value: str | None, param: str) -> str:
    """The text of a field that must say something. Raises InvalidAsk."""
    if not value:
        raise InvalidAsk(f"`{param}` must be a string that is not empty.", param=param)
    return value


def stops(sent: str | Sequence[str] | None, param: str) -> tuple[str, ...]:
    """The stop strings: one alone, or a list. Raises InvalidAsk."""
    if sent is None:
        return ()
    named = [(param, sent)] if isinstance(sent, str) else [(f"{param}[{i}]", text) for i, text in enumerate(sent)]
    check_count(named, 0, STOPS, param)
    for name, text in named:
        if not 1 <= len(text) <= STOP_CHARACTERS:
            raise InvalidAsk(f"`{name}` must have 1 to {STOP_CHARACTERS} characters.", param=name)
    return tuple(text for _, text in named)


def one_of(value: str, allowed: Sequence[E], param: str) -> E:
    """The word of ours that the client's word is. Raises InvalidAsk."""
    for word in allowed:
        if value == word:
            return word
    listed = ", ".join(f"`{word}`" for word in allowed)
    raise InvalidAsk(f"`{param}` must be one of {listed}.", param=param)


def effort(value: str | None, param: str) -> Effort | None:
    """The effort of OpenAI's name; what no model here knows is the most that they do. Raises InvalidAsk."""
    if value is None:
        return None
    return Effort.HIGH if value in _BEYOND_HIGH else one_of(value, _EFFORTS, param)


def check_name(name: str, param: str) -> None:
    """Names of tools, schemas and speakers end up in prompts and grammars. Raises InvalidAsk."""
    if not _NAME.fullmatch(name):
        raise InvalidAsk(f"`{param}` must be 1 to 64 letters, digits, `_` or `-`.", param=param)


def check_tools(tools: Sequence[Tool], name: str, schema: str) -> None:
    """Hold declared tools against the bounds. `name` and `schema` are where a tool has those: `function.name`.

    Raises InvalidAsk, Unsupported or TooLarge.
    """
    names: set[str] = set()
    for i, tool in enumerate(tools):
        param = f"tools[{i}].{name}"
        check_name(tool.name, param)
        if tool.name in names:
            raise InvalidAsk(f"`{param}` is declared twice.", param=param)
        names.add(tool.name)
    schemas = {f"tools[{i}].{schema}": tool.parameters for i, tool in enumerate(tools)}
    check_schemas({param: parameters for param, parameters in schemas.items() if parameters is not None})


def check_schemas(schemas: dict[str, JsonObject]) -> None:
    """Hold schemas, keyed by the field that each stands in, against the bounds.

    Raises InvalidAsk or Unsupported for a single schema, TooLarge for all of them together.
    """
    for param, schema in schemas.items():
        _check_schema(schema, param)
        check_cost(schema, param)
    if sum(len(msgspec.json.encode(schema)) for schema in schemas.values()) > SCHEMA_BYTES:
        param = next(iter(schemas)).partition("[")[0]
        raise TooLarge(f"The schemas in `{param}` have more than {SCHEMA_BYTES} bytes.", param=param)


def _check_schema(schema: JsonObject, param: str) -> None:
    nodes = 0
    rest: list[tuple[Any, int, bool]] = [(schema, 0, False)]  # a value, the level around it, whether it is a map
    while rest:
        node, level, is_map = rest.pop()
        nodes += 1
        if nodes > SCHEMA_NODES:
            raise InvalidAsk(f"`{param}` has more than {SCHEMA_NODES} values.", param=param)
        if isinstance(node, dict):
            level += not is_map
            if level > SCHEMA_LEVELS:
                raise InvalidAsk(f"`{param}` has more than {SCHEMA_LEVELS} schemas inside each other.", param=param)
            rest.extend((value, level, not is_map and key in _MAPS) for key, value in node.items())
            if not is_map:
                _check_reference(node.get("$ref"), param)
        elif isinstance(node, list):
            if len(node) > SCHEMA_ITEMS:
                raise InvalidAsk(f"`{param}` has an array of more than {SCHEMA_ITEMS} items.", param=param)
            rest.extend((value, level, False) for value in node)
        elif isinstance(node, int) and node not in _INTEGERS:
            raise InvalidAsk(f"`{param}` has an integer of more than 64 bits.", param=param)


def _check_reference(reference: object, param: str) -> None:
    """An engine that follows an address would fetch what a stranger tells it to."""
    if isinstance(reference, str) and not reference.startswith("#"):
        raise Unsupported(f"`{param}` has a `$ref` that does not start with `#`: nothing is fetched.", param=param)
