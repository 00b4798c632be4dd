import asyncio
import json

import pytest

from standpipe.app import embedded, engines
from standpipe.app.engines import open_engines, prefer
from standpipe.chat.ask import Ask, Beginning, Message, Role, Text
from standpipe.engine_tables import EngineTable
from standpipe.engines.member import Member
from standpipe.models.fetch import silent
from standpipe.settings import Settings, SettingsError
from tests.engines import peers


def opened(settings: Settings):
    async def open_and_close():
        found = await open_engines(settings, silent, lambda _level, _text: None)
        for engine in found.engines:
            await engine.close()
        return found

    return asyncio.run(open_and_close())


def test_named_engines_are_opened_in_order_and_say_what_they_are():
    found = opened(Settings(engine=("http://127.0.0.1:9/v1#slots=3", "scripted:?name=s&slots=2"), slots="7"))
    assert [(engine.name, engine.slots) for engine in found.engines] == [("http://127.0.0.1:9", 3), ("s", 7)]
    assert "3 requests at a time" in found.reasons[0]
    assert "fake answers" in found.reasons[1]


def test_a_table_names_and_bounds_its_engine_and_no_two_have_one_name():
    tables = EngineTable(url="http://127.0.0.1:9/v1", name="gpu", slots=3), EngineTable(url="ollama://127.0.0.1:9")
    found = opened(Settings(engine=(*tables, "scripted:", "scripted:", "scripted:")))
    names = [(engine.name, engine.slots) for engine in found.engines]
    assert names[:2] == [("gpu", 3), ("ollama://127.0.0.1:9", 1)]
    assert [name for name, _ in names[2:]] == ["scripted", "scripted 2", "scripted 3"]
    assert found.reasons[0].startswith("gpu, 3 requests")


HTTP = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ((HTTP, "ollama://127.0.0.1:9"), "api_key belongs to one engine, and there are 2 over HTTP"),
        ((EngineTable(url=HTTP, key="k"),), "engine 1 has a key of its own: leave api_key out"),
        ((EngineTable(url="scripted:", key="k"),), "engine 1: key: only for engines over HTTP"),
        ((EngineTable(url=HTTP, name="gpu", key_env="NO_SUCH_VARIABLE"),), r"engine 1 \(gpu\): key_env names NO_SUCH"),
        ((EngineTable(url=HTTP, ca="/none"),), "engine 1: ca: only for https"),
        ((EngineTable(url="https://127.0.0.1/v1", ca="/none"),), "engine 1: ca cannot be used: No such file"),
        ((EngineTable(url=f"{HTTP}#slots=3"),), "engine 1: url has #slots=; allowed: the key slots"),
        ((EngineTable(url=HTTP, headers={"a b": "c"}),), "engine 1: a header's name"),
    ],
)
def test_what_is_unclear_or_wrong_of_an_engine_is_refused_in_a_sentence(engine, told):
    with pytest.raises(SettingsError, match=told):
        opened(Settings(engine=engine, api_key="secret"))


def test_each_engine_is_sent_its_own_key_and_no_other():
    async def scene():
        async with peers.engine(listing) as a, peers.engine(listing) as b, peers.engine(listing) as c:
            tables = EngineTable(url=a.url, key="a"), EngineTable(url=b.url, key="b", headers={"X-Team": "t"}), c.url
            found = await open_engines(Settings(engine=tables), silent, lambda _level, _text: None)
            for engine in found.engines:
                await engine.models()
                await engine.close()
        return sent

    sent = []

    async def listing(peer):
        _, headers, _ = await peer.request()
        sent.append((headers.get("authorization"), headers.get("X-Team")))
        peer.send(b'HTTP/1.1 200 OK\r\ncontent-length: 22\r\n\r\n{"data":[{"id":"m"}]} ')

    assert asyncio.run(scene()) == [("Bearer a", None), ("Bearer b", "t"), (None, None)]


def test_a_server_goes_on_with_a_turn_where_its_table_says_so():
    found = opened(Settings(engine=(EngineTable(url=HTTP, prefill=True), HTTP)))
    for begun, can in ((Beginning(text="a"), [True, False]), (Beginning(reasoning="a", text="a"), [False, False])):
        ask = Ask(messages=(Message(Role.USER, (Text("hi"),)),), model="m")
        assert [Member(engine).continues(ask, begun) for engine in found.engines] == can


def test_slots_are_found_out_where_an_engine_or_the_setting_says_so_and_nobody_says_a_number():
    tables = EngineTable(url=HTTP, slots="auto"), EngineTable(url=HTTP, slots=3), EngineTable(url=HTTP)
    found = opened(Settings(engine=(*tables, HTTP, f"{HTTP}#slots=2")))
    assert [Member(engine).standing.auto is not None for engine in found.engines] == [True, False, False, False, False]
    found = opened(Settings(engine=(*tables, HTTP, f"{HTTP}#slots=2"), slots="auto"))
    assert [Member(engine).standing.auto is not None for engine in found.engines] == [True, False, True, True, False]
    assert [engine.slots for engine in found.engines] == [64, 3, 64, 64, 2]
    assert "up to 64 requests" in found.reasons[0]


@pytest.mark.parametrize("slots", ["0", "auto"])
def test_an_engine_whose_slots_nobody_told_gets_a_guess(slots):
    (engine,) = opened(Settings(engine=("http://127.0.0.1:9/v1",), slots=slots)).engines
    assert engine.slots == {"0": 4, "auto": 64}[slots]


@pytest.mark.parametrize("name", ["nonsense", "http://", "scripted:?rate=fast", "embedded#slots=0"])
def test_a_wrong_name_is_a_settings_error(name):
    with pytest.raises(SettingsError, match="engine"):
        opened(Settings(engine=(name,)))


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], None),
        (["llama3:8b", "notgpt-oss:20b"], None),
        (["gpt-oss:20b"], "gpt-oss:20b"),
        (["gpt-oss:20b", "gpt-oss:latest", "gpt-oss:120b"], "gpt-oss:latest"),
        (["someone/gpt-oss:20b"], "someone/gpt-oss:20b"),
    ],
)
def test_a_gpt_oss_model_is_preferred_the_latest_first(names, chosen):
    assert prefer(names) == chosen


async def with_ollama(monkeypatch, tags: bytes):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(tags), tags))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setattr(engines, "OLLAMA", f"http://127.0.0.1:{port}")
        found = await open_engines(Settings(), silent, lambda _level, _text: None)
        for engine in found.engines:
            await engine.close()
        return found


def test_a_local_ollama_with_gpt_oss_is_used_and_said(monkeypatch):
    tags = json.dumps({"models": [{"name": "llama3:8b"}, {"name": "gpt-oss:20b"}]}).encode()
    found = asyncio.run(with_ollama(monkeypatch, tags))
    assert "gpt-oss:20b of the Ollama on this machine" in found.reasons[0]


@pytest.mark.parametrize("tags", [b'{"models":[{"name":"llama3:8b"}]}', b"not json", b'{"models":3}'])
def test_without_one_the_starter_is_used_and_said(monkeypatch, tags):
    class Starter:
        name = "embedded"

        async def close(self) -> None:
            pass

    async def start(target, *_, share):
        assert (target, share) == ("", 1)
        return Starter(), "the starter"

    monkeypatch.setattr(embedded, "start", start)
    found = asyncio.run(with_ollama(monkeypatch, tags))
    assert found.reasons[0].startswith("the starter, because no engine was given")
