"""What engines were reported to need of an ask, and what they make of vectors."""

from __future__ import annotations

import base64
import json
import struct

import msgspec
import pytest

from standpipe.chat.ask import Ask, EmbedAsk, Message, Role, Sampling, Text, ToolCall
from standpipe.chat.errors import EngineFailed
from standpipe.dialects.ollama import to_engine as ollama
from standpipe.dialects.openai import embeddings
from standpipe.dialects.openai.to_engine import LLAMA, VLLM, Extras, request_body

CALLED = [
    ("", {}),  # vllm #19419, aichat #1213, agno #10260
    (" ", {}),
    ("{}", {}),
    ('{"a": 1}', {"a": 1}),
    ("city=Oslo", {"arguments": "city=Oslo"}),  # continue #7491
    ('{"a":', {"arguments": '{"a":'}),
    ("[1]", {"arguments": "[1]"}),
]


@pytest.mark.parametrize(("arguments", "told"), CALLED)
def test_every_engine_is_told_of_an_earlier_call_with_an_object(arguments, told):
    ask = Ask((Message(Role.USER, (Text("x"),)), Message(Role.ASSISTANT, (ToolCall("c", "f", arguments),))))
    for extras in (Extras(), LLAMA, VLLM):
        call = request_body(ask, "m", extras=extras)["messages"][1]["tool_calls"][0]
        assert json.loads(call["function"]["arguments"]) == told
    (call,) = json.loads(msgspec.json.encode(ollama.request_body(ask, "m")))["messages"][1]["tool_calls"]
    assert call["function"]["arguments"] == told


@pytest.mark.parametrize(("wanted", "asked"), [(None, 1), (0, 1), (1, 1), (20, 20)])
def test_an_engine_that_gives_no_rivals_only_with_none_at_all_is_asked_for_one(wanted, asked):
    ask = Ask((), sampling=Sampling(logprobs=True, top_logprobs=wanted))
    assert request_body(ask, "m", extras=LLAMA)["top_logprobs"] == asked
    assert "top_logprobs" not in request_body(Ask(()), "m", extras=LLAMA)


def test_stop_strings_that_are_looked_for_here_are_not_sent():
    sent = Ask((), sampling=Sampling(stop=("END",)))
    kept = Ask((), sampling=Sampling(stop=("END",), tell_stop=True))
    assert request_body(sent, "m", extras=LLAMA)["stop"] == ("END",)
    assert ollama.request_body(sent, "m")["options"] == {"stop": ["END"]}
    assert request_body(kept, "m", extras=LLAMA).keys() & {"stop", "timings_per_token"} == {"timings_per_token"}
    assert ollama.request_body(kept, "m")["options"] == {}


FLOATS = [1.0, -0.5]
PACKED = base64.b64encode(struct.pack("<2f", *FLOATS)).decode()
VECTORS = [
    ({"index": 0, "embedding": FLOATS}, {}, 3),
    ({"index": 0, "embedding": PACKED}, {}, 3),  # TEI, infinity: base64 although floats were asked for
    ({"index": "0", "embedding": FLOATS}, {}, 3),
    ({"embedding": FLOATS}, {"model": 7}, 3),
    ({"index": 0, "embedding": FLOATS}, {"usage": {"prompt_tokens": 3.0, "total_tokens": "x"}}, 3),
    ({"index": 0, "embedding": FLOATS}, {"usage": {"prompt_tokens": "many"}}, None),
    ({"index": 0, "embedding": FLOATS}, {"usage": {}}, None),  # Ollama: no count at all
    ({"index": 0, "embedding": FLOATS}, {"usage": [3]}, None),
]


@pytest.mark.parametrize(("vector", "more", "tokens"), VECTORS)
def test_vectors_are_read_whatever_stands_beside_them(vector, more, tokens):
    body = {"data": [vector], "model": "m", "usage": {"prompt_tokens": 3}, **more}
    found = embeddings.vectors_from(json.dumps(body).encode(), 1)
    assert (found.vectors, found.prompt_tokens) == (((1.0, -0.5),), tokens)
    for encoding, written in (("float", FLOATS), ("base64", PACKED)):
        parsed = embeddings.parse(json.dumps({"input": "x", "encoding_format": encoding}).encode())
        told = json.loads(embeddings.answer(parsed, found, "m"))
        assert told["data"][0]["embedding"] == written
        assert told["usage"]["prompt_tokens"] == (tokens or 0)


@pytest.mark.parametrize("vector", ["?", "AAA=", {"x": 1}, None])
def test_vectors_that_are_none_are_a_failure(vector):
    with pytest.raises(EngineFailed):
        embeddings.vectors_from(json.dumps({"data": [{"embedding": vector}]}).encode(), 1)
    assert embeddings.request_body(EmbedAsk(("x",)), "m")
