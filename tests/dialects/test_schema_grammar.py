from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.chat.errors import Unsupported
from standpipe.dialects.gbnf import Grammar, integers, literal
from standpipe.dialects.pattern import pattern_rule
from standpipe.dialects.reading import DROPPED
from standpipe.dialects.schema_grammar import add_schema
from tests.dialects.gbnf_match import matches, parse


def grammar(schema: Any, *, strict: bool = False) -> str:
    rules = Grammar()
    return rules.text(add_schema(rules, schema, "schema", strict=strict))


def fits(schema: Any, value: Any, *, strict: bool = False, raw: bool = False) -> bool:
    return matches(grammar(schema, strict=strict), value if raw else json.dumps(value, ensure_ascii=False))


def obj(required: Any = None, **properties: Any) -> dict[str, Any]:
    needed = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


STRING, INTEGER = {"type": "string"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (STRING, ["", 'é🙂\n"\\/', "a < b", "<", "<<b", "x<"], [3, None, ["a"]]),
        (INTEGER, [0, -7, 123], [1.5, "3", True]),
        ({"type": "number"}, [0, -1.25, 1e9], ["1"]),
        ({"type": ["boolean", "null"]}, [True, False, None], [0, "null"]),
        ({"enum": ["a", 3, None, {"k": [1]}]}, ["a", 3, None], ["b", 4]),
        ({"const": 'é"\\\n'}, ['é"\\\n'], ["é"]),
        ({"anyOf": [STRING, INTEGER]}, ["x", 3], [None, 1.5]),
        ({"type": "array", "items": INTEGER}, [[], [1], [1, 2, 3]], [["a"], 3]),
        ({"type": "array", "items": INTEGER, "minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3]]),
        ({"type": "array", "items": INTEGER, "maxItems": 0}, [[]], [[1]]),
        ({"type": "array", "items": INTEGER, "minItems": 2}, [[1, 2], [1, 2, 3]], [[1]]),
        (obj(a=STRING, b=INTEGER), [{"a": "x", "b": 1}], [{"a": "x"}, {"b": 1, "a": "x"}, {"a": "", "b": 1, "c": 2}]),
        (obj(["b"], a=STRING, b=INTEGER, c=INTEGER), [{"b": 1}, {"a": "", "b": 1}, {"b": 1, "c": 2}], [{"a": ""}, {}]),
        (obj([], a=STRING, b=INTEGER), [{}, {"a": ""}, {"b": 1}, {"a": "", "b": 1}], [{"b": 1, "a": ""}]),
        ({"type": "object"}, [{}, {"any": [1, {"x": None}]}], [[], "x"]),
        ({"type": "object", "additionalProperties": INTEGER}, [{}, {"a": 1, "b": 2}], [{"a": "x"}]),
        ({"type": "object", "properties": {}, "additionalProperties": False}, [{}], [{"a": 1}]),
        ({"properties": {"a": STRING}}, [{}, {"a": "x"}], [{"b": 1}]),
        ({}, [{}, [], "x", 1, None], []),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "abc", "é\n"], ["a", "abcd"]),
        ({"type": "string", "format": "date"}, ["2026-02-28"], ["2026-13-01", "x"]),
        ({"type": "string", "format": "date-time"}, ["2026-02-28T23:59:59.5Z"], ["2026-02-28"]),
        ({"type": "string", "format": "ipv4"}, ["127.0.0.1", "255.255.255.255"], ["256.1.1.1", "1.2.3"]),
        ({"type": "string", "format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567"]),
        ({"type": "integer", "minimum": 3, "maximum": 140}, [3, 9, 10, 99, 140], [2, 141, -5]),
        ({"type": "integer", "exclusiveMinimum": 0}, [1, 10**14], [0, -1]),
    ],
)  # fmt: skip
def test_a_grammar_takes_what_fits_and_nothing_else(schema: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert fits(schema, value), value
    for value in bad:
        assert not fits(schema, value), value


TREE = {
    **obj(value=INTEGER, next={"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}),
    "$defs": {"tree": obj(value=INTEGER, children={"type": "array", "items": {"$ref": "#/$defs/tree"}})},
}


def test_a_schema_may_refer_to_itself() -> None:
    leaf = {"value": 1, "children": []}
    assert fits(TREE, {"value": 1, "next": {"value": 2, "children": [leaf, leaf]}}, strict=True)
    assert fits(TREE, {"value": 1, "next": None}, strict=True)
    assert not fits(TREE, {"value": 1, "next": {"value": 2}}, strict=True)
    root = obj(again={"anyOf": [{"$ref": "#"}, {"type": "null"}]})
    assert fits(root, {"again": {"again": None}}, strict=True)


def test_a_reference_that_never_comes_to_an_end_is_refused() -> None:
    for loop in ({"$ref": "#/$defs/a"}, {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]}):
        with pytest.raises(Unsupported):
            grammar({"$ref": "#/$defs/a", "$defs": {"a": loop}})


def test_no_string_can_hold_a_control_token() -> None:
    for text in ('"<|end|>"', '"a<<|"', '"<|"'):
        assert not fits(STRING, text, raw=True)
    assert fits(STRING, '"\\u003c|end|>"', raw=True)
    assert not fits({"type": "string", "maxLength": 9}, '"<|end|>"', raw=True)


@pytest.mark.parametrize(
    ("schema", "param"),
    [
        (obj(a={"type": "string", "pattern": "\\bx+"}), "schema.properties.a.pattern"),
        (obj(a={"type": "string", "format": "email"}), "schema.properties.a.format"),
        (obj(a={"type": "number", "minimum": 0.5}), "schema.properties.a.minimum"),
        (obj(a={"type": "integer", "multipleOf": 5}), "schema.properties.a.multipleOf"),
        (obj(a={"type": "array", "items": STRING, "uniqueItems": True}), "schema.properties.a.uniqueItems"),
        (obj(a={"type": "string", "maxLength": 100_000}), "schema.properties.a.maxLength"),
        ({**obj(a=STRING), "additionalProperties": True}, "schema.additionalProperties"),
        ({"oneOf": [STRING, INTEGER]}, "schema.oneOf"),
        ({"allOf": [STRING, INTEGER]}, "schema.allOf"),
        ({"not": STRING}, "schema.not"),
        ({"$ref": "#/$defs/none"}, "schema.$ref"),
        ({"type": "array", "items": [STRING]}, "schema.items"),
        ({"type": "text"}, "schema.type"),
        ({"$ref": "http://x/y"}, "schema.$ref"),
        ({"enum": "x"}, "schema.enum"),
        ({"anyOf": []}, "schema.anyOf"),
        ({"type": "object", "properties": ["a"]}, "schema.properties"),
        ({"type": "object"}, "schema.additionalProperties"),
        (obj(["b"], a=STRING), "schema.required"),
    ],
)
def test_what_cannot_be_enforced_is_named_where_strictness_was_asked_for(schema: Any, param: str) -> None:
    with pytest.raises(Unsupported) as refused:
        grammar(schema, strict=True)
    assert refused.value.param == param


BOTH = {"minLength": 1, "maxLength": 9}


@pytest.mark.parametrize(
    ("schema", "dropped"),
    [
        ({"type": "string", "pattern": "(?=x)x+", "format": "email"}, ["pattern", "format"]),
        ({"type": "string", "pattern": "^[a-z]+$", "format": "date", **BOTH}, ["format", "minLength", "maxLength"]),
        ({"type": "number", "minimum": 0.5, "multipleOf": 0.1}, ["multipleOf", "minimum"]),
        ({"oneOf": [STRING, INTEGER]}, []),
        ({"anyOf": [STRING, INTEGER], "not": {"const": "x"}}, ["not"]),
        ({"allOf": [STRING]}, []),
        ({"allOf": [STRING, {"minLength": 3}], "type": ["string", "null"]}, ["allOf"]),
        ({"type": "string", "minLength": 2, "maxLength": 100_000}, ["maxLength"]),
        ({"type": ["boolean", "string"], "pattern": "^[a-z]+$", "not": {}}, ["not"]),
        ({"$ref": "#/$defs/s", "minLength": 3, "$defs": {"s": STRING}}, ["minLength"]),
        ({"enum": ["anything"], "minLength": 3}, ["minLength"]),
        ({"type": "string", "title": "T", "description": "D", "default": "d", "examples": []}, []),
    ],
)
def test_without_strictness_the_shape_is_enforced_and_the_rest_is_named(schema: Any, dropped: list[str]) -> None:
    """What is named without strictness is refused with it."""
    rules = Grammar()
    text = rules.text(add_schema(rules, schema, "schema", strict=False))
    assert matches(text, "3.5" if schema.get("type") == "number" else '"anything"')
    assert rules.dropped == tuple(f"schema.{name}" for name in dropped)
    if dropped:
        with pytest.raises(Unsupported) as refused:
            grammar(schema, strict=True)
        assert refused.value.param in rules.dropped


def test_what_is_named_may_stand_in_a_header() -> None:
    properties: dict[str, Any] = {f"a{i}": {"not": {}} for i in range(99)}
    odd: dict[str, Any] = {name: {"not": {}} for name in ("a, b", "a\r\nx-evil: 1", "é", "x" * 200)}
    for wanted in (odd, odd | properties):
        rules = Grammar()
        add_schema(rules, {"properties": wanted}, "schema", strict=False)
        assert rules.dropped[0] == "schema"
        assert len(rules.dropped) <= DROPPED
        assert all(name.isascii() and name.isprintable() and "," not in name for name in rules.dropped)


def test_bounds_that_nothing_can_meet_are_refused_in_any_case() -> None:
    for schema in ({"type": "integer", "minimum": 5, "maximum": 4}, {"type": "string", "minLength": 5, "maxLength": 4}):
        with pytest.raises(Unsupported):
            grammar(schema)


def test_a_grammar_beyond_all_bounds_is_refused_by_name() -> None:
    with pytest.raises(Unsupported) as refused:
        grammar({"anyOf": [{"enum": [n]} for n in range(5000)]})
    assert refused.value.param == "schema"


def test_a_large_schema_makes_a_grammar_of_its_own_size() -> None:
    wide = obj(**{f"property_{n}": {"type": "string", "description": "x"} for n in range(128)})
    assert len(grammar(wide)) < 20_000
    shared = {**obj(**{f"p{n}": {"$ref": "#/$defs/big"} for n in range(100)}), "$defs": {"big": wide}}
    assert len(grammar(shared)) < 40_000


@given(st.integers(-2000, 2000), st.integers(-2000, 2000), st.integers(-2200, 2200))
@settings(max_examples=150, deadline=None)
def test_integers_between_bounds_are_exactly_those(one: int, other: int, value: int) -> None:
    low, high = sorted((one, other))
    assert matches(f"root ::= {integers(low, high)}", str(value)) == (low <= value <= high)


@given(st.text(max_size=20))
def test_any_text_can_be_a_literal(text: str) -> None:
    assert matches(f"root ::= {literal(text)}", text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**14), 10**14)
    | st.text(max_size=5).filter(lambda text: "<|" not in text and "\x7f" not in text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from([None, 2]))
@settings(max_examples=100, deadline=None)
def test_any_json_fits_the_schema_of_anything(value: Any, indent: int | None) -> None:
    rules = Grammar()
    assert matches(rules.text(rules.use("value")), json.dumps(value, ensure_ascii=False, indent=indent))


PATTERNS = st.recursive(
    st.sampled_from(
        ["a", "b", ".", "[ab]", "[^a]", "\\d", "\\W", "\\s", "<", '"', "\\\\", "\\n", "\\x61", "[a-c\\d-]", "1"]
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["?", "*", "+", "{2}", "{1,}", "{0,2}", "+?"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        ),
    ),
    max_leaves=5,
)


@given(PATTERNS, st.sampled_from(["^{}$", "^{}", "{}$", "{}", "^{}$|^b$"]), st.text('ab1"\\<|\n\t é', max_size=5))
@settings(deadline=None)
def test_a_pattern_is_read_as_everybody_reads_it(inner: str, frame: str, text: str) -> None:
    pattern = frame.format(inner)
    rule = pattern_rule(pattern)
    if rule is not None:
        written = json.dumps(text, ensure_ascii=False).replace("<", "\\u003c")
        meant = re.search(pattern.replace("$", "\\Z").replace(".", "[^\n\r]"), text, re.ASCII) is not None
        assert matches(f'root ::= "\\"" {rule} "\\""\n', written) is meant


def test_a_pattern_that_no_grammar_can_say_is_left_out_or_refused() -> None:
    schema = {"type": "string", "pattern": "^(?=a)"}
    assert fits(schema, "b")
    for refused, key in ((schema, "pattern"), ({"type": "string", "pattern": "^a$", "maxLength": 3}, "maxLength")):
        with pytest.raises(Unsupported) as caught:
            grammar(refused, strict=True)
        assert caught.value.param == f"schema.{key}"
    assert fits({"type": "string", "pattern": "^a+$"}, "aa", strict=True)
    assert not fits({"type": "string", "pattern": "^a+$"}, "ab", strict=True)


KEYWORDS = [
    "type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems", "minLength", "maxLength",
    "minimum", "exclusiveMaximum", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "$defs", "pattern", "format",
]  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.sampled_from(["", "a", "#", "#/$defs/a", "^a$"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", *KEYWORDS]), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYWORDS), ANYTHING, max_size=5), st.booleans())
@settings(max_examples=500)
def test_whatever_stands_at_a_keyword_is_a_grammar_or_a_refusal(schema: dict[str, Any], strict: bool) -> None:
    with suppress(Unsupported):
        parse(grammar(schema, strict=strict))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": []},
        {"$ref": {}},
        {"properties": {"a": STRING}, "required": 5},
        {"properties": {"a": STRING}, "required": [[]]},
        {"type": "array", "maxItems": True},
        {"type": "string", "minLength": None, "maxLength": 5},
    ],
)
def test_a_keyword_with_a_value_of_a_wrong_type_is_no_bug(schema: dict[str, Any]) -> None:
    for strict in (False, True):
        with suppress(Unsupported):
            parse(grammar(schema, strict=strict))


def test_no_control_token_is_asked_for_and_the_value_is_the_same() -> None:
    schema = {
        "type": "object",
        "properties": {"<|end|>": {"enum": ["<|call|>", {"a": "<<|end|>"}]}},
        "required": ["<|end|>"],
    }
    text = grammar(schema)
    assert "<|" not in text
    written = '{"<|end|>":"<|call|>"}'.replace("<|", "\\u003c|")
    assert matches(text, written)
    assert json.loads(written) == {"<|end|>": "<|call|>"}


def test_all_of_json_is_gbnf() -> None:
    rules = Grammar()
    rules.use("value")
    assert {"value", "object", "array", "string", "escape", "space"} <= set(parse(rules.text("value")))
