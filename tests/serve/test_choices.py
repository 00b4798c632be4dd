"""Several answers to one request: each waits, runs and is charged like any ask, and all of them are answered as one."""

import asyncio

import pytest

from standpipe.engines.scripted.script import Fault, FaultKind, Script
from standpipe.engines.scripted.scripted import Scripted
from tests.serve.driver import Reply, Tap, scene
from tests.virtual import run

CHAT, LEGACY = "/v1/chat/completions", "/v1/completions"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
FREE = {"pace_interval": 0}


def chosen(reply, index):
    """The chunks of one choice."""
    choices = [choice for frame in reply.frames[:-1] for choice in frame["choices"]]
    return [choice for choice in choices if choice["index"] == index]


def said(chunks):
    return "".join(chunk["delta"].get("content") or "" for chunk in chunks)


class Seeded(Scripted):
    """Notes the seeds of what it is asked."""

    def __init__(self, script):
        super().__init__(script)
        self.seeds = []

    async def answer(self, ask, sink):
        self.seeds.append(ask.sampling.seed)
        await super().answer(ask, sink)


class Failing(Scripted):
    """Its fault is in the third answer alone."""

    def _fault(self):
        return super()._fault() if self.asked == 2 else None


@scene(Script(tokens=3, slots=8), **FREE)
async def test_a_whole_answer_has_all_choices_and_what_they_took_together(tap):
    one = (await tap.send("POST", CHAT, HELLO)).json
    reply = await tap.send("POST", CHAT, HELLO | {"n": 3})
    assert [choice["index"] for choice in reply.json["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in reply.json["choices"]} == {
        one["choices"][0]["message"]["content"]
    }
    assert reply.json["usage"]["total_tokens"] == 3 * one["usage"]["total_tokens"]
    assert reply.headers["x-standpipe-attempts"] == "1"
    assert tap.asks[-1]["tokens"] == 3 * tap.asks[0]["tokens"]
    assert len(tap.asks) == 2


@scene(Script(tokens=4, rate=2, slots=8), **FREE)
async def test_a_stream_has_each_choice_with_its_index_and_one_end(tap):
    body = HELLO | {"n": 2, "stream": True, "stream_options": {"include_usage": True}}
    reply = await tap.send("POST", CHAT, body)
    one = said(chosen(reply, 0))
    assert one == said(chosen(reply, 1)) != ""
    indices = [choice["index"] for frame in reply.frames[:-1] for choice in frame["choices"] if choice["delta"]]
    assert indices != sorted(indices), "they do not speak by turns"
    for index in (0, 1):
        assert [chunk["finish_reason"] for chunk in chosen(reply, index)][-1] == "stop"
        assert chosen(reply, index)[0]["delta"]["role"] == "assistant"
    assert reply.frames[-1] == "[DONE]"
    assert [frame for frame in reply.frames[:-1] if not frame["choices"]] == [reply.frames[-2]]
    assert reply.frames[-2]["usage"]["completion_tokens"] == 8
    assert reply.end_kind == "end"


def test_each_choice_waits_its_turn_like_any_ask():
    async def body():
        engine = Seeded(Script(tokens=2, rate=2, slots=8))
        async with Tap(engines=[engine], client_slots=2, pace_interval=0.5) as tap:
            reply = await tap.send("POST", CHAT, HELLO | {"n": 6, "seed": 8})
            assert len(reply.json["choices"]) == 6
        assert engine.most == 2
        assert sorted(engine.seeds) == [8, 9, 10, 11, 12, 13]
        assert reply.started_at >= 2.5  # the sixth instant

    run(body())


@scene(Script(tokens=2, slots=8), pace_interval=1, pace_waiting=3)
async def test_the_refusal_of_one_refuses_all_and_takes_nothing(tap):
    refused = await tap.send("POST", CHAT, HELLO | {"n": 6})
    assert (refused.status, refused.json["error"]["code"]) == (429, "rate_limit_exceeded")
    assert "retry-after" in refused.headers
    assert tap.app.admission.lines.statistics().waiting == 0
    await asyncio.sleep(1)
    assert (await tap.send("POST", CHAT, HELLO | {"n": 4})).status == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_every_choice(stream):
    async def body():
        engine = Scripted(Script(tokens=50, rate=2, slots=8))
        async with Tap(engines=[engine], client_slots=2, **FREE) as tap:
            asking = asyncio.get_running_loop().create_task(
                tap.send("POST", CHAT, HELLO | {"n": 4, "stream": stream}, reply=Reply())
            )
            await asyncio.sleep(3)
            asking.cancel()
            await asyncio.wait((asking,))
            await asyncio.sleep(0)
            assert (engine.busy, engine.cancelled) == (0, 2)
            left = tap.app.admission.lines.statistics()
            assert (left.waiting, left.running) == (0, 0)
            assert tap.asks[-1]["status"] == 499

    run(body())


@pytest.mark.parametrize("stream", [True, False])
def test_one_that_fails_ends_all(stream):
    async def body():
        engine = Failing(Script(tokens=20, rate=2, slots=8, fault=Fault(FaultKind.CUT, 2)))
        async with Tap(engines=[engine], attempts=1, continue_streams=False, client_slots=4, **FREE) as tap:
            reply = await tap.send("POST", CHAT, HELLO | {"n": 3, "stream": stream})
            if stream:
                assert reply.end_kind == "abort"
                assert "error" in reply.frames[-1]
            else:
                assert reply.status == 502
            assert (engine.busy, engine.failed, engine.cancelled) == (0, 1, 2)
            assert tap.app.admission.lines.statistics().running == 0

    run(body())


@scene(Script(tokens=3, slots=8, first=9), commit_after=1, heartbeat=2, **FREE)
async def test_silence_is_filled_for_one_of_them(tap):
    reply = await tap.send("POST", CHAT, HELLO | {"n": 2, "stream": True})
    silent = [frame for (at, _), frame in zip(reply.writes, reply.frames, strict=False) if at < 9]
    assert silent
    assert {choice["index"] for frame in silent for choice in frame["choices"]} == {0}


def test_a_reader_that_falls_behind_holds_all_engines_back():
    async def body():
        engine = Scripted(Script(tokens=40, rate=10, slots=8))
        async with Tap(engines=[engine], **FREE) as tap:
            reply = Reply()
            asking = asyncio.get_running_loop().create_task(
                tap.send("POST", CHAT, HELLO | {"n": 2, "stream": True}, reply=reply)
            )
            await asyncio.sleep(1)
            reply.flow.pause()
            await asyncio.sleep(0.2)
            before = len(reply.writes)
            await asyncio.sleep(2)
            assert len(reply.writes) <= before + 2
            reply.flow.resume()
            await asking
            assert said(chosen(reply, 0)) == said(chosen(reply, 1))
            assert reply.flow is None

    run(body())


# Legacy completions --------------------------------------------------------------------------------------------------


@scene(Script(text="echo", slots=8), **FREE)
async def test_every_prompt_gets_its_answers(tap):
    reply = await tap.send("POST", LEGACY, {"prompt": ["one", "two"], "n": 2})
    assert [(choice["index"], choice["text"]) for choice in reply.json["choices"]] == [
        *((0, "one"), (1, "one")),
        *((2, "two"), (3, "two")),
    ]


@pytest.mark.parametrize("stream", [True, False])
def test_a_prompt_may_be_repeated(stream):
    @scene(Script(text="echo", slots=8), **FREE)
    async def repeated(tap):
        reply = await tap.send("POST", LEGACY, {"prompt": ["one", "two"], "echo": True, "stream": stream})
        texts = {0: "", 1: ""}
        for frame in reply.frames[:-1] if stream else [reply.json]:
            for choice in frame["choices"]:
                texts[choice["index"]] += choice["text"]
        assert texts == {0: "oneone", 1: "twotwo"}

    repeated()


@scene(Script(tokens=2, slots=8), **FREE)
async def test_more_than_may_be_asked_for_at_once_is_refused_by_name(tap):
    for path, body, param in (
        (CHAT, HELLO | {"n": 9}, "n"),
        (CHAT, HELLO | {"n": 0}, "n"),
        (LEGACY, {"prompt": ["x"] * 9}, "prompt"),
        (LEGACY, {"prompt": ["x"] * 3, "n": 3}, "n"),
        (LEGACY, {"prompt": "x", "n": 2, "best_of": 3}, "best_of"),
        (LEGACY, {"prompt": "x", "echo": True, "logprobs": 1}, "echo"),
        (LEGACY, {"prompt": "x", "suffix": "y"}, "suffix"),
    ):
        refused = await tap.send("POST", path, body)
        assert (refused.status, refused.json["error"]["param"]) == (400, param), body


@pytest.mark.parametrize("stream", [True, False])
def test_who_waits_for_choices_of_the_same_request_is_not_refused_in_the_middle(stream):
    """The wait is judged at the start; from then on patience counts from when one of them ended."""

    @scene(Script(tokens=6, rate=1, slots=8), client_slots=1, wait_limit=10, **FREE)
    async def check(tap):
        reply = await tap.send("POST", CHAT, HELLO | {"n": 4, "stream": stream})
        assert (reply.status, reply.end_kind) == (200, "end")
        assert reply.writes[-1][0] >= 20
        refused = await tap.send("POST", CHAT, HELLO | {"n": 8, "stream": stream})
        assert (refused.status, refused.json["error"]["type"]) == (503, "overloaded_error")
        assert "estimated wait" in refused.json["error"]["message"]

    check()


@scene(Script(tokens=12, rate=1, slots=8), client_slots=1, wait_limit=10, **FREE)
async def test_who_waits_in_vain_all_the_same_is_refused(tap):
    refused = await tap.send("POST", CHAT, HELLO | {"n": 2})
    assert refused.status == 503
    assert refused.writes[-1][0] == pytest.approx(10, abs=0.1)
    assert tap.app.admission.lines.statistics().running == 0
