import msgspec

from standpipe.dialects.openai import wire as openai_wire


def test_models_are_listed_in_order_with_what_they_take():
    blind = openai_wire.model("gpt-oss:20b", 5, None, sees=False)
    eyes = openai_wire.model("eyes", 5, 4096, sees=True)
    assert msgspec.json.decode(openai_wire.models_list([blind, eyes])) == {
        "object": "list",
        "data": [
            {
                "id": "gpt-oss:20b",
                "object": "model",
                "created": 5,
                "owned_by": "standpipe",
                "input_modalities": ["text"],
            },
            {
                "id": "eyes",
                "object": "model",
                "created": 5,
                "owned_by": "standpipe",
                "input_modalities": ["text", "image"],
                "max_model_len": 4096,
            },
        ],
    }
