"""An ask for embeddings through the whole walk."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from standpipe.chat.ask import EmbedAsk, Vectors
from standpipe.chat.errors import ContextTooLong, EngineFailed, Failure, InvalidAsk
from standpipe.engines.scripted.script import Script
from standpipe.engines.scripted.scripted import Scripted
from tests.serve.driver import Reply, Tap
from tests.virtual import run

PATH = "/v1/embeddings"


class Embedding(Scripted):
    """A scripted engine that embeds, too: each text becomes its length."""

    def __init__(self, script: Script, *, seconds: float = 0.0, fault: Failure | None = None) -> None:
        super().__init__(script)
        self.seconds = seconds
        self.fault = fault
        self.embedded: list[EmbedAsk] = []
        self.cancelled = 0

    async def embed(self, ask: EmbedAsk) -> Vectors:
        self.embedded.append(ask)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fault is not None:
            raise self.fault
        return Vectors(tuple((float(len(text)), 0.5) for text in ask.texts), "embedder", 7)


def scene(engine: Scripted, **settings: Any):
    def decorate(function):
        async def body():
            async with Tap(engines=[engine], **settings) as tap:
                await function(tap, engine)

        def test():
            run(body())

        test.__name__ = function.__name__
        return test

    return decorate


@scene(Embedding(Script(model="m")))
async def test_texts_become_vectors(tap, engine):
    reply = await tap.send("POST", PATH, {"input": ["a", "bcd"], "model": "m", "dimensions": 2, "user": "x", "n": 1})
    assert reply.status == 200
    assert [one["embedding"] for one in reply.json["data"]] == [[1.0, 0.5], [3.0, 0.5]]
    assert reply.json["model"] == "embedder"
    assert reply.json["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert reply.headers["x-standpipe-dropped"] == "n"
    assert engine.embedded == [EmbedAsk(("a", "bcd"), "m", 2)]


@scene(Embedding(Script()))
async def test_it_is_recorded_like_any_ask(tap, engine):
    await tap.send("POST", PATH, {"input": "a"})
    await tap.send("POST", PATH, {"input": ""})
    whole, refused = tap.asks
    assert (whole["dialect"], whole["status"], whole["prompt_tokens"], whole["attempts"]) == (
        "openai_embeddings",
        200,
        7,
        1,
    )
    assert (refused["status"], refused["failure"]) == (400, "InvalidAsk")


@scene(Scripted(Script()))
async def test_where_no_engine_embeds_it_is_a_clear_400(tap, engine):
    reply = await tap.send("POST", PATH, {"input": "a"})
    assert reply.status == 400
    assert reply.json["error"]["message"] == "No engine on this server offers embeddings."
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("fault", "status", "param"),
    [
        (EngineFailed("It broke off."), 502, None),
        (ContextTooLong("`messages` do not fit.", param="messages"), 400, "input"),
        (InvalidAsk("No."), 400, None),
    ],
)
def test_an_engines_failure_is_answered_in_the_clients_words(fault, status, param):
    @scene(Embedding(Script(), fault=fault))
    async def failing(tap, engine):
        reply = await tap.send("POST", PATH, {"input": "a"})
        assert (reply.status, reply.json["error"]["param"]) == (status, param)
        assert tap.center.line.statistics().running == 0

    failing()


def charged(tap):
    """What the line is told of each ask's cost, from now on."""
    told: list[dict[str, Any]] = []
    settle = tap.center.line.settle

    def listen(place, **cost):
        told.append(cost)
        settle(place, **cost)

    tap.center.line.settle = listen
    return told


@scene(Embedding(Script()))
async def test_it_is_charged_for_what_the_engine_read(tap, engine):
    told = charged(tap)
    await tap.send("POST", PATH, {"input": ["a", "b"]})
    assert [(cost["prompt_tokens"], cost["completion_tokens"]) for cost in told] == [(7, 0)]


@scene(Embedding(Script(), fault=EngineFailed("It broke off.")))
async def test_what_failed_costs_nothing(tap, engine):
    told = charged(tap)
    await tap.send("POST", PATH, {"input": "a"})
    assert [(cost["prompt_tokens"], cost["completion_tokens"]) for cost in told] == [(0, 0)]


@scene(Embedding(Script(slots=1), seconds=2), pace_interval=0)
async def test_it_waits_in_the_same_line_and_takes_a_slot(tap, engine):
    async with asyncio.TaskGroup() as group:
        started = asyncio.get_running_loop().time()
        first = group.create_task(tap.send("POST", PATH, {"input": "a"}))
        second = group.create_task(tap.send("POST", PATH, {"input": "b"}, peer="192.0.2.9"))
        await asyncio.sleep(1)
        assert (tap.center.line.statistics().running, tap.center.line.statistics().waiting) == (1, 1)
    assert asyncio.get_running_loop().time() - started == pytest.approx(4)
    assert first.result().status == second.result().status == 200
    assert tap.app.fleet.statistics().busy == 0


@scene(Embedding(Script(slots=1), seconds=60), pace_interval=0)
async def test_a_client_that_leaves_stops_the_work(tap, engine):
    reply = Reply()
    asking = asyncio.get_running_loop().create_task(tap.send("POST", PATH, {"input": "a"}, reply=reply))
    await asyncio.sleep(1)
    asking.cancel()
    await asyncio.wait((asking,))
    assert engine.cancelled == 1
    assert tap.asks[-1]["status"] == 499
    assert (tap.center.line.statistics().running, tap.app.fleet.statistics().busy) == (0, 0)


@scene(Embedding(Script()), pace_interval=1, pace_waiting=0)
async def test_it_is_paced_like_any_ask(tap, engine):
    assert (await tap.send("POST", PATH, {"input": "a"})).status == 200
    assert (await tap.send("POST", PATH, {"input": "a"})).status == 429
    await asyncio.sleep(1)
    assert (await tap.send("POST", PATH, {"input": "a"})).status == 200


class Uncounted(Embedding):
    """It tells no count, like Ollama."""

    async def embed(self, ask: EmbedAsk) -> Vectors:
        return replace(await super().embed(ask), prompt_tokens=None)


@scene(Uncounted(Script()))
async def test_who_is_told_no_count_by_the_engine_is_told_a_guess(tap, engine):
    reply = await tap.send("POST", PATH, {"input": ["a few words to be read"]})
    assert 3 <= reply.json["usage"]["prompt_tokens"] <= 12
