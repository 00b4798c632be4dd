"""JSON Schema to GBNF, the grammar language of llama.cpp: the JSON texts that fit a schema, and no others.

Why our own. The engine's package has a function of that name, but in its build it hands the schema to another grammar
library unread, whose errors are logged and then ignored: an unsupported schema constrains nothing, and says so to
nobody. GBNF that cannot be read is refused. And only text can be framed: what a gpt-oss model writes around its JSON
must be in the same grammar (see `harmony.prompt`).

Covered is what OpenAI's strict mode allows: objects, arrays, strings, numbers, booleans, null, `enum`, `const`,
`anyOf`, `$ref` inside the schema (recursive ones, too), bounds on lengths and integers, patterns that GBNF can say, and
the formats that a few characters describe. What GBNF cannot express raises Unsupported when the client asked for
strictness. When it did not, it is dropped, and the grammar names it (`Grammar.dropped`): the JSON is then of the right
shape, and its finer rules are only in the prompt. Property order is the schema's. One rule per schema, so a schema
grows the grammar in proportion to its size; `bounds` limits that size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from standpipe.chat.errors import Unsupported
from standpipe.dialects.gbnf import Grammar, integers, literal
from standpipe.dialects.pattern import pattern_rule

_MOST_RULES: Final = 4000
_MOST_REPEATS: Final = 256
"""The engine writes a bounded repetition out; this is what it does in a millisecond."""
_ANNOTATIONS: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$schema", "$id", "$comment",
     "$defs", "definitions", "type", "strict"}
)  # fmt: skip

_DATE: Final = r'[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])'
_TIME: Final = (
    r'([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? '
    r'("Z" | [-+] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])'
)
_FORMATS: Final[Mapping[str, str]] = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f'{_DATE} "T" {_TIME}',
    "uuid": '[0-9a-f]{8} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{12}',
    "ipv4": ' "." '.join([r'("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9]? [0-9])'] * 4),
}
_NO_FIELDS: Final[Mapping[str, str]] = MappingProxyType({})
_PLAIN: Final = re.compile(r"[\w.$\[\]-]{1,100}", re.ASCII)
"""Places that can be named in a header."""
_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")


def add_schema(
    grammar: Grammar, schema: Mapping[str, Any], param: str, *, strict: bool, fields: Mapping[str, str] = _NO_FIELDS
) -> str:
    """The name of a rule for the JSON texts that fit this schema. `param` is the field that it stands in; what stands
    at some places within may come from other `fields`.

    Raises Unsupported, naming the place in the schema.
    """
    name = _SchemaReader(grammar, schema, param, strict=strict, fields=fields).rule(schema, param)
    if len(grammar) > _MOST_RULES:
        raise Unsupported(f"`{param}` is too complex to enforce.", param=param)
    return name


class _SchemaReader:
    """One schema on its way into a grammar. Refuses or drops what it cannot express."""

    def __init__(
        self, grammar: Grammar, root: Mapping[str, Any], param: str, *, strict: bool, fields: Mapping[str, str]
    ) -> None:
        self._grammar = grammar
        self._root = root
        self._param = param
        self._strict = strict
        self._fields = {f"{param}.{place}": field for place, field in fields.items()}
        self._references: dict[str, str] = {}
        self._entering: set[str] = set()
        """References that were followed since the last character of JSON: meeting one again would never end."""

    def rule(self, schema: Any, param: str) -> str:
        """The name of the rule for a schema that stands at `param`."""
        param = self._fields.get(param, param)
        if schema is True or schema == {}:
            return self._grammar.use("value")
        if not isinstance(schema, dict):
            raise self._unsupported("a schema must be an object", param)
        if "$ref" in schema:
            self._check_keys(schema, ("$ref",), param)
            return self._reference(schema["$ref"], f"{param}.$ref")
        if "enum" in schema or "const" in schema:
            return self._constants(schema, param)
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema and (found := self._combined(key, schema, param)):
                return found
        types = schema.get("type") or _implied(schema)
        if isinstance(types, str):
            return self._typed(types, schema, param)
        if isinstance(types, list) and types:
            return self._grammar.add(" | ".join(self._typed(one, schema, param) for one in types))
        self._check_keys(schema, (), param)
        return self._grammar.use("value")

    def _unsupported(self, what: str, param: str) -> Unsupported:
        return Unsupported(f"`{param}` cannot be enforced: {what}.", param=param)

    def _drop(self, why: str, param: str) -> None:
        """Do without what stands at `param`. Raises Unsupported where the client asked for strictness."""
        if self._strict:
            raise self._unsupported(why, param)
        self._grammar.drop(param if _PLAIN.fullmatch(param) else self._param)

    def _check_keys(self, schema: Mapping[str, Any], known: Sequence[str], param: str) -> None:
        """Every keyword must be one that is enforced, or one that only describes."""
        for key in schema:
            if key not in _ANNOTATIONS and key not in known:
                self._drop(f"`{key}` is not supported here", f"{param}.{key}")

    def _reference(self, reference: Any, param: str) -> str:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise self._unsupported("only references within the schema are supported", param)
        if reference in self._entering:
            raise self._unsupported("it refers only to itself", param)
        if reference in self._references:
            return self._references[reference]
        target: Any = self._root
        place = self._param
        for step in reference.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, dict) or key not in target:
                raise self._unsupported("it leads to nothing in this schema", param)
            target = target[key]
            place = self._fields.get(f"{place}.{step}", f"{place}.{step}")
        name = self._references[reference] = self._grammar.reserve()
        self._entering.add(reference)
        self._grammar.define(name, self.rule(target, place))
        self._entering.discard(reference)
        return name

    def _inside(self, schema: Any, param: str) -> str:
        """A schema behind at least one character of JSON: there, a reference may come round again."""
        entering, self._entering = self._entering, set()
        name = self.rule(schema, param)
        self._entering = entering
        return name

    def _constants(self, schema: Mapping[str, Any], param: str) -> str:
        self._check_keys(schema, ("enum", "const"), param)
        values = [schema["const"]] if "const" in schema else schema["enum"]
        if not isinstance(values, list) or not values:
            raise self._unsupported("it must be a list of values", f"{param}.enum")
        return self._grammar.add(" | ".join(dict.fromkeys(map(_json_literal, values))))

    def _combined(self, key: str, schema: Mapping[str, Any], param: str) -> str | None:
        """`anyOf`; and, where strictness was not asked for, what else comes down to one of several. None for what does
        not: then the rest of the schema stands without it."""
        branches = schema[key]
        if not self._strict and key == "allOf" and isinstance(branches, list) and len(branches) > 1:
            return None
        self._check_keys(schema, ("anyOf",) if self._strict else (key,), param)
        if not isinstance(branches, list) or not branches:
            raise self._unsupported("it must be a list of schemas", f"{param}.{key}")
        if key == "allOf":
            return self.rule(branches[0], f"{param}.allOf[0]")
        return self._grammar.add(" | ".join(self.rule(b, f"{param}.{key}[{n}]") for n, b in enumerate(branches)))

    def _typed(self, kind: Any, schema: Mapping[str, Any], param: str) -> str:
        match kind:
            case "object":
                return self._object(schema, param)
            case "array":
                return self._array(schema, param)
            case "string":
                return self._string(schema, param)
            case "integer" | "number":
                return self._number(kind, schema, param)
            case "boolean" | "null":
                self._check_keys(schema, _OF_TYPES, param)
                return self._grammar.use(kind)
        raise self._unsupported(f"the types are {', '.join(_TYPES)}", f"{param}.type")

    def _string(self, schema: Mapping[str, Any], param: str) -> str:
        self._check_keys(schema, ("pattern", "format", *_LENGTHS, *_OTHER_TYPES["string"]), param)
        if "pattern" in schema and (rule := self._pattern(schema["pattern"], param)):
            self._alone("pattern", ("format", *_LENGTHS), schema, param)
            return self._grammar.add(rf'"\"" {rule} "\""')
        form = schema.get("format")
        if isinstance(form, str) and form in _FORMATS:
            self._alone("format", _LENGTHS, schema, param)
            return self._grammar.add(rf'"\"" {_FORMATS[form]} "\""')
        if form is not None:
            self._drop(f"the formats are {', '.join(_FORMATS)}", f"{param}.format")
        times = self._times(schema, *_LENGTHS, param)
        if times is None:
            return self._grammar.use("string")
        return self._grammar.add(rf'"\"" {self._grammar.use("plain")}{times} "\""')

    def _pattern(self, pattern: Any, param: str) -> str | None:
        """The rule of a pattern; None for one that is dropped."""
        rule = pattern_rule(pattern) if isinstance(pattern, str) else None
        if rule is None and pattern is not None:
            self._drop("it is more than the engine's grammar can say", f"{param}.pattern")
        return rule

    def _alone(self, key: str, others: Sequence[str], schema: Mapping[str, Any], param: str) -> None:
        """Where one keyword says all that there is to say about a string, others are dropped."""
        for other in others:
            if schema.get(other) is not None:
                self._drop(f"it cannot be combined with `{key}`", f"{param}.{other}")

    def _times(self, schema: Mapping[str, Any], least: str, most: str, param: str) -> str | None:
        """`{m,n}` for these two bounds; None without any. One too large to write out is dropped."""
        low, high = (self._bound(schema.get(key), f"{param}.{key}") for key in (least, most))
        if high is not None and high < (low or 0):
            raise self._unsupported(f"it is less than `{least}`", f"{param}.{most}")
        return None if not low and high is None else f"{{{low or 0},{'' if high is None else high}}}"

    def _bound(self, bound: Any, param: str) -> int | None:
        if bound is not None and (type(bound) is not int or not 0 <= bound <= _MOST_REPEATS):
            self._drop(f"it must be 0 to {_MOST_REPEATS}", param)
            return None
        return bound

    def _number(self, kind: str, schema: Mapping[str, Any], param: str) -> str:
        keys = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        self._check_keys(schema, (*keys, *_OTHER_TYPES["number"]), param)
        bounds = {key: schema[key] for key in keys if schema.get(key) is not None}
        if not bounds:
            return self._grammar.use(kind)
        whole = all(type(bound) is int and abs(bound) < 10**15 for bound in bounds.values())
        if kind == "integer" and whole:
            low = max((bounds[k] + (k != "minimum") for k in keys[::2] if k in bounds), default=None)
            high = min((bounds[k] - (k != "maximum") for k in keys[1::2] if k in bounds), default=None)
            if low is not None and high is not None and high < low:
                raise self._unsupported("no integer is within these bounds", param)
            return self._grammar.add(integers(low, high))
        for key in bounds:
            self._drop("bounds are supported only for integers", f"{param}.{key}")
        return self._grammar.use(kind)

    def _array(self, schema: Mapping[str, Any], param: str) -> str:
        self._check_keys(schema, ("items", "minItems", "maxItems", *_OTHER_TYPES["array"]), param)
        item = self._inside(schema.get("items", True), f"{param}.items")
        space = self._grammar.use("space")
        times = self._times(schema, "minItems", "maxItems", param)
        low, high = (times or "{0,}").strip("{}").split(",")
        if high == "0":
            return self._grammar.add(f'"[" {space} "]"')
        more = f"{{{max(int(low) - 1, 0)},{int(high) - 1 if high else ''}}}"
        items = f'{item} {space} ("," {space} {item} {space}){more}'
        return self._grammar.add(f'"[" {space} {items if int(low) else f"({items})?"} "]"')

    def _object(self, schema: Mapping[str, Any], param: str) -> str:
        self._check_keys(schema, ("properties", "required", "additionalProperties", *_OTHER_TYPES["object"]), param)
        properties = schema.get("properties") or {}
        extra = schema.get("additionalProperties", not properties)
        if not isinstance(properties, dict):
            raise self._unsupported("it must be an object", f"{param}.properties")
        required = schema.get("required") or []
        if not isinstance(required, list):
            self._drop("it must be a list of names", f"{param}.required")
            required = []  # once, a property said so of itself
        if unknown := [key for key in required if not isinstance(key, str) or key not in properties]:
            self._drop(f"`{unknown[0]}` is not in `properties`", f"{param}.required")
        if not properties:
            return self._map(extra, param)
        if extra is not False and self._strict:
            raise self._unsupported("it must be false", f"{param}.additionalProperties")
        pairs = [
            (self._pair(key, value, f"{param}.properties.{key}"), key in required) for key, value in properties.items()
        ]
        space = self._grammar.use("space")
        return self._grammar.add(f'"{{" {space} {self._members(pairs)} "}}"')

    def _pair(self, key: str, schema: Any, param: str) -> str:
        space = self._grammar.use("space")
        name = _json_literal(key)
        return self._grammar.add(f'{name} {space} ":" {space} {self._inside(schema, param)} {space}')

    def _members(self, pairs: Sequence[tuple[str, bool]]) -> str:
        """The pairs in order, each optional one there or not, with commas between those that are."""
        space = self._grammar.use("space")
        rest = '""'
        rests = [rest]
        for pair, needed in reversed(pairs):
            with_pair = f'"," {space} {pair} {rest}'
            rest = self._grammar.add(with_pair if needed else f"({with_pair}) | {rest}")
            rests.append(rest)
        firsts = []
        for (pair, needed), after in zip(pairs, rests[-2::-1], strict=True):
            firsts.append(f"{pair} {after}")
            if needed:
                return f"({' | '.join(firsts)})"
        return f"({' | '.join(firsts)})?"

    def _map(self, extra: Any, param: str) -> str:
        """An object without properties of its own: none, any, or all of one schema."""
        space = self._grammar.use("space")
        if extra is False:
            return self._grammar.add(f'"{{" {space} "}}"')
        if extra is True or extra == {}:
            if self._strict:
                raise self._unsupported("it must be false", f"{param}.additionalProperties")
            return self._grammar.use("object")
        value = self._inside(extra, f"{param}.additionalProperties")
        pair = self._grammar.add(f'{self._grammar.use("string")} {space} ":" {space} {value} {space}')
        return self._grammar.add(f'"{{" {space} ({pair} ("," {space} {pair})*)? "}}"')


def _json_literal(value: Any) -> str:
    """A JSON value as it must be written: without a control token, for which JSON has an escape."""
    return literal(json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<|", "\\u003c|"))


_LENGTHS: Final = ("minLength", "maxLength")
_OTHER: Final = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "minItems", "maxItems"),
    "string": ("pattern", "format", *_LENGTHS),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}
_OTHER_TYPES: Final = {
    kind: tuple(key for other, keys in _OTHER.items() if other != kind for key in keys) for kind in _OTHER
}
"""With several types in one schema, the keywords of the others say nothing about this one."""
_OF_TYPES: Final = tuple(key for keys in _OTHER.values() for key in keys)


def _implied(schema: Mapping[str, Any]) -> str | None:
    """The type of a schema that names none, by the keywords it has."""
    return next((kind for kind, keys in _OTHER.items() if any(key in schema for key in keys)), None)
