"""Images and engines: who sees is found out, who does not is not asked, and what is shown arrives as it came."""

from __future__ import annotations

import asyncio
import json

import pytest

from standpipe.chat.ask import Ask, Message, Role, Text, ToolCall, ToolResult
from standpipe.chat.errors import ImagesRefused
from standpipe.chat.events import Started, TextDelta
from standpipe.engines.attempt import Report
from standpipe.engines.engine import Card
from standpipe.engines.guard.guarded import Guarded
from standpipe.engines.listing import listed, of_llama, of_ollama, of_sglang
from standpipe.engines.placed import Placed, Placement
from standpipe.engines.upstream import Ollama, Upstream
from standpipe.http_client.client import Client
from tests.engines import peers
from tests.engines.puppet import DONE, Puppet, choice_of, pool_of, raises, says
from tests.engines.test_upstream import WHOLE, plain
from tests.pictures import PICTURE, PNG
from tests.virtual import Collected, run

LOOK = Message(Role.USER, (Text("What?"), PICTURE))
SEEN = Message(Role.ASSISTANT, (Text("A square."),))
CALL = Message(Role.ASSISTANT, (ToolCall("1", "look", "{}"),))
RESULT = Message(Role.TOOL, (ToolResult("1", "See.", images=(PICTURE,)),))
URL = {"url": f"data:image/png;base64,{PNG}"}


def encoded(value):
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("model", "sees"),
    [
        ({"input_modalities": ["text", "image"]}, True),
        ({"input_modalities": ["text"]}, False),
        ({"architecture": {"input_modalities": ["text", "image"]}}, True),
        ({"architecture": {"input_modalities": ["text"]}}, False),
        ({"capabilities": {"vision": True}}, True),
        ({"capabilities": {"vision": False}}, False),
        ({"capabilities": {"vision": "yes"}}, None),
        ({"capabilities": ["completion", "multimodal"]}, True),
        ({"capabilities": ["completion", ["vision"]]}, None),
        ({"architecture": "llama", "input_modalities": "image"}, None),
        ({}, None),
    ],
)
def test_a_list_tells_who_sees_by_any_known_name(model, sees):
    assert listed(encoded({"data": [{"id": "m"} | model]})) == {"m": Card(sees=sees)}


@pytest.mark.parametrize(
    ("read", "page", "card"),
    [
        (of_llama, {"modalities": {"vision": True, "audio": False}}, Card(sees=True)),
        (of_llama, {"modalities": {"vision": False}, "default_generation_settings": {"n_ctx": 9}}, Card(9, sees=False)),
        (of_llama, {"modalities": ["vision"]}, Card()),
        (of_sglang, {"has_image_understanding": True}, Card(sees=True)),
        (of_sglang, {"has_image_understanding": None}, Card()),
        (of_sglang, [], Card()),
        (of_ollama, {"capabilities": ["completion", "vision"]}, Card(chats=True, sees=True)),
        (of_ollama, {"capabilities": ["completion", "tools"]}, Card(chats=True, sees=False)),
    ],
)
def test_a_page_tells_who_sees(read, page, card):
    assert read(encoded(page)) == card


def told(kind, pages):
    """What a server with these pages tells of its model `m`, and the paths and bodies that it was asked."""

    async def scene():
        asked = []

        async def script(peer):
            while True:
                first, _, body = await peer.request()
                asked.append((first.split()[1], json.loads(body or b"null")))
                page = pages.get(asked[-1][0])
                peer.send(plain(404, {}) if page is None else plain(200, page))

        async with peers.engine(script) as it:
            url = it.url.removesuffix("/v1") if kind is Ollama else it.url
            engine = kind("e", Client(url), slots=1)
            await engine.models()
            await engine.models()
            card = engine.card("m")
            await engine.close()
        return card, dict(asked)

    return asyncio.run(scene())


def models(owner):
    return {"/v1/models": {"data": [{"id": "m", "owned_by": owner, "max_model_len": 99}]}}


def test_llama_server_tells_by_its_props_beside_a_window_in_the_list():
    card, _ = told(Upstream, models("llamacpp") | {"/props": {"modalities": {"vision": True}}})
    assert card == Card(99, sees=True)


def test_sglang_tells_by_its_model_info():
    card, _ = told(Upstream, models("sglang") | {"/get_model_info": {"has_image_understanding": True}})
    assert card == Card(99, sees=True)


def test_an_ollama_tells_by_what_it_shows():
    pages = {"/api/tags": {"models": [{"name": "m"}]}, "/api/show": {"capabilities": ["completion", "vision"]}}
    assert told(Ollama, pages)[0] == Card(chats=True, sees=True)


def test_a_vllm_is_asked_to_count_an_image():
    card, asked = told(Upstream, models("vllm") | {"/tokenize": {"count": 80, "tokens": [1]}})
    assert card == Card(99, sees=True)
    (message,) = asked["/tokenize"]["messages"]
    assert message["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert told(Upstream, models("vllm"))[0] == Card(99, sees=False)


def test_no_other_server_is_asked():
    assert told(Upstream, models("somebody"))[1].keys() == {"/v1/models"}


# Who is asked


class Eyed(Puppet):
    def card(self, model):
        return Card(sees="eyes" in model)


def test_only_an_engine_that_sees_is_shown_anything():
    async def scene():
        blind = Eyed(says(Started("m"), TextDelta("x"), DONE), "a", models=("blind",))
        eyed = Eyed(says(Started("m"), TextDelta("x"), DONE), "b", models=("eyes", "blind"))
        pool = await pool_of(blind, eyed, default_model="blind")
        for messages, model, asked in (
            ((LOOK,), "eyes", (0, 1)),
            ((LOOK, SEEN, Message(Role.USER, (Text("Why?"),))), "eyes", (0, 2)),
        ):
            ask = Ask(messages, model=model)
            await pool.answer(ask, Collected(), pool.journey(Report(), b"", ask))
            assert (len(blind.asked), len(eyed.asked)) == asked
        assert pool.fleet.sees("eyes")
        assert not pool.fleet.sees("blind")
        assert not pool.fleet.sees(None)
        assert pool.fleet.seers() == ("eyes",)
        assert pool.fleet.card("eyes").sees
        shows = pool.journey(Report(), b"", Ask((LOOK,), model="blind"))
        assert choice_of(pool).seats.able(shows) == ()

    run(scene())


def test_a_fallback_may_see_in_a_models_stead():
    async def scene():
        blind, eyed = (
            Eyed(says(Started("m"), TextDelta("x"), DONE), name, models=(name,)) for name in ("blind", "eyes")
        )
        pool = await pool_of(blind, eyed)
        pool.fleet.fallbacks = {"blind": ("eyes",)}
        ask = Ask((LOOK,), model="blind")
        assert pool.fleet.sees("blind")
        await pool.answer(ask, Collected(), pool.journey(Report(), b"", ask))
        assert not blind.asked
        assert eyed.asked[0].model == "eyes"

    run(scene())


def test_an_operator_may_vouch_for_a_server_that_tells_nothing():
    async def scene():
        pool = await pool_of(Placed(Puppet(says(DONE), models=("m",)), Placement(sees=True)))
        assert pool.fleet.sees("m")
        assert pool.fleet.statistics().engines[0].sees == ("m",)

    run(scene())


# What arrives


def sent(kind, *messages):
    """The body that a server of this kind gets."""

    async def scene():
        bodies = []

        async def script(peer):
            _, _, body = await peer.request()
            bodies.append(json.loads(body))
            peer.send(WHOLE if kind is Upstream else plain(200, {"message": {"content": "x"}, "done": True}))
            await peer.gone()

        async with peers.engine(script) as it:
            url = it.url.removesuffix("/v1") if kind is Ollama else it.url
            engine = kind("e", Client(url), slots=1, models=("m",))
            await engine.answer(Ask(messages), Collected())
            await engine.close()
        return bodies[0]["messages"]

    return asyncio.run(scene())


def test_an_openai_server_gets_images_in_their_place_and_those_of_tools_from_the_user():
    image = {"type": "image_url", "image_url": URL}
    assert sent(Upstream, LOOK, CALL, RESULT) == [
        {"role": "user", "content": [{"type": "text", "text": "What?"}, image]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "See."},
        {"role": "user", "content": [image]},
    ]
    assert sent(Upstream, CALL, RESULT, Message(Role.USER, (Text("And?"),)))[2:] == [
        {"role": "user", "content": [image, {"type": "text", "text": "And?"}]}
    ]
    assert [message["role"] for message in sent(Upstream, CALL, RESULT, RESULT, SEEN)] == [
        "assistant",
        "tool",
        "tool",
        "user",
        "assistant",
    ]


def test_an_ollama_gets_images_beside_the_text():
    shown = sent(Ollama, LOOK, CALL, RESULT)
    assert (shown[0]["content"], shown[0]["images"]) == ("What?", [PNG])
    assert (shown[2]["content"], shown[2]["images"]) == ("See.", [PNG])


def refusing(engine, *messages):
    async def scene():
        await Guarded(engine).answer(Ask(messages), Collected())

    run(scene())


def test_an_image_of_the_past_that_an_engine_refuses_becomes_words():
    async def behave(ask, sink):
        if ask.images:
            raise ImagesRefused("No.", param="messages")
        sink.take([Started("m"), TextDelta("x"), DONE])

    engine = Puppet(behave)
    refusing(engine, LOOK, CALL, RESULT)
    first, second = engine.asked
    assert len(first.images) == 2
    assert second.messages[0].parts == (Text("What?"), Text("[image that cannot be shown here]"))
    with pytest.raises(ImagesRefused):
        refusing(Puppet(behave), LOOK, SEEN, LOOK)
    alone = Puppet(raises(ImagesRefused("No.", param="messages")))
    with pytest.raises(ImagesRefused):
        refusing(alone, LOOK)
    assert len(alone.asked) == 1


def test_what_has_begun_to_be_answered_is_not_asked_again():
    async def behave(_, sink):
        sink.take([Started("m"), TextDelta("x")])
        raise ImagesRefused("No.", param="messages")

    engine = Puppet(behave)
    with pytest.raises(ImagesRefused):
        refusing(engine, LOOK, SEEN)
    assert len(engine.asked) == 1
