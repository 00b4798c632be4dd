"""What a JSON Schema costs the engine that enforces it, bounded before any engine sees it.

An engine makes a grammar of a schema and follows, with every token, each way in which the text so far may be read. How
many such ways there are at once decides whether a token takes a millisecond or for ever; it can be exponential in the
depth of the answer for a schema of a few hundred bytes. So the ways are counted here as an engine would meet them: from
state to state of the schema, each a collection of the schemas that the same next character may belong to. Objects that
a constant property tells apart before it matters are counted apart, as in tagged unions.

Two more costs are bounded: how large the schema is when its counts are written out, which some engines do, and those of
its regular expressions (`pattern`). What cannot be bounded is refused, by the name
of the keyword and where it stands. That some engine might manage it is no reason to find out with everybody's engine.

Pure, and bounded itself: no recursion that a schema decides, and a budget of steps.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from typing import Any, Final

import msgspec

from standpipe.chat.ask import JsonObject
from standpipe.chat.errors import Unsupported
from standpipe.dialects.pattern import pattern_fault

WAYS: Final = 512
"""Most ways to read a text at once, in units of the cheapest one."""
_SCALAR_WAYS: Final = 4
"""A way that stays open for a whole string counts more than one that a property's name closes."""
WRITTEN: Final = 1_000_000
"""Most elements of a schema whose counts are written out: `maxItems` inside each other multiply."""
STEPS: Final = 80_000
"""Most steps that are taken to find out, for all schemas of a request: about a microsecond each."""
_LEAF_STEPS: Final = 20
"""How many steps it takes to enter one schema as one way to read a text."""
DEPTH: Final = 200
"""Most schemas on the way into a schema, references followed."""

_COSTLY: Final = re.compile(
    rb'"(?:(?:any|one|all)Of|\$ref|pattern(?:Properties)?|m(?:in|ax)(?:Items|Length|Properties)|if|not|prefixItems)":'
)
"""Keywords without one of which a schema can be read in one way only."""
_BRANCHES: Final = ("anyOf", "oneOf", "allOf")
_ALONGSIDE: Final = ("if", "then", "else", "not", "contains", "propertyNames", "unevaluatedItems")
_COUNTED: Final = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_DATA: Final = ("const", "enum", "default", "examples", "required")
"""Keywords whose values are no schemas, whatever they look like."""
_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_KINDS: Final[Mapping[type, str]] = {
    str: "string", bool: "boolean", int: "number", float: "number", list: "array", dict: "object", type(None): "null",
}  # fmt: skip
_IMPLIED: Final = {
    "object": ("properties", "required", "additionalProperties", "patternProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "format", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


def check_cost(schema: JsonObject, param: str, steps: int = 0) -> int:
    """Refuse a schema that costs too much. `param` is the field that it stands in. Raises Unsupported.

    Takes and gives how many of the steps have been taken: all schemas of a request share one budget.
    """
    if not _COSTLY.search(msgspec.json.encode(schema)):
        return steps
    measure = _Measure(schema, param, steps)
    measure.check()
    return measure.steps


class _Leaf:
    """A schema without alternatives: what one character of JSON may begin."""

    __slots__ = ("_before", "costs", "is_open", "param", "properties", "required", "schema")

    def __init__(self, schema: Mapping[str, Any], param: str, kinds: frozenset[str]) -> None:
        self.schema = schema
        self.param = param
        found = schema.get("properties")
        self.properties: Mapping[str, Any] = found if isinstance(found, dict) else {}
        """Of an object, by name, in the order in which engines want them."""
        needed = _list(schema.get("required"))
        self.required = {key: _constants(value) for key, value in self.properties.items() if key in needed}
        """Those that must be there, each with the constants that it allows: none where it lists none."""
        self._before: dict[str | None, dict[str, frozenset[Any]]] = {}
        self.costs = {kind: self._cost(kind) for kind in kinds}
        """In how many ways a text of each of its types may be read as this schema alone."""
        self.is_open = schema.get("additionalProperties", False) is not False or "patternProperties" in schema

    def _cost(self, kind: str) -> int:
        if values := _list(self.schema.get("enum")):
            return max(_SCALAR_WAYS, len(values))
        if kind == "object":
            return 1 + len(self.properties) - len(self.required)
        if kind == "number":  # engines write a range as so many rows of digits
            return _SCALAR_WAYS + 2 * sum(len(str(self.schema.get(key, ""))) for key in _IMPLIED["number"])
        return 1 if kind == "array" else _SCALAR_WAYS

    def before(self, name: str | None) -> dict[str, frozenset[Any]]:
        """The required properties before this one."""
        if name not in self.properties:
            return self.required
        if name not in self._before:
            names = takewhile(lambda key: key != name, self.properties)
            self._before[name] = {key: self.required[key] for key in names if key in self.required}
        return self._before[name]

    def tag(self, name: str | None) -> tuple[str, Any] | None:
        """The first required property before this one with its only constant, if it has just one."""
        key = next(iter(self.before(name)), None)
        return (key, *self.required[key]) if key is not None and len(self.required[key]) == 1 else None


_State = tuple[tuple[_Leaf, int], ...]
"""Schemas that the next character may belong to, each with in how many ways."""


class _Measure:
    """One schema, measured."""

    def __init__(self, root: JsonObject, param: str, steps: int) -> None:
        self._root = root
        self._param = param
        self.steps = steps
        self._leaf: dict[int, _Leaf] = {}
        """By the identity of a schema's object, as all of these: the root keeps them alive."""
        self._leaves: dict[int, list[_Leaf]] = {}
        self._written: dict[int, int] = {}

    def check(self) -> None:
        """Raises Unsupported."""
        self._size(self._root, self._param, frozenset())
        seen: set[tuple[tuple[int, int], ...]] = set()
        states: list[_State] = [self._state([(self._root, self._param, 1)])]
        while states:
            state = states.pop()
            key = tuple((id(leaf), ways) for leaf, ways in state)
            if state and key not in seen:
                seen.add(key)
                states += self._following(state)

    def _refuse(self, param: str, why: str) -> Unsupported:
        return Unsupported(f"`{param}` is too complex to enforce: {why}.", param=param)

    def _step(self, steps: int = 1) -> None:
        self.steps += steps
        if self.steps > STEPS:
            raise self._refuse(self._param, "its parts can be combined in too many ways")

    def _enter(self, schema: object, param: str, entered: frozenset[int]) -> frozenset[int]:
        if len(entered) >= DEPTH:
            raise self._refuse(param, f"it is reached by more than {DEPTH} schemas and references inside each other")
        return entered | {id(schema)}

    # Ways

    def _state(self, schemas: list[tuple[Any, str, int]]) -> _State:
        """Where an engine is that may read any of these schemas next, each given with in how many ways.

        Only what has an inside stays: arrays and objects.
        """
        ways: dict[_Leaf, int] = {}
        costs: dict[str, int] = {}
        for schema, param, times in schemas:
            for leaf in self._alternatives(schema, param):
                self._step(_LEAF_STEPS)
                ways[leaf] = ways.get(leaf, 0) + times
                for kind, cost in leaf.costs.items():
                    costs[kind] = costs.get(kind, 0) + times * cost
                    if costs[kind] > WAYS:
                        hint = "; put a property that tells them apart first" if kind == "object" else ""
                        raise self._refuse(leaf.param, f"there are more than {WAYS} ways to read the same {kind}{hint}")
        inside = [each for each in ways.items() if "object" in each[0].costs or "array" in each[0].costs]
        return tuple(inside if len(inside) < 2 else sorted(inside, key=lambda each: id(each[0])))

    def _following(self, state: _State) -> Iterator[_State]:
        """The states inside the arrays and objects of this one."""
        arrays = [(leaf, times) for leaf, times in state if "array" in leaf.costs]
        if arrays:
            yield self._state([(*item, times) for leaf, times in arrays for item in _items(leaf)])
        objects = [(leaf, times) for leaf, times in state if "object" in leaf.costs]
        for name in dict.fromkeys(name for leaf, _ in objects for name in (*leaf.properties, None)):
            having = [(leaf, times) for leaf, times in objects if name in leaf.properties or leaf.is_open]
            for together in self._confused(having, name):
                yield self._state([(*value, times) for leaf, times in together for value in _values(leaf, name)])

    def _confused(self, having: list[tuple[_Leaf, int]], name: str | None) -> Iterator[list[tuple[_Leaf, int]]]:
        """The objects that may be read alike up to a property, in groups. The first constants tell most apart."""
        if len(having) < 2:
            yield having
            return
        self._step(sum(len(leaf.properties) for leaf, _ in having))
        tags = [leaf.tag(name) for leaf, _ in having]
        if None in tags or len({key for key, _ in filter(None, tags)}) > 1:
            tags = [None] * len(having)
        groups: defaultdict[object, list[tuple[_Leaf, int]]] = defaultdict(list)
        for tag, each in zip(tags, having, strict=True):
            groups[tag].append(each)
        for group in groups.values():
            first = group[0][0].before(name)
            if all(leaf.before(name) == first for leaf, _ in group):
                yield group
                continue
            self._step(len(group) ** 2)
            confused = ([(leaf, times) for leaf, times in group if not _apart(at, leaf, name)] for at, _ in group)
            yield from {tuple(id(leaf) for leaf, _ in each): each for each in confused}.values()

    def _alternatives(self, schema: Any, param: str) -> list[_Leaf]:
        """The schema without its alternatives, which are followed through references."""
        if not isinstance(schema, dict):
            return []
        if id(schema) not in self._leaves:
            leaves: list[_Leaf] = []
            self._collect(schema, param, leaves, frozenset())
            self._leaves[id(schema)] = leaves
        return self._leaves[id(schema)]

    def _collect(self, schema: Any, param: str, leaves: list[_Leaf], entered: frozenset[int]) -> None:
        """Recursion ends: a schema is never entered twice on one way, and each way is no longer than its levels."""
        self._step()
        if not isinstance(schema, dict):
            return
        if id(schema) in entered:
            raise self._refuse(param, "it refers only to itself")
        entered = self._enter(schema, param, entered)
        if (target := self._target(schema)) is not None:
            self._collect(*target, leaves, entered)
        for key, value in schema.items():
            if key in _BRANCHES:
                for n, branch in enumerate(_list(value)):
                    self._collect(branch, f"{param}.{key}[{n}]", leaves, entered)
            elif key in _ALONGSIDE:
                self._collect(value, f"{param}.{key}", leaves, entered)
        if kinds := _kinds(schema):
            if id(schema) not in self._leaf:
                self._leaf[id(schema)] = _Leaf(schema, param, kinds)
            leaves.append(self._leaf[id(schema)])

    def _target(self, schema: Mapping[str, Any]) -> tuple[Any, str] | None:
        """What a schema refers to, if that is a place in this one, and its name."""
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        found: Any = self._root
        path = [step.replace("~1", "/").replace("~0", "~") for step in reference[1:].split("/")[1:]]
        for step in path:
            if isinstance(found, list) and step.isdecimal() and int(step[:9]) < len(found):
                found = found[int(step[:9])]
            elif isinstance(found, dict) and step in found:
                found = found[step]
            else:
                return None
        return found, ".".join([self._param, *path])

    # Size

    def _size(self, schema: Any, param: str, entered: frozenset[int]) -> int:
        """How many elements it has when its counts are written out. What recurs counts once."""
        self._step()
        if not isinstance(schema, dict) or id(schema) in entered:
            return 1
        if id(schema) in self._written:
            return self._written[id(schema)]
        entered = self._enter(schema, param, entered)
        if isinstance(pattern := schema.get("pattern"), str):
            self._check_patterns([pattern], f"{param}.pattern")
        for key in _COUNTED:
            if isinstance(count := schema.get(key), int | float) and count > WRITTEN:
                raise self._refuse(f"{param}.{key}", f"it is more than {WRITTEN:,}")
        target = self._target(schema)
        inner = [] if target is None else [self._size(*target, entered)]
        for key, value in schema.items():
            if key in _DATA:
                continue
            if isinstance(value, list):
                inner += [self._size(one, f"{param}.{key}[{n}]", entered) for n, one in enumerate(value)]
            elif isinstance(value, dict) and key in _MAPS:
                inner += [self._size(one, f"{param}.{key}.{name}", entered) for name, one in value.items()]
                if key == "patternProperties":
                    self._check_patterns(value, f"{param}.{key}")
            elif isinstance(value, dict):
                inner.append(self._size(value, f"{param}.{key}", entered))
        counts = [count for key in ("minItems", "maxItems") if isinstance(count := schema.get(key), int)]
        size: int = 1 + sum(inner) * max(1, *counts, 1)
        if size > WRITTEN:
            key = next((f".{key}" for key in ("maxItems", "minItems") if key in schema), "")
            raise self._refuse(f"{param}{key}", f"it has more than {WRITTEN:,} elements once its counts are expanded")
        self._written[id(schema)] = size
        return size

    def _check_patterns(self, patterns: Iterable[str], param: str) -> None:
        for pattern in patterns:
            self._step(4 * len(pattern))
            if (why := pattern_fault(pattern)) is not None:
                raise self._refuse(param, why)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _kinds(schema: Mapping[str, Any]) -> frozenset[str]:
    """The types of JSON that the schema itself describes, its alternatives aside."""
    values = [schema["const"]] if "const" in schema else _list(schema.get("enum"))
    if values:
        return frozenset(_KINDS[type(value)] for value in values)
    types = schema.get("type")
    named = [types] if isinstance(types, str) else [one for one in _list(types) if isinstance(one, str)]
    if named:
        return frozenset("number" if one == "integer" else one for one in named)
    return frozenset(kind for kind, keys in _IMPLIED.items() if any(key in schema for key in keys))


def _items(leaf: _Leaf) -> Iterator[tuple[Any, str]]:
    """The schemas of an array's items."""
    yield leaf.schema.get("items"), f"{leaf.param}.items"
    for key in ("items", "prefixItems"):
        for n, one in enumerate(_list(leaf.schema.get(key))):
            yield one, f"{leaf.param}.{key}[{n}]"


def _apart(one: _Leaf, other: _Leaf, name: str | None) -> bool:
    """Whether what must stand before this property tells two objects apart."""
    if one is other:
        return False
    mine, theirs = one.before(name), other.before(name)
    if not (one.is_open or theirs.keys() <= one.properties.keys()):
        return True
    if not (other.is_open or mine.keys() <= other.properties.keys()):
        return True
    return any(mine[key] and theirs[key] and not mine[key] & theirs[key] for key in mine.keys() & theirs)


def _values(leaf: _Leaf, name: str | None) -> Iterator[tuple[Any, str]]:
    """The schemas of an object's property of this name."""
    if name is not None and name in leaf.properties:
        yield leaf.properties[name], f"{leaf.param}.properties.{name}"
        return
    yield leaf.schema.get("additionalProperties"), f"{leaf.param}.additionalProperties"
    patterns = leaf.schema.get("patternProperties")
    for pattern, one in patterns.items() if isinstance(patterns, dict) else ():
        yield one, f"{leaf.param}.patternProperties.{pattern}"


def _constants(schema: Any) -> frozenset[Any]:
    """The values that a schema allows, empty when it does not list them."""
    if not isinstance(schema, dict):
        return frozenset()
    values = [schema["const"]] if "const" in schema else _list(schema.get("enum"))
    return frozenset(value for value in values if isinstance(value, str | int | float | bool | None))
