"""Bounds on what a stranger may send: ranges, counts and names as types, and the measure of JSON Schemas.

The types that requests are decoded into are made of these. So a decoder holds them, `reading` makes sentences of them,
and the OpenAPI document and docs/compatibility.md tell them, all from here.

Engines turn a schema into a grammar inside the loop that serves everybody. A deep schema has crashed them, and one
with a thousand alternatives has frozen all streams for seconds. So a schema is measured here, without recursion,
before any engine sees it. What it means is the engine's business.

The bounds are those of the format, not of an operator, who may set tighter ones elsewhere.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from standpipe.chat.ask import JsonObject
from standpipe.chat.errors import InvalidAsk, TooLarge, Unsupported
from standpipe.dialects.schema_cost import check_cost

MESSAGES: Final = 4096
"""Most messages of one ask."""
TOOLS: Final = 256
"""Most tools of one ask."""
STOPS: Final = 64
"""Most stop strings of one ask."""
CHOICES: Final = 8
"""Most answers to one request."""
STOP_CHARACTERS: Final = 64
"""Most characters of one stop string."""
IMAGE_SIDE: Final = 8000
"""Most pixels of an image in either direction."""
IMAGE_PIXELS: Final = 4096 * 4096
"""Most pixels of one image: an engine unfolds each to three or four bytes, however small the file."""
IMAGES: Final = 64
"""Most images of one ask."""
IMAGES_PIXELS: Final = 4 * IMAGE_PIXELS
"""Most pixels of all images of one ask."""
SCHEMA_BYTES: Final = 128 * 1024
"""Most bytes of all schemas of one ask, as compact JSON."""
SCHEMA_LEVELS: Final = 24
"""Most schemas inside each other, the outermost counted. Maps from names to schemas are no level of their own."""
SCHEMA_NODES: Final = 4000
"""Most values of any kind in one schema."""
SCHEMA_ITEMS: Final = 256
"""Most items of one array in a schema: the values of an `enum`, the branches of an `anyOf`."""

Temperature = Annotated[float, Meta(ge=0, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
"""`top_p`, `min_p`: a part of all probability."""
TopK = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
TopLogprobs = Annotated[int, Meta(ge=0, le=20)]
"""How many rivals of a token are told."""
Choices = Annotated[int, Meta(ge=1, le=CHOICES)]
TokenLimit = Annotated[int, Meta(ge=1)]
"""Most tokens of an answer; what is more than the operator allows is as much as the operator allows."""

Stop = Annotated[str, Meta(min_length=1, max_length=STOP_CHARACTERS)]
Stops = Annotated[list[Stop], Meta(max_length=STOPS)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)", description="1 to 64 letters, digits, `_` or `-`")]
"""Of a tool or a schema: it ends up in prompts and grammars."""

T = TypeVar("T")
Messages = Annotated[list[T], Meta(min_length=1, max_length=MESSAGES)]
Tools = Annotated[list[T], Meta(max_length=TOOLS)]

_MAPS: Final = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
_INTEGERS: Final = range(-(2**63), 2**64)


def check_schemas(schemas: dict[str, JsonObject]) -> None:
    """Hold schemas, keyed by the field that each stands in, against the bounds.

    Raises InvalidAsk or Unsupported for a single schema, TooLarge for all of them together.
    """
    steps = 0
    for param, schema in schemas.items():
        _check_schema(schema, param)
        steps = check_cost(schema, param, steps)
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
                raise InvalidAsk(f"`{param}` has more than {SCHEMA_LEVELS} levels of nested schemas.", param=param)
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
        raise Unsupported(
            f"`{param}` has a `$ref` that does not start with `#`: external schemas are not loaded.", param=param
        )
