from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.chat.errors import Unsupported
from standpipe.dialects.bounds import check_schemas
from standpipe.dialects.openai.request import COMPLETIONS
from standpipe.dialects.pattern import OPTIONAL_RUN, pattern_fault
from standpipe.dialects.schema_cost import check_cost

STRING = {"type": "string"}
SELF = {"$ref": "#/$defs/a"}


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def array(items: Any, **counts: int) -> dict[str, Any]:
    return {"type": "array", "items": items, **counts}


def defined(a: Any, **others: Any) -> dict[str, Any]:
    return {"$defs": {"a": a, **others}, **SELF}


def pattern(text: str) -> dict[str, Any]:
    return {"type": "string", "pattern": text}


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "arrays of arrays, counted in eight ways": (
        defined({"anyOf": [array(SELF, minItems=k, maxItems=k) for k in range(1, 9)]}),
        "$defs.a.anyOf[",
    ),
    "arrays of arrays in two ways": (defined({"anyOf": [array(SELF), array(SELF, minItems=1)]}), "$defs.a.anyOf["),
    "the same by way of oneOf and allOf": (
        defined({"oneOf": [{"allOf": [array(SELF)]}, {"allOf": [array(SELF, minItems=1)]}]}),
        "$defs.a.oneOf[",
    ),
    "objects whose tag comes too late": (
        defined({"anyOf": [STRING, *(obj(inner=SELF, tag={"const": n}) for n in "ab")]}),
        "$defs.a.anyOf[",
    ),
    "objects that are not told apart by optional tags": (
        defined({"anyOf": [{**obj(tag={"const": n}, inner=SELF), "required": ["inner"]} for n in "ab"]}),
        "$defs.a.anyOf[",
    ),
    "open objects": (
        defined(
            {"anyOf": [{"type": "object", "additionalProperties": SELF}, {**obj(x=SELF), "additionalProperties": SELF}]}
        ),
        "$defs.a.anyOf[",
    ),
    "two definitions in turn": (
        defined(
            {"anyOf": [array({"$ref": "#/$defs/b"}), array(SELF)]},
            b={"anyOf": [array(SELF), array({"$ref": "#/$defs/b"})]},
        ),
        "$defs.",
    ),
    "doubling, without recursion": (
        {
            "$defs": {
                f"a{n}": {"anyOf": [array({"$ref": f"#/$defs/a{n + 1}"}), array({"$ref": f"#/$defs/a{n + 1}"})]}
                for n in range(10)
            }
            | {"a10": STRING},
            "$ref": "#/$defs/a0",
        },
        "$defs.a",
    ),
    "more strings than can be told apart": (
        {"anyOf": [{**STRING, "minLength": n, "maxLength": 200} for n in range(150)]},
        "anyOf[",
    ),
    "a reference to itself and nothing else": (defined({"anyOf": [SELF, STRING]}), "$defs.a"),
    "a long chain of references": (
        {"$defs": {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(300)}, "$ref": "#/$defs/a0"},
        "$defs.a",
    ),
    "counts that multiply": (
        array(array(array(STRING, maxItems=256), maxItems=256), maxItems=256),
        "maxItems",
    ),
    "more ranges than can be told apart": (
        {"anyOf": [{"type": "integer", "minimum": n, "maximum": 10**15 + n} for n in range(120)]},
        "anyOf[",
    ),
    "a count without end": (array(STRING, minItems=10**9), "minItems"),
    "a length without end": (obj(x={**STRING, "maxLength": 10**12}), "properties.x.maxLength"),
    "a hundred pluses": (pattern("^a" + "+" * 100), "pattern"),
    "counts of counts": (obj(x=pattern("^((a{1,99}){1,99}){1,99}$")), "properties.x.pattern"),
    "what may be empty, repeated": (pattern("^(x?){200}x{200}$"), "pattern"),
    "stars of stars": (pattern("^(.*)*(.*)*(.*)*x$"), "pattern"),
    "many that may be missing": (pattern("^" + "x?" * 200 + "$"), "pattern"),
    "groups in groups": (pattern("(" * 50 + "a" + ")" * 50), "pattern"),
    "a pattern in a list of items": ({"type": "array", "items": [pattern("^(a*)*$")]}, "items[0].pattern"),
    "a pattern for names": ({"type": "object", "patternProperties": {"^(a*)*$": STRING}}, "patternProperties"),
    "back references": (pattern(r"^(a+)\1$"), "pattern"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_bounded_is_refused_by_the_name_of_its_keyword(name: str) -> None:
    schema, place = HOSTILE[name]
    with pytest.raises(Unsupported) as refused:
        check_cost(schema, "format.schema")
    assert refused.value.param is not None
    assert refused.value.param.startswith(f"format.schema.{place}")
    assert f"`{refused.value.param}`" in refused.value.message


EDGE: dict[str, dict[str, Any]] = {
    "two ways with every letter": pattern("^(a|aa){500}$"),
    "late decisions": pattern("^(a|b)*a(a|b){200}$"),
    "as many that may be missing as are allowed": pattern("^(" + "x?" * (OPTIONAL_RUN - 1) + "y)*$"),
    "any letters that may be missing": pattern("^(" + ".?" * (OPTIONAL_RUN - 1) + "x)*$"),
    "many words": pattern("^(" + "|".join("abc" * (n % 3) + str(n) for n in range(250)) + ")$"),
    "many patterns": obj(**{f"p{n}": pattern(f"^(a|b)*a(a|b){{20}}{n}$") for n in range(40)}),
    "long values that begin alike": {"enum": ["a" * 100 + str(n) for n in range(256)]},
    "nothing but optional properties": {"type": "object", "properties": {f"p{n}": STRING for n in range(400)}},
    "strings of many lengths": {"anyOf": [{**STRING, "minLength": n, "maxLength": 200} for n in range(100)]},
    "wide ranges": {"anyOf": [{"type": "integer", "minimum": n, "maximum": 10**15 + n} for n in range(10)]},
    "no end": defined(array(SELF, minItems=8)),
}
"""What is just allowed. An engine must bear it."""
KIND: dict[str, dict[str, Any]] = {
    "trees": {
        "type": "object",
        "properties": {"label": STRING, "children": array({"$ref": "#"})},
        "required": ["label", "children"],
        "additionalProperties": False,
    },
    "lists": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
    "any JSON": defined(
        {
            "anyOf": [
                STRING,
                {"type": ["number", "boolean", "null"]},
                array(SELF),
                {"type": "object", "additionalProperties": SELF},
            ]
        }
    ),
    "tagged unions": defined(
        {
            "anyOf": [obj(op={"const": f"op{n}"}, left=SELF, right=SELF) for n in range(30)]
            + [obj(op={"const": "n"}, n=STRING)]
        }
    ),
    "unions told apart by their properties": defined({"anyOf": [obj(**{f"x{n}": SELF}) for n in range(30)] + [STRING]}),
    "strings, or lists of them": defined({"anyOf": [STRING, array(STRING), array(SELF)]}),
    "optional everything": {
        "type": "object",
        "properties": {f"p{n}": {"anyOf": [STRING, {"type": "null"}]} for n in range(100)},
    },
    "a large enum": {"enum": [f"value {n}" for n in range(256)]},
    "a table": array(array(STRING, maxItems=100), maxItems=1000),
    "alternatives of requirement": {
        **obj(a=STRING, b=STRING),
        "required": [],
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    },
    "a long text": {**STRING, "maxLength": 100_000},
}


@pytest.mark.parametrize("name", [*KIND, *EDGE])
def test_what_people_write_passes(name: str) -> None:
    check_schemas({"s": (KIND | EDGE)[name]})


@pytest.mark.parametrize(
    "text",
    [
        "", "abc", r"^\d{4}-\d{2}-\d{2}$", r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$", r"^\+[1-9]\d{1,14}$", r"^\p{L}[\w.-]+$",
        r"^(?:[0-9a-zA-Z+/]{4})*(?:(?:[0-9a-zA-Z+/]{2}==)|(?:[0-9a-zA-Z+/]{3}=))?$", "^.{1,2000}$", "a{1,2",
        "[]", "[^]]", "^(a+)+?$",
        r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$",
        r"^P(?!$)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?$", r"(?<year>\d{4})", "\\u{1F600}|\\x41|\\cA",
        "x?" * OPTIONAL_RUN, "^" + "(a(b)?(c)?(d)?e)?" * 10 + "$",
    ],
)  # fmt: skip
def test_patterns_that_people_write_pass(text: str) -> None:
    assert pattern_fault(text) is None


@pytest.mark.parametrize(
    "text", ["*", "a**", "a++", "(a", "a)", "[a", "\\", "(?P<x>a)", r"(?<x>a)\k<x>", "x?" * (OPTIONAL_RUN + 1)]
)
def test_patterns_that_are_none_or_cost_too_much_say_why(text: str) -> None:
    assert pattern_fault(text)


@given(st.text("ab?*+{}(),1|[]^$\\.-:=!<>", max_size=60))
def test_every_pattern_gets_an_answer(text: str) -> None:
    why = pattern_fault(text)
    assert why is None or why


SCHEMAS = st.recursive(
    st.sampled_from(
        [{"$ref": "#"}, {"$ref": "#/$defs/a"}, {"$ref": "#/nowhere"}, STRING, {"enum": [1, "a", [], {}]}, True, {}, 3]
    ),
    lambda inner: (
        st.dictionaries(
            st.sampled_from(
                [
                    "anyOf",
                    "allOf",
                    "items",
                    "prefixItems",
                    "additionalProperties",
                    "not",
                    "if",
                    "maxItems",
                    "required",
                    "type",
                ]
            ),
            inner | st.lists(inner, max_size=4),
            max_size=4,
        )
        | st.builds(lambda a, b: {"properties": {"x": a, "y": b}, "$defs": {"a": b}, "required": ["x"]}, inner, inner)
    ),
    max_leaves=20,
)


@given(SCHEMAS)
def test_every_schema_passes_or_is_refused_by_name(schema: Any) -> None:
    param = "s"
    try:
        check_cost(schema if isinstance(schema, dict) else {"items": schema}, "s")
    except Unsupported as refused:
        param = refused.param or ""
    assert param.startswith("s")


@pytest.mark.parametrize("name", ["arrays of arrays, counted in eight ways", "a hundred pluses"])
def test_a_request_is_told_which_of_its_schemas_it_is(name: str) -> None:
    schema, place = HOSTILE[name]
    user = {"messages": [{"role": "user", "content": "x"}]}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    for request, param in (
        ({**user, "response_format": form}, "response_format."),
        ({**user, "tools": [tool], "tool_choice": "required"}, "tools[0].function.parameters."),
    ):
        with pytest.raises(Unsupported) as refused:
            COMPLETIONS.parse(json.dumps(request).encode())
        assert refused.value.param is not None
        assert refused.value.param.startswith(param)
        assert place in refused.value.param


def test_all_schemas_of_a_request_are_looked_at() -> None:
    with pytest.raises(Unsupported, match=r"tools\[1\]"):
        check_schemas({"tools[0]": {"type": "object"}, "tools[1]": HOSTILE["a hundred pluses"][0]})
