"""The smallest JSON document that a JSON Schema allows, so that a scripted engine can keep to a schema it was given.

It fills in what is required and nothing else, and takes the first of several ways. It is no validator: a schema that
contradicts itself, or wants a pattern, gets a document of the right shape and no more. Depth and size are bounded,
because a schema comes from a stranger and may point at itself.
"""

from __future__ import annotations

import math
from typing import Any

from standpipe.chat.ask import JsonObject

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
