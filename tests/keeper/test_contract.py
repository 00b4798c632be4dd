"""Whoever asks a worker is answered as by a single process: the same bytes, headers, log lines and instants."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from standpipe.app import center
from standpipe.chat.ask import Beginning
from standpipe.chat.errors import EngineBroke, EngineDown, EngineFailed, InvalidAsk
from standpipe.chat.events import Finished, FinishReason, Started, TextDelta, Usage
from standpipe.engines.engine import Health
from standpipe.engines.scripted.script import Fault, FaultKind, Script
from standpipe.engines.scripted.scripted import Scripted
from tests.keeper.rig import Tapped
from tests.serve.driver import Reply, Tap
from tests.serve.test_embeddings_walk import Embedding
from tests.virtual import run

Scene = Callable[[Any], Awaitable[list[Reply | int]]]


class Mortal(Scripted):
    """An engine that can be killed, or dies of a word, and goes on with what another one began."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.alive = True

    async def answer(self, ask: Any, sink: Any) -> None:
        if not self.alive:
            raise EngineDown("The engine cannot be reached.")
        if ask.messages[-1].text == "poison":
            self.alive = False
            raise EngineBroke("The connection to the engine was lost.")
        if ask.begun is None:
            await super().answer(ask, sink)
        else:
            said = len(ask.begun.text)
            sink.take([Started(), TextDelta(f" [{said}]"), Finished(FinishReason.STOP, Usage(9, 4))])

    async def health(self) -> Health:
        return Health(up=self.alive)

    def continues(self, _: Any, __: Beginning) -> bool:
        return True


async def later(seconds: float, work: Awaitable[Any]) -> Any:
    await asyncio.sleep(seconds)
    return await work


async def formats(tap: Any) -> list[Reply | int]:
    said = [{"role": "user", "content": "hello"}]
    bodies: dict[str, dict[str, Any]] = {
        "/api": {"messages": said},
        "/v1/chat/completions": {"messages": said, "model": "x"},
        "/v1/messages": {"messages": said, "model": "x", "max_tokens": 20},
        "/v1/responses": {"input": "hello", "model": "x"},
        "/api/chat": {"messages": said, "model": "x"},
        "/v1/completions": {"prompt": "hello", "model": "x"},
    }
    replies = []
    for path, body in bodies.items():
        for stream in (False, True):
            replies.append(await tap.send("POST", path, body | {"stream": stream}))  # noqa: PERF401 - one by one
    return replies


async def crowd(tap: Any) -> list[Reply | int]:
    asks = [tap.ask(f"ask {i}", peer=f"10.0.{i}.1", stream=i % 2 == 0) for i in range(9)]
    tasks = [asyncio.create_task(later(i / 8, ask)) for i, ask in enumerate(asks)]
    await asyncio.sleep(2.5)
    limits = await tap.send("GET", "/api/limits", peer="10.0.8.1")
    return [limits, *(await asyncio.gather(*tasks))]


async def pace(tap: Any) -> list[Reply | int]:
    now = {"prefer": "wait=0"}
    asks = [tap.ask(stream=i % 2 == 0, headers=now if i == 3 else {}) for i in range(12)]
    tasks = [asyncio.create_task(later(i / 1000, ask)) for i, ask in enumerate(asks)]
    await asyncio.sleep(0.1)
    unread = [await tap.send("POST", "/api", b"{") for _ in range(3)]
    return [*unread, *(await asyncio.gather(*tasks)), await tap.send("GET", "/api/limits")]


async def choices(tap: Any) -> list[Reply | int]:
    body = {"messages": [{"role": "user", "content": "hello"}], "model": "x", "n": 4}
    sent = [tap.send("POST", "/v1/chat/completions", body | {"stream": stream}) for stream in (True, False)]
    return [await one for one in sent]


async def faults(tap: Any) -> list[Reply | int]:
    replies = [await tap.send("POST", "/api", b"{") for _ in range(14)]
    return [*replies, await tap.ask(), await tap.send("GET", "/api/limits")]


async def large(tap: Any) -> list[Reply | int]:
    asks = [tap.ask("many words " * 150_000, stream=False) for _ in range(3)]
    replies = await asyncio.gather(*(later(i / 10, ask) for i, ask in enumerate(asks)))
    return [*replies, await tap.ask(), await tap.send("GET", "/api/limits")]


async def impatience(tap: Any) -> list[Reply | int]:
    first = asyncio.create_task(tap.ask(peer="10.0.1.1"))
    await asyncio.sleep(1)
    refused = [
        await tap.ask(peer="10.0.2.1", headers={"prefer": "wait=0"}),
        await tap.ask(peer="10.0.3.1", headers={"x-stainless-timeout": "2"}),
        await tap.send("POST", "/v1/messages", {"messages": [], "model": "x"}, {"prefer": "wait=0"}),
    ]
    many = await asyncio.gather(
        *(tap.ask(f"{i}", peer="10.0.4.1", headers={"x-stainless-timeout": "3"}) for i in range(5))
    )
    return [*refused, *many, await first]


async def failures(tap: Any) -> list[Reply | int]:
    return [await tap.ask(f"{i}", peer=f"10.0.{i}.1", stream=i % 2 == 0) for i in range(6)]


async def deaths(tap: Any) -> list[Reply | int]:
    whole = asyncio.create_task(tap.ask(peer="10.0.1.1", stream=False))
    asks = [tap.ask(f"{i}", peer=f"10.0.2{i}.1") for i in range(4)]
    streams = [asyncio.create_task(later(i / 100, ask)) for i, ask in enumerate(asks, 1)]
    await asyncio.sleep(2)
    tap.engines[0].alive = False
    await asyncio.sleep(20)
    tap.engines[0].alive = True
    return [await whole, *(await asyncio.gather(*streams)), await later(12, tap.ask(peer="10.0.3.1"))]


async def poison(tap: Any) -> list[Reply | int]:
    replies = []
    for second in range(4):
        reply = asyncio.create_task(tap.ask("poison", peer=f"10.0.{second}.1", stream=False))
        for _ in range(30):
            await asyncio.sleep(1)
            for engine in tap.engines:
                engine.alive = True
        replies.append(await reply)
    return replies


async def vectors(tap: Any) -> list[Reply | int]:
    path = "/v1/embeddings"
    replies = [await tap.send("POST", path, {"input": ["a", "bcd"]}, peer=f"10.0.{i}.1") for i in range(3)]
    return [*replies, await tap.send("POST", path, {"input": ""}), await tap.send("POST", path, {"input": "a"})]


async def leavers(tap: Any) -> list[Reply | int]:
    """They leave while they wait for their instant, in line, for the first token, and in mid-stream."""
    replies = [Reply() for _ in range(4)]
    peers = ("10.0.1.1", "10.0.2.1", "10.0.2.1", "10.0.3.1")
    tasks = [tap.leaving(reply, peer=peer, stream=True) for reply, peer in zip(replies, peers, strict=True)]
    for seconds, task in zip((0.1, 0.1, 3, 7), reversed(tasks), strict=True):
        await asyncio.sleep(seconds)
        task.cancel()
    await asyncio.wait(tasks)
    await asyncio.sleep(1)
    statistics = tap.center.admission.statistics()
    busy = sum(member.busy for member in tap.center.fleet.members)
    return [*replies, statistics.running, statistics.waiting, busy, sum(engine.busy for engine in tap.engines)]


async def drained(tap: Any) -> list[Reply | int]:
    asks = [asyncio.create_task(tap.ask(peer=f"10.0.{i}.1", stream=i % 2 == 0)) for i in range(4)]
    await asyncio.sleep(1)
    (tap.post.keeper if isinstance(tap, Tapped) else tap.center.admission).drain()
    await asyncio.sleep(0.01)
    return [await tap.ask(peer="10.0.9.1"), *(await asyncio.gather(*asks))]


def engines(*scripts: Script) -> Callable[[], list[Scripted]]:
    return lambda: [Mortal(script) for script in scripts]


SLOW = Script(tokens=6, first=1, rate=2)
CASES: dict[str, tuple[Scene, Callable[[], list[Any]], dict[str, Any]]] = {
    "formats": (formats, engines(Script(tokens=5, reasoning=2)), {"pace_interval": 0}),
    "in line": (crowd, engines(Script(slots=2, tokens=6, rate=2, first=1)), {"commit_after": 1, "heartbeat": 0.5}),
    "too fast": (pace, engines(Script(tokens=2)), {"pace_waiting": 4}),
    "several": (choices, engines(Script(slots=8, tokens=6, rate=1)), {"client_slots": 1, "wait_limit": 10}),
    "unread": (faults, engines(Script(tokens=2)), {"pace_waiting": 4}),
    "large": (large, engines(Script(tokens=2)), {"body_limit": 4_000_000, "pace_waiting": 5}),
    "impatient": (impatience, engines(Script(slots=1, tokens=20, rate=2)), {"wait_limit": 10, "queue_per_client": 3}),
    "status": (failures, engines(Script(fault=Fault(FaultKind.STATUS, 503), faults=2, tokens=3)), {}),
    "cut": (failures, engines(Script(fault=Fault(FaultKind.CUT, 2), faults=3, tokens=5)), {}),
    "empty": (failures, engines(Script(fault=Fault(FaultKind.EMPTY), faults=3), Script(name="b", tokens=2)), {}),
    "refused": (failures, engines(Script(fault=Fault(FaultKind.REFUSE)), Script(name="b", tokens=2)), {}),
    "elsewhere": (deaths, engines(Script(slots=2, tokens=50, rate=4), Script(name="b", slots=3, tokens=9)), {}),
    "alone": (deaths, engines(Script(slots=2, tokens=30, rate=2)), {"wait_limit": 15}),
    "poison": (poison, engines(Script(tokens=2), Script(name="b", tokens=2)), {}),
    "vectors": (vectors, lambda: [Embedding(Script(), seconds=1)], {}),
    "no vectors": (vectors, lambda: [Scripted(Script())], {}),
    "bad vectors": (vectors, lambda: [Embedding(Script(), fault=InvalidAsk("No."))], {}),
    "failed vectors": (vectors, lambda: [Embedding(Script(), fault=EngineFailed("It broke off."))], {}),
    "leaving": (leavers, engines(Script(slots=1, tokens=40, first=5, rate=2)), {"pace_interval": 9}),
    "drained": (drained, engines(Script(slots=2, tokens=6, rate=2)), {}),
    "models": (failures, engines(Script(model="m"), Script(name="b", model="n")), {"strict_models": True}),
}


def played(kind: type[Any], name: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What everybody was sent, and when, and what the log says of them, without what is random."""
    scene, make, settings = CASES[name]
    numbers = itertools.count()
    monkeypatch.setattr(center, "_new_id", lambda: f"{next(numbers):016x}")
    monkeypatch.setattr(random, "random", lambda: 0.5)

    async def play() -> list[Any]:
        async with kind(engines=make(), **settings) as tap:
            tap.center.choice._chance = random.random
            tap.app._bodies._clock = lambda: 0.0  # reading takes real time
            replies = await scene(tap)
            lines = [bare(line) for line in tap.asks]
            return [*map(told, replies), *sorted(lines, key=lambda line: line["id"])]

    return run(play())


RANDOM = rb'"(created|created_at|completed_at)":[^,}]+|"created_at":"[^"]+"|_[0-9a-f]{32}'


def told(reply: Reply | int) -> Any:
    if isinstance(reply, int):
        return reply
    writes = [(round(at, 4), re.sub(RANDOM, b"", data)) for at, data in reply.writes]
    return getattr(reply, "status", None), getattr(reply, "headers", None), reply.end_kind, writes


def bare(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in {"timestamp", "client"}}


@pytest.mark.parametrize("name", CASES)
def test_a_worker_answers_like_a_single_process(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = played(Tap, name, monkeypatch)
    for one, other in zip(alone, played(Tapped, name, monkeypatch), strict=True):
        assert other == one
