import base64
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse
from openai.types.embedding_create_params import EmbeddingCreateParams

from standpipe.chat.ask import EmbedAsk, Vectors
from standpipe.chat.errors import EngineFailed, Failure, InvalidAsk, Unsupported
from standpipe.dialects.openai import embeddings as dialect
from tests import openai_schema

VECTORS = Vectors(((0.5, -1.25), (0.0, 2.0)), "embedder", 7)


def parse(**body: Any) -> dialect.ParsedEmbedding:
    return dialect.parse(msgspec.json.encode({"input": "Hello!", **body}))


def test_one_text_or_several():
    assert parse().ask == EmbedAsk(("Hello!",))
    assert parse(input=["a", "b"], model="m", dimensions=2).ask == EmbedAsk(("a", "b"), "m", 2)
    assert parse(user="me", grammar="x").dropped == ("grammar",)


def test_null_means_not_set():
    assert parse(**dict.fromkeys(dialect.READER.taken - {"input"})) == parse()


def bad(param: str, kind: type[Failure] = InvalidAsk, **body: Any) -> Any:
    return pytest.param(body, param, kind, id=f"{param} {len(str(body))}")


@pytest.mark.parametrize(
    ("body", "param", "kind"),
    [
        bad("input", input=None),
        bad("input", input=""),
        bad("input", input=[]),
        bad("input", input=["x"] * 2049),
        bad("input[1]", input=["x", ""]),
        bad("input[0]", input=[{"text": "x"}]),
        bad("input", Unsupported, input=[1, 2]),
        bad("input", Unsupported, input=[[1], [2]]),
        bad("dimensions", dimensions=0),
        bad("dimensions", dimensions=1.5),
        bad("encoding_format", encoding_format="hex"),
        bad("model", model=1),
    ],
)
def test_every_fault_names_its_field(body, param, kind):
    with pytest.raises(Failure) as caught:
        parse(**body)
    assert (caught.value.param, type(caught.value)) == (param, kind)


def test_an_answer_has_what_the_published_schema_requires():
    answered = openai_schema.hold(CreateEmbeddingResponse, dialect.answer(parse(), VECTORS, "embedder"))
    assert [(one.index, one.embedding) for one in answered.data] == [(0, [0.5, -1.25]), (1, [0.0, 2.0])]
    assert (answered.model, answered.usage.prompt_tokens, answered.usage.total_tokens) == ("embedder", 7, 7)


def test_what_the_engine_did_not_count_is_zero():
    answered = msgspec.json.decode(dialect.answer(parse(), Vectors(((1.0,),)), "m"))
    assert answered["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=8).map(tuple))
def test_base64_holds_the_same_numbers(vector):
    asked = parse(encoding_format="base64")
    (one,) = msgspec.json.decode(dialect.answer(asked, Vectors((vector,)), "m"))["data"]
    assert struct.unpack(f"<{len(vector)}f", base64.b64decode(one["embedding"])) == vector


def test_a_number_that_is_too_large_for_base64_is_the_engines_fault():
    with pytest.raises(EngineFailed):
        dialect.answer(parse(encoding_format="base64"), Vectors(((1e300,),)), "m")


def test_an_engine_is_asked_for_numbers():
    assert msgspec.json.decode(msgspec.json.encode(dialect.request_body(EmbedAsk(("a",), "x", 2), "m"))) == {
        "model": "m",
        "input": ["a"],
        "encoding_format": "float",
        "dimensions": 2,
    }
    assert "dimensions" not in msgspec.json.decode(msgspec.json.encode(dialect.request_body(EmbedAsk(("a",)), "m")))


def test_vectors_come_back_in_the_order_of_their_texts():
    body = {
        "data": [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1.5, 2]}],
        "model": "m",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    assert dialect.vectors_from(msgspec.json.encode(body), 2) == Vectors(((1.5, 2.0), (3.0, 4.0)), "m", 5)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"data":[]}',
        b'{"data":[{"embedding":[1]}]}',
        b'{"data":[{"embedding":[1]},{"embedding":[1,2]}]}',
        b'{"data":[{"embedding":"AAAA"},{"embedding":"AAAA"}]}',
    ],
)
def test_anything_but_one_vector_for_each_text_is_the_engines_fault(body):
    with pytest.raises(EngineFailed):
        dialect.vectors_from(body, 2)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"not found"),
        (
            501,
            b'{"error":{"code":501,"message":"This server does not support embeddings.","type":"not_supported_error"}}',
        ),
        (400, b'{"object":"error","message":"The model does not support Embeddings API"}'),
        (500, b'{"error":{"message":"this model does not support embeddings"}}'),
        (500, b'{"error":{"message":"Llama model must be created with embedding=True to call this method"}}'),
        (400, b'{"error":{"message":"No engine on this server offers embeddings.","code":"unsupported"}}'),
    ],
)
def test_an_engine_without_embeddings_is_known_by_what_it_says(status, body):
    assert isinstance(dialect.refusal_from(status, body, None), Unsupported)


def test_any_other_refusal_is_what_it_always_is():
    assert isinstance(dialect.refusal_from(503, b"busy", "2"), EngineFailed)
    assert dialect.in_our_words(InvalidAsk("`messages`.", param="messages")).param == "input"


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(dialect.READER.taken)), st.none() | st.integers() | st.text(max_size=3)))
def test_whatever_is_sent_is_an_ask_or_the_clients_fault(body):
    try:
        asked = dialect.parse(msgspec.json.encode(body))
    except (InvalidAsk, Unsupported):
        return
    assert asked.ask.texts


def test_every_field_that_official_clients_can_send_is_known():
    assert openai_schema.fields_sent(EmbeddingCreateParams) == dialect.READER.taken | dialect.READER.ignored
