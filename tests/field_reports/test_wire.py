"""What engines were reported to do with status, labels, connections and silence."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from standpipe.chat.ask import Ask, Message, Role, Sampling, Text
from standpipe.chat.errors import EngineFailed, EngineTimeout, InvalidAsk
from standpipe.chat.events import Finished
from standpipe.engines.attempt import Attempt, Report, Silence
from standpipe.engines.upstream import Ollama, Upstream
from standpipe.http_client.client import Client
from tests.engines.peers import Peer, Script, engine
from tests.field_reports.cases import end, last, line, lines, said, sse
from tests.virtual import Collected, run

ASK = Ask((Message(Role.USER, (Text("hi"),)),), sampling=Sampling(temperature=0.5))
WHOLE = json.dumps({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}).encode()
STREAM = sse(said(), end())
LINES = lines(line(), last())


def http(body: bytes, *, status: int = 200, label: str = "text/event-stream", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 %d X\r\nContent-Type: %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
        status,
        label.encode(),
        size,
        body,
    )


def answers(*sent: bytes, asked: list[dict[str, Any]] | None = None) -> Script:
    """A script that answers one request on each connection, then closes it."""
    left = list(sent)

    async def script(peer: Peer) -> None:
        _, _, body = await peer.request()
        if asked is not None:
            asked.append(json.loads(body))
        peer.send(left.pop(0))
        await peer.sent()

    return script


def ask(script: Script, *, times: int = 1, kind: type[Upstream] = Upstream, log: list[str] | None = None) -> str:
    """What the last of so many asks gets."""

    told = [] if log is None else log

    async def scene() -> str:
        async with engine(script) as it:
            client = Client(it.url.removesuffix("/v1") if kind is Ollama else it.url)
            upstream = kind("e", client, slots=1, models=("m",), log=lambda _, text: told.append(text))
            try:
                for _ in range(times):
                    await upstream.answer(ASK, sink := Collected())
            finally:
                await upstream.close()
            assert isinstance(sink.events[-1], Finished)
            return sink.answer.text

    return run(scene())


@pytest.mark.parametrize("label", ["application/json", "text/plain", "text/event-stream; charset=utf-8", "", "x"])
@pytest.mark.parametrize("status", [200, 201, 202])
def test_content_decides_and_not_its_label(status, label):
    for body in (STREAM, WHOLE):
        assert ask(answers(http(body, status=status, label=label))) == "Hi"
    assert ask(answers(http(LINES, status=status, label=label)), kind=Ollama) == "Hi"


def test_success_without_content_is_none():
    with pytest.raises(EngineFailed):
        ask(answers(b"HTTP/1.1 204 X\r\n\r\n"))


def test_a_connection_that_breaks_after_the_end_takes_nothing_away():
    assert ask(answers(http(sse(said(), end(), done=False), length=999))) == "Hi"
    with pytest.raises(EngineFailed):
        ask(answers(http(sse(said(), done=False), length=999)))


def refusal(message: Any, status: int = 422) -> bytes:
    return http(json.dumps(message).encode(), status=status, label="application/json")


REFUSED = {
    "detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]
}


def test_an_optional_field_that_an_engine_refuses_by_name_is_left_out_from_then_on():
    asked: list[dict[str, Any]] = []
    log: list[str] = []
    script = answers(refusal(REFUSED), http(STREAM), http(STREAM), asked=asked)  # cline #582, anon-kode #53
    assert ask(script, times=2, log=log) == "Hi"
    assert ["stream_options" in body for body in asked] == [True, False, False]
    assert all(body["temperature"] == 0.5 for body in asked)
    assert log == ["e refuses stream_options: it is asked without from now on"]


def test_several_are_left_out_one_after_another():
    second = {"error": {"message": "Unsupported value: 'temperature' does not support 0.5.", "param": "temperature"}}
    asked: list[dict[str, Any]] = []
    assert ask(answers(refusal(REFUSED), refusal(second, 400), http(STREAM), asked=asked)) == "Hi"
    assert asked[2].keys() == {"model", "messages", "stream"}


def test_what_is_no_refusal_of_a_field_teaches_nothing():
    for message in ("`messages` are invalid", "Unknown role in messages"):
        with pytest.raises(InvalidAsk):
            ask(answers(refusal({"error": {"message": message}}, 400)))
    asked: list[dict[str, Any]] = []
    quoted = {"error": {"message": "invalid prompt: stream_options"}}  # a stranger's words, repeated

    async def scene() -> None:
        async with engine(answers(refusal(quoted, 400), refusal(quoted, 400), http(STREAM), asked=asked)) as it:
            upstream = Upstream("e", Client(it.url), slots=1, models=("m",))
            with pytest.raises(InvalidAsk):
                await upstream.answer(ASK, Collected())
            await upstream.answer(ASK, Collected())
            await upstream.close()

    run(scene())
    assert ["stream_options" in body for body in asked] == [True, False, True]


def test_what_could_not_be_read_is_told_once():
    odd = http(sse(said(usage="none"), said("", usage="none"), end()))
    log: list[str] = []
    assert ask(answers(odd, odd), times=2, log=log) == "Hi"
    assert log == ["e sends a `usage` that is left out because it cannot be read"]


@pytest.mark.parametrize("alive", [b": ping\n\n", b"data:\n\n", sse(said(""), done=False)])
def test_frames_without_words_show_that_an_engine_lives(alive):
    """github/copilot-cli #4286, Calliope #21: a long call is buffered, and only empty deltas come."""

    async def scene(*, silent: bool) -> str:
        async def script(peer: Peer) -> None:
            await peer.request()
            peer.send(b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\n\r\n")
            for body in (b"", sse(said(), done=False)):
                for _ in range(6):
                    await asyncio.sleep(4)
                    peer.send(b"" if silent else alive)
                peer.send(body)
            peer.send(sse(end()))
            await peer.sent()

        async with engine(script) as it:
            upstream = Upstream("e", Client(it.url), slots=1, models=("m",))
            try:
                await Attempt(sink := Collected(), Report(), Silence(first=10, later=5), lambda: None).run(
                    upstream, ASK
                )
            finally:
                await upstream.close()
            return sink.answer.text

    assert run(scene(silent=False)) == "Hi"
    with pytest.raises(EngineTimeout):
        run(scene(silent=True))


@pytest.mark.parametrize(("status", "client"), [(503, 503), (429, 503), (500, 502), (504, 502), (401, 502)])
def test_an_engine_that_is_not_ready_or_full_is_our_capacity_to_a_client(status, client):
    """freellmapi #591, ramalama #2343, truss #213: llama-server says `Loading model` while it does."""
    with pytest.raises(EngineFailed) as caught:
        ask(answers(refusal({"error": {"message": "Loading model"}}, status)))
    assert (caught.value.upstream_status, caught.value.status) == (status, client)
