import msgspec

from standpipe.dialects.openai import wire as openai_wire


def test_models_are_listed_in_order():
    assert msgspec.json.decode(openai_wire.models_list({"gpt-oss:20b": None, "b": None}, 5)) == {
        "object": "list",
        "data": [
            {"id": "gpt-oss:20b", "object": "model", "created": 5, "owned_by": "standpipe"},
            {"id": "b", "object": "model", "created": 5, "owned_by": "standpipe"},
        ],
    }


def test_one_model_is_as_in_the_list():
    (listed,) = msgspec.json.decode(openai_wire.models_list({"m": 4096}, 5))["data"]
    assert msgspec.json.decode(openai_wire.model("m", 4096, 5)) == listed
