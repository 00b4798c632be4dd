"""Embeddings: which engine of a pool is asked for them, and what an OpenAI-compatible server's answer means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from standpipe.chat.ask import EmbedAsk, Vectors
from standpipe.chat.errors import EngineFailed, EngineTimeout, Failure, InvalidAsk, NoEngine, Unsupported
from standpipe.engines import upstream
from standpipe.engines.attempt import Report
from standpipe.engines.engine import Embedder
from standpipe.engines.pool import Pool
from standpipe.engines.seats import Journey
from standpipe.engines.upstream import Upstream
from standpipe.http_client.client import Client
from standpipe.policy.breaker import BreakerState
from tests.engines.peers import Peer, Script, engine
from tests.engines.puppet import DONE, Puppet, now, pool_of, says, scripted
from tests.virtual import run

ASK = EmbedAsk(("a", "bc"), "wanted")
VECTORS = Vectors(((1.0,), (2.0,)), "embedder", 3)


class Embedding(Puppet):
    """An engine that embeds as it is told."""

    def __init__(
        self, *outcomes: Vectors | Failure, name: str = "e", models: tuple[str, ...] = (), slots: int = 4
    ) -> None:
        super().__init__(says(DONE), name, slots, models)
        self.outcomes = list(outcomes)
        self.embedded: list[EmbedAsk] = []

    async def embed(self, ask: EmbedAsk) -> Vectors:
        self.embedded.append(ask)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Failure):
            raise outcome
        return outcome


def embedded(*engines: Any, ask: EmbedAsk = ASK) -> tuple[Vectors, Report, Pool]:
    async def scene() -> tuple[Vectors, Report, Pool]:
        pool = await pool_of(*engines)
        report = Report()
        vectors = await pool.embed(ask, Journey(report, model=ask.model, embeds=True))
        assert pool.fleet.statistics().busy == 0
        return vectors, report, pool

    return run(scene())


def fails(kind: type[Failure], *engines: Any) -> None:
    async def scene() -> None:
        pool = await pool_of(*engines)
        with pytest.raises(kind):
            await pool.embed(ASK)
        assert pool.fleet.statistics().busy == 0

    run(scene())


def test_an_engine_that_can_is_asked_wherever_it_stands():
    can = Embedding(VECTORS)
    vectors, report, _ = embedded(scripted("name=chat"), can)
    assert vectors == VECTORS
    assert (report.engine, report.attempts) == ("e", 1)


def test_the_one_that_lists_the_model_is_preferred_and_asked_for_it():
    other, lists = Embedding(VECTORS, models=("x",)), Embedding(VECTORS, name="lists", models=("y", "wanted"))
    _, report, _ = embedded(other, lists)
    assert (report.engine, report.model) == ("lists", "embedder")
    assert [ask.model for ask in lists.embedded] == ["wanted"]


def test_a_name_that_nobody_lists_means_the_default_one():
    can = Embedding(VECTORS, models=("x",))
    embedded(can)
    assert [ask.model for ask in can.embedded] == ["x"]


@pytest.mark.parametrize("failure", [EngineFailed("It broke off."), Unsupported("It makes none.")])
def test_another_one_is_asked_when_one_cannot(failure):
    vectors, report, _ = embedded(Embedding(failure), Embedding(VECTORS, name="other"))
    assert vectors == VECTORS
    assert (report.engine, report.attempts) == ("other", 2)


def test_each_is_asked_in_turn():
    fails(
        EngineFailed, Embedding(*[EngineFailed("It broke off.")] * 2), Embedding(*[EngineFailed("It broke off.")] * 2)
    )
    fails(Unsupported, Embedding(Unsupported("It makes none.")), scripted())


def test_what_one_finds_wrong_another_that_is_idle_may_take():
    vectors, report, _ = embedded(Embedding(InvalidAsk("Too long."), models=("wanted",)), Embedding(VECTORS))
    assert (vectors, report.attempts) == (VECTORS, 2)
    fails(InvalidAsk, Embedding(InvalidAsk("Too long."), models=("wanted",)), scripted())


def test_where_none_can_it_is_said_at_once():
    fails(Unsupported, scripted(), scripted())


def test_where_all_are_busy_it_may_be_tried_again():
    async def scene() -> None:
        pool = await pool_of(Embedding(slots=0), scripted())
        with pytest.raises(NoEngine):
            await pool.embed(ASK, Journey(embeds=True, patience=5.0))
        assert now() == 5.0

    run(scene())


def test_failures_count_against_an_engine_and_what_it_does_not_offer_does_not():
    async def scene() -> None:
        pool = await pool_of(Embedding(*[Unsupported("It makes none.")] * 9))
        for _ in range(9):
            with pytest.raises(Unsupported):
                await pool.embed(ASK)
        assert pool.fleet.statistics().engines[0].failed == 0
        assert pool.fleet.statistics().engines[0].breaker is BreakerState.CLOSED
        failing = await pool_of(Embedding(EngineFailed("It broke off.")), attempts=1)
        with pytest.raises(EngineFailed):
            await failing.embed(ASK)
        assert failing.fleet.statistics().engines[0].failed == 1

    run(scene())


# An OpenAI-compatible server ---------------------------------------------------------------------------------------


def answers(status: int, body: Any, seen: list[tuple[str, Any]] | None = None) -> Script:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def script(peer: Peer) -> None:
        first, _, sent = await peer.request()
        if seen is not None:
            seen.append((first, json.loads(sent)))
        peer.send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(data), data))
        await peer.gone()

    return script


async def embed_once(script: Script) -> Vectors:
    async with engine(script) as it:
        server = Upstream("pretended", Client(it.url), slots=1, models=("m",))
        assert isinstance(server, Embedder)
        try:
            return await server.embed(ASK)
        finally:
            await server.close()


GOOD = {
    "object": "list",
    "data": [{"object": "embedding", "index": i, "embedding": [0.5, i]} for i in range(2)],
    "model": "real",
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}


def test_a_server_is_asked_for_its_own_model():
    seen: list[tuple[str, Any]] = []
    assert run(embed_once(answers(200, GOOD, seen))) == Vectors(((0.5, 0.0), (0.5, 1.0)), "real", 3)
    ((first, body),) = seen
    assert first.startswith("POST ")
    assert "/embeddings HTTP" in first
    assert body == {"model": "m", "input": ["a", "bc"], "encoding_format": "float"}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b"", Unsupported),
        (501, {"error": {"message": "This server does not support embeddings."}}, Unsupported),
        (400, {"error": {"message": "bad input"}}, InvalidAsk),
        (503, {"error": {"message": "busy"}}, EngineFailed),
        (200, b"<html>", EngineFailed),
        (200, {"data": []}, EngineFailed),
    ],
)
def test_what_a_server_says_instead(status, body, kind):
    with pytest.raises(kind):
        run(embed_once(answers(status, body)))


def test_a_server_that_breaks_off_or_stays_silent_is_at_fault():
    async def breaks(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{")
        peer.close()

    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    with pytest.raises(EngineFailed):
        run(embed_once(breaks))
    with pytest.raises(EngineTimeout):
        run(embed_once(silent))


def test_an_answer_is_bounded(monkeypatch):
    monkeypatch.setattr(upstream, "EMBEDDINGS_LIMIT", 64)
    with pytest.raises(EngineFailed, match="too large"):
        run(embed_once(answers(200, GOOD)))
