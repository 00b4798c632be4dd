"""What tests of the pool share: engines that do as they are told, and asks that are answered or fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from standpipe.chat.ask import Ask, Message, Role, Text
from standpipe.chat.errors import Failure
from standpipe.chat.events import Event, Finished, FinishReason
from standpipe.engines.attempt import Report
from standpipe.engines.choice import FleetChoice
from standpipe.engines.engine import Engine, Health, Sink
from standpipe.engines.fleet import Change, Fleet
from standpipe.engines.pool import Pool
from standpipe.engines.scripted.script import read_script
from standpipe.engines.scripted.scripted import Scripted
from standpipe.engines.seats import Journey
from tests.virtual import Collected

DONE = Finished(FinishReason.STOP)


def ask(model: str | None = None) -> Ask:
    return Ask(messages=(Message(Role.USER, (Text("Hello"),)),), model=model)


def scripted(query: str = "") -> Scripted:
    return Scripted(read_script(f"scripted:?{query}"))


Behaviour = Callable[[Ask, Sink], Awaitable[None]]


class Puppet:
    """An engine whose behaviour is a function, for what a script cannot say."""

    def __init__(
        self, behaviour: Behaviour, name: str = "puppet", slots: int = 4, models: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.slots = slots
        self.listed = models
        self.behaviour = behaviour
        self.asked: list[Ask] = []
        self.closed = 0

    async def answer(self, ask: Ask, sink: Sink) -> None:
        self.asked.append(ask)
        await self.behaviour(ask, sink)

    async def models(self) -> tuple[str, ...]:
        return self.listed

    async def health(self) -> Health:
        return Health(up=True)

    async def close(self) -> None:
        self.closed += 1


def says(*events: Event) -> Behaviour:
    async def behave(_: Ask, sink: Sink) -> None:
        for event in events:
            sink.take([event])

    return behave


def raises(failure: BaseException) -> Behaviour:
    async def behave(_: Ask, __: Sink) -> None:
        raise failure

    return behave


async def pool_of(*engines: Engine, **options) -> Pool:
    """A refreshed pool, without jitter: each backoff has its full length."""
    pool = raw_pool_of(*engines, **{"chance": lambda: 1.0} | options)
    await pool.fleet.refresh()
    return pool


def raw_pool_of(*engines: Engine, default_model: str | None = None, **options) -> Pool:
    """A pool whose engines have told nothing yet."""
    chosen = {name: options.pop(name) for name in ("attempts", "affinity_slack", "chance") if name in options}
    return Pool(FleetChoice(Fleet(engines, default_model), **chosen), **options)


@asynccontextmanager
async def watched(pool: Pool) -> AsyncIterator[list[tuple[Change, str]]]:
    """Somebody looks after the engines. Gives what was noticed, as it comes."""
    noticed: list[tuple[Change, str]] = []
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(pool.fleet.watch(lambda change, engine: noticed.append((change, engine.name))))
        yield noticed
        watching.cancel()


def choice_of(pool: Pool) -> FleetChoice:
    """Who chooses for it."""
    assert isinstance(pool.choice, FleetChoice)
    return pool.choice


def room(pool: Pool) -> int:
    """How many more asks would find a seat now."""
    return choice_of(pool).seats.usable(now(), pool.fleet.members)[1]


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def running(pool: Pool, *, model: str | None = None) -> AsyncIterator[Collected]:
    """An ask that is answered beside the scene, and whose client leaves at the end of it."""
    sink = Collected()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(pool.answer(ask(model), sink))
        await asyncio.sleep(0)
        yield sink
        task.cancel()


async def answered(pool: Pool, model: str | None = None) -> tuple[Report, Collected]:
    report, sink = Report(), Collected()
    await pool.answer(ask(model), sink, Journey(report, model=model))
    return report, sink


async def failed(pool: Pool, model: str | None = None, patience: float = 60.0) -> tuple[Report, Collected, Failure]:
    report, sink = Report(), Collected()
    with pytest.raises(Failure) as caught:
        await pool.answer(ask(model), sink, Journey(report, model=model, patience=patience))
    return report, sink, caught.value
