"""Which model is the default, and which may answer in another's stead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.engines.names import chain, chats, default_of, read_fallbacks


@pytest.mark.parametrize(
    "name",
    [
        *("nomic-embed-text:latest", "text-embedding-3-small", "bge-m3", "BAAI/bge-reranker-v2-m3", "whisper-large-v3"),
        *("intfloat/e5-mistral-7b-instruct", "all-minilm:22m", "dall-e-3"),
    ],
)
def test_models_that_make_vectors_pictures_or_speech_do_not_chat(name):
    assert not chats(name, None)
    assert chats(name, told=True)


@pytest.mark.parametrize("name", ["gpt-oss:20b", "llama3:8b", "Qwen/Qwen3-8B", "phi-e5x", "m"])
def test_others_do(name):
    assert chats(name, None)
    assert not chats(name, told=False)


@pytest.mark.parametrize(
    ("listed", "wanted", "former", "default"),
    [
        ([], None, None, None),
        ([], "m", "m", None),
        (["bge-m3", "b", "a"], None, None, "b"),
        (["bge-m3"], None, None, "bge-m3"),
        (["a", "openai/gpt-oss-20b"], None, None, "openai/gpt-oss-20b"),
        (["a", "gpt-oss:latest"], None, "a", "a"),
        (["a", "b"], "b", "a", "b"),
        (["a", "b"], "c", "b", "b"),
        (["a", "b"], "c", "gone", "a"),
    ],
)
def test_the_default_is_the_operators_or_stays_or_is_the_best_that_chats(listed, wanted, former, default):
    assert default_of({name: chats(name, None) for name in listed}, wanted, former) == default


@given(st.dictionaries(st.sampled_from(["a", "b", "gpt-oss", "embed"]), st.booleans()))
def test_a_chosen_default_stays_whatever_comes(listed):
    chosen = default_of(listed, None, None)
    assert default_of({"gpt-oss:new": True} | listed, None, chosen) == (chosen or "gpt-oss:new")


def test_fallbacks_keep_their_order_and_never_chain():
    fallbacks = read_fallbacks(["a=b", "b=c", " a = d "])
    assert fallbacks == {"a": ("b", "d"), "b": ("c",)}
    assert chain("a", fallbacks) == ("a", "b", "d")
    assert chain("c", fallbacks) == ("c",)


@pytest.mark.parametrize("text", ["", "a", "a=", "=b", "a=a"])
def test_a_wrong_fallback_is_told(text):
    with pytest.raises(ValueError, match="MODEL=OTHER"):
        read_fallbacks([text])
