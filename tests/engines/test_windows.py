"""How much fits: windows are read where engines tell them, and what is sent fits, or is refused with both numbers."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from standpipe.chat.ask import Sampling
from standpipe.chat.errors import ContextTooLong
from standpipe.chat.events import Started, TextDelta
from standpipe.engines.attempt import Report
from standpipe.engines.engine import Card
from standpipe.engines.listing import listed, of_llama, of_ollama
from standpipe.engines.placed import Placed, Placement
from standpipe.engines.upstream import Ollama, Upstream
from standpipe.http_client.client import Client
from standpipe.policy.terms import fit
from tests.engines import peers
from tests.engines.puppet import DONE, Puppet, ask, pool_of, says
from tests.virtual import Collected, run


def encoded(value):
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("model", "window"),
    [
        ({"id": "m", "max_model_len": 4096}, 4096),
        ({"id": "m", "context_length": "8192"}, 8192),
        ({"id": "m", "max_model_len": None, "context_window": 5.0}, 5),
        ({"id": "m", "max_model_len": -1}, None),
        ({"id": "m", "max_model_len": [1]}, None),
        ({"id": "m"}, None),
        ("m", None),
    ],
)
def test_a_list_tells_windows_by_any_known_name(model, window):
    assert listed(encoded({"data": [model]})) == {"m": Card(window)}


def test_llama_server_tells_the_context_of_a_slot():
    assert of_llama(encoded({"default_generation_settings": {"n_ctx": 2048}})) == Card(2048)


@pytest.mark.parametrize(
    ("shown", "card"),
    [
        (
            {"parameters": "num_ctx          8192\nstop x", "model_info": {"l.context_length": 9}},
            Card(8192),
        ),
        (
            {"model_info": {"gptoss.context_length": 131072}, "capabilities": ["completion"]},
            Card(131072, chats=True, sees=False),
        ),
        ({"capabilities": ["completion", "vision"]}, Card(None, chats=True, sees=True)),
        ({"capabilities": ["embedding"]}, Card(None, chats=False, sees=False)),
        ({"parameters": 3, "model_info": [], "capabilities": []}, Card()),
    ],
)
def test_an_ollama_tells_what_a_model_is_set_to_and_can_do(shown, card):
    assert of_ollama(encoded(shown)) == card


@given(st.binary(max_size=40) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(encoded))
def test_what_cannot_be_read_is_not_told(body):
    assert of_llama(body) == of_ollama(body) == Card()
    listed(body)


def reply(status, value):
    body = encoded(value)
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def serving(kind, pages):
    async def scene():
        seen = []

        async def script(peer):
            while True:
                first, _, _ = await peer.request()
                path = first.split()[1]
                seen.append(path)
                peer.send(reply(200, pages[path]) if path in pages else reply(404, {}))

        async with peers.engine(script) as it:
            url = it.url.removesuffix("/v1") if kind is Ollama else it.url
            engine = kind("e", Client(url), slots=1)
            await engine.models()
            await engine.models()
            card = engine.card("m")
            await engine.close()
        return card, seen

    return asyncio.run(scene())


def test_llama_server_is_asked_for_its_props_once():
    pages = {
        "/v1/models": {"data": [{"id": "m", "owned_by": "llamacpp"}]},
        "/props": {"default_generation_settings": {"n_ctx": 512}},
    }
    assert serving(Upstream, pages) == (Card(512), ["/v1/models", "/props", "/v1/models"])


def test_an_ollama_is_asked_to_show_each_model_once():
    pages = {"/api/tags": {"models": [{"name": "m"}]}, "/api/show": {"parameters": "num_ctx 99"}}
    assert serving(Ollama, pages) == (Card(99), ["/api/tags", "/api/show", "/api/tags"])


def test_a_server_that_tells_it_in_its_list_is_asked_no_more():
    assert serving(Upstream, {"/v1/models": {"data": [{"id": "m", "max_model_len": 7}]}}) == (
        Card(7),
        ["/v1/models"] * 2,
    )


VLLM = (
    "'max_tokens' or 'max_completion_tokens' is too large: 2048. This model's maximum context length is 1024 tokens "
    "and your request has 30 input tokens (2048 > 1024 - 30)."
)
SGLANG = (
    "Requested token count exceeds the model's maximum context length of 1024 tokens. You requested a total of 2078 "
    "tokens: 30 tokens from the input messages and 2048 tokens for the completion."
)
OLDER = (
    "This model's maximum context length is 1024 tokens. However, you requested 2078 tokens (30 in the messages, 2048 "
    "in the completion). Please reduce the length of the messages or completion."
)


@pytest.mark.parametrize("told", [VLLM, OLDER, SGLANG])
def test_an_engine_that_counts_what_does_not_fit_is_asked_for_what_does(told):
    async def scene():
        limits = []

        async def script(peer):
            while True:
                _, _, body = await peer.request()
                limits.append(json.loads(body)["max_tokens"])
                if limits[-1] > 994:
                    peer.send(reply(400, {"error": {"message": told}}))
                else:
                    frame = {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
                    text = b"data: %b\n\ndata: [DONE]\n\n" % encoded(frame)
                    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text))

        async with peers.engine(script) as it:
            engine = Upstream("e", Client(it.url), slots=1, models=("m",))
            sink = Collected()
            await engine.answer(asked(2048), sink)
            await engine.close()
        return limits, sink.answer.text

    assert asyncio.run(scene()) == ([2048, 994], "hi")


def asked(max_tokens):
    return replace(ask(), sampling=Sampling(max_tokens=max_tokens))


def engine(window, name="e"):
    return Placed(Puppet(says(Started(), TextDelta("hi"), DONE), name=name, models=("m",)), Placement(window=window))


async def sent(pool, least, max_tokens=2048):
    """The limit that the engine was asked for, and which one it was."""
    report = Report()
    await pool.answer(asked(max_tokens), Collected(), pool.journey(report, b"", asked(max_tokens), least=least))
    puppet = next(m.engine._engine for m in pool.fleet.members if m.engine.name == report.engine)
    return report.engine, puppet.asked[-1].sampling.max_tokens


def test_what_is_sent_fits_the_window_and_what_cannot_is_refused_with_both_numbers():
    async def scene():
        pool = await pool_of(engine(1024))
        assert await sent(pool, 100) == ("e", 908)
        assert await sent(pool, 100, 50) == ("e", 50)
        with pytest.raises(ContextTooLong, match=r"length is 1024 tokens\. .* 1025 tokens in `messages`") as caught:
            await sent(pool, 1024)
        assert (caught.value.param, caught.value.code) == ("messages", "context_length_exceeded")

    run(scene())


def test_a_long_prompt_goes_where_it_fits():
    async def scene():
        pool = await pool_of(engine(1024, "small"), engine(8192, "large"))
        for _ in range(3):
            assert await sent(pool, 2000) == ("large", 2048)
        assert pool.fleet.card("m").window == 1024

    run(scene())


def test_nobody_is_refused_where_an_engine_does_not_tell():
    async def scene():
        pool = await pool_of(engine(1024, "small"), engine(None, "silent"))
        assert await sent(pool, 100_000) == ("silent", 2048)

    run(scene())


@given(st.integers(1, 10_000), st.floats(0, 20_000), st.integers(1, 100_000))
def test_an_estimate_never_takes_all_room(window, prompt, wanted):
    fitted = fit(asked(wanted), window, prompt).sampling.max_tokens
    assert 1 <= fitted <= max(1, window)
    assert fitted <= wanted
    assert fitted == wanted or fitted >= window // 8
