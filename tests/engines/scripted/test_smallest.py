"""The smallest document of a schema: what it fits, and that a hostile schema stays cheap."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.engines.scripted.composition import SIZE, smallest


@pytest.mark.parametrize(
    ("schema", "document"),
    [
        (None, {}),
        ({"type": "object"}, {}),
        ({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}, "b": {}}}, {"a": 0}),
        ({"properties": {"a": {"type": "null"}}, "required": ["a"]}, {"a": None}),
        ({"type": "array", "items": {"type": "boolean"}}, []),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}, "minItems": 3}, [1, 2, 2]),
        ({"type": "string"}, "text"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "string", "minLength": 5}, "textx"),
        ({"type": "string", "format": "date"}, "2000-01-01"),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"type": "integer", "minimum": 7, "multipleOf": 5}, 10),
        ({"type": ["null", "integer"]}, 0),
        ({"type": "integer", "minimum": 10**400}, 0),
        ({"type": "number", "minimum": 1, "multipleOf": 5e-324}, 1),
        ({"type": "number", "minimum": 1, "multipleOf": 0.4}, pytest.approx(1.2)),
        ({"const": ""}, ""),
        ({"enum": ["x", "y"]}, "x"),
        ({"const": {"deep": [1]}}, {"deep": [1]}),
        ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, 0),
        (
            {
                "allOf": [
                    {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]},
                    {"properties": {"b": {"const": 2}}, "required": ["b"]},
                ]
            },
            {"a": 1, "b": 2},
        ),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"const": 5}}}, 5),
        ({"$ref": "#/nowhere"}, None),
    ],
)
def test_the_document_fits_its_schema(schema, document):
    assert smallest(schema) == document


def test_a_schema_that_points_at_itself_ends():
    twice = {"$ref": "#"}
    schema = {"type": "object", "properties": {"a": twice, "b": twice}, "required": ["a", "b"]}
    assert len(json.dumps(smallest(schema))) < 20 * SIZE


def test_arrays_in_arrays_stay_small():
    schema: dict[str, object] = {"type": "array", "minItems": 10**9}
    for _ in range(20):
        schema = {"type": "array", "minItems": 10**9, "items": schema}
    assert len(json.dumps(smallest(schema))) < 20 * SIZE


def test_a_reference_to_itself_alone_ends():
    assert smallest({"$ref": "#"}) is None


def test_a_large_constant_is_not_multiplied():
    schema = {"type": "array", "minItems": 1000, "items": {"const": "x" * 100}}
    assert len(json.dumps(smallest(schema))) < 20 * SIZE


words = st.sampled_from(
    ["type", "properties", "required", "items", "minItems", "enum", "anyOf", "allOf", "$ref", "minimum", "multipleOf"]
)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["object", "array", "#", "a"]),
    lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(words, deeper, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(words, anything, max_size=5))
def test_no_schema_whatever_its_shape_breaks_it(schema):
    json.dumps(smallest(schema))
