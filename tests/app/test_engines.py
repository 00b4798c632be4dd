import asyncio
import json

import pytest

from standpipe.app import embedded, engines
from standpipe.app.engines import open_engines, prefer
from standpipe.models.fetch import silent
from standpipe.settings import Settings, SettingsError


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

    async def start(target, *_):
        assert target == ""
        return Starter(), "the starter"

    monkeypatch.setattr(embedded, "start", start)
    found = asyncio.run(with_ollama(monkeypatch, tags))
    assert found.reasons[0].startswith("the starter, because no engine was given")
