import pytest

from standpipe.chat.ask import JsonObject
from standpipe.chat.errors import InvalidAsk, TooLarge, Unsupported
from standpipe.dialects import bounds


def objects(levels: int) -> JsonObject:
    schema: JsonObject = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"type": "object", "properties": {"properties": schema}}
    return schema


def branches(levels: int) -> JsonObject:
    schema: JsonObject = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"anyOf": [schema]}
    return schema


FITTING: list[JsonObject] = [
    {},
    objects(24),
    branches(24),
    {"enum": ["x"] * 256},
    {"type": "object", "properties": {str(i): {"type": "string"} for i in range(400)}},
    {"$defs": {"a": {"type": "null"}}, "$ref": "#/$defs/a"},
    {"properties": {"$ref": {"type": "string"}, "$defs": {"type": "object"}}},
    {"additionalProperties": False, "maximum": 2**64 - 1, "minimum": -(2**63), "default": None},
]


@pytest.mark.parametrize("schema", FITTING)
def test_ordinary_schemas_pass(schema):
    bounds.check_schemas({"tools[0].function.parameters": schema})


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (objects(25), "more than 24 levels of nested schemas"),
        (branches(25), "more than 24 levels of nested schemas"),
        ({"enum": ["x"] * 257}, "more than 256 items"),
        ({"anyOf": [{}] * 257}, "more than 256 items"),
        ({str(i): [0] * 199 for i in range(20)}, "more than 4000 values"),
        ({"maximum": 2**64}, "more than 64 bits"),
        ({"items": {"$ref": "http://example.org/schema"}}, "not loaded"),
    ],
)
def test_a_schema_that_could_stall_an_engine_is_refused_and_named(schema, said):
    with pytest.raises((InvalidAsk, Unsupported), match=said) as caught:
        bounds.check_schemas({"a": {}, "response_format.json_schema.schema": schema})
    assert caught.value.param == "response_format.json_schema.schema"


def test_measuring_never_recurses():
    deep: JsonObject = {}
    for _ in range(100_000):
        deep = {"not": deep}
    with pytest.raises(InvalidAsk):
        bounds.check_schemas({"a": deep})
    while deep:  # or the interpreter would recurse when it lets go of it
        deep = deep.pop("not")


def test_all_schemas_together_have_a_size():
    half = {"description": "x" * (bounds.SCHEMA_BYTES // 2 - 20)}
    bounds.check_schemas({"tools[0]": half, "tools[1]": half})
    with pytest.raises(TooLarge) as caught:
        bounds.check_schemas({"tools[0]": half, "tools[1]": half, "tools[2]": half})
    assert caught.value.param == "tools"


def test_all_schemas_together_have_a_budget_to_be_measured():
    """Reading a request takes no longer for many schemas that are hard to read than for one."""
    alike = {"anyOf": [{"properties": {f"p{j}": {} for j in range(60)}, "required": [f"p{i}"]} for i in range(3)]}
    bounds.check_schemas({"tools[0]": alike})
    with pytest.raises(Unsupported, match="too complex"):
        bounds.check_schemas({f"tools[{i}]": alike for i in range(60)})
