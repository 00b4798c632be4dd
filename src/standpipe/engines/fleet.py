"""The fleet: all engines of this server, what they serve, and whether they are there.

A model's name is a preference: engines that list it come first; any other name stands for the default model; and where
none of those can answer, another engine does, because an answer whose true model is named is worth more than none. The
fleet looks after its engines for as long as it runs. It must not know asks, nor who gets which engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from enum import StrEnum

from msgspec import Struct

from standpipe.engines.engine import Engine, Health
from standpipe.engines.guard.control_tokens import Handling
from standpipe.engines.member import EngineStatistics, Member
from standpipe.policy.breaker import BreakerState

REFRESH = 10.0
"""Seconds between two looks at an engine's health; `_TICK` while it is suspected."""
_TICK = 1.0


class Change(StrEnum):
    """What an operator wants to know of an engine as it happens."""

    DOWN = "engine is down"
    UP = "engine is up again"
    EJECTED = "engine keeps failing and is left alone for a while"
    TRUSTED = "engine answers again"
    FORGEABLE = "engine interprets control tokens even when escaped: clients can forge chat turns"


Notice = Callable[[Change, EngineStatistics], None]


class FleetStatistics(Struct, frozen=True):
    """All engines at one instant."""

    slots: int
    busy: int
    engines: tuple[EngineStatistics, ...]


class Fleet:
    """At least one engine. The first is the default, unless `default_model` says otherwise: the model that any unknown
    name stands for; None means the first engine's first."""

    def __init__(self, engines: Sequence[Engine], default_model: str | None = None) -> None:
        if not engines:
            raise ValueError("a fleet needs at least one engine")
        self.members = tuple(Member(engine) for engine in engines)
        self._default_model = default_model
        self.on_change: Callable[[], None] = lambda: None
        """Called when an engine went down or came back."""

    @property
    def slots(self) -> int:
        """How many asks all engines together could work on at a time."""
        return sum(member.engine.slots for member in self.members)

    def models(self) -> tuple[str, ...]:
        """The names that all engines list, the default first."""
        default = self.wanted(None)
        names = [name for member in self.members for name in member.models]
        return tuple(dict.fromkeys(([] if default is None else [default]) + names))

    def resolve(self, name: str | None) -> str:
        """The model that an ask for this name is meant for, as far as that can be known before it is answered."""
        return self.wanted(name) or self.members[0].engine.name

    def wanted(self, name: str | None) -> str | None:
        """The listed model that this name means. None while no engine that matters has told its models."""
        for wanted in (name, self._default_model):
            if wanted is not None and any(wanted in member.models for member in self.members):
                return wanted
        models = self.members[0].models
        return models[0] if models else None

    def model_at(self, member: Member, name: str | None) -> str | None:
        """What to ask this engine for: never a name that it does not know, where its names are known."""
        if name in member.models:
            return name
        wanted = self.wanted(name)
        if wanted in member.models:
            return wanted
        return member.models[0] if member.models else self._default_model

    # What is told

    def health(self) -> Health:
        """Whether any engine can be asked; the default engine's reason when none can."""
        now = asyncio.get_running_loop().time()
        if any(member.up and member.standing.breaker.admits(now) for member in self.members):
            return Health(up=True)
        return Health(up=False, reason=self.members[0].reason or "No engine has responded recently.")

    def away(self, now: float) -> float | None:
        """Seconds for which no engine has been there; None while one is."""
        since = [member.standing.down_since for member in self.members]
        if any(instant is None for instant in since):
            return None
        return now - max(instant for instant in since if instant is not None)

    def opens_in(self, now: float) -> float | None:
        """Seconds until an engine that is there may be given an ask: 0 while one may, None while none is there."""
        instants = [member.standing.opens_at(now) or now for member in self.members if member.up]
        return min(instants) - now if instants else None

    def statistics(self) -> FleetStatistics:
        now = asyncio.get_running_loop().time()
        return FleetStatistics(
            slots=self.slots,
            busy=sum(member.busy for member in self.members),
            engines=tuple(member.statistics(now) for member in self.members),
        )

    # Care

    async def refresh(self) -> None:
        """Ask every engine for its health and its models."""
        async with asyncio.TaskGroup() as group:
            for member in self.members:
                group.create_task(member.refresh())
        self.on_change()

    async def watch(self, notice: Notice) -> None:
        """Keep an eye on every engine, for ever, and probe each once. `notice` is told of every change."""
        async with asyncio.TaskGroup() as group:
            for member in self.members:
                group.create_task(self._watch(member, notice))
                group.create_task(self._probe(member, notice))

    async def _watch(self, member: Member, notice: Notice) -> None:
        loop = asyncio.get_running_loop()
        up = trusted = True
        while True:
            await asyncio.sleep(_TICK)
            due = member.looked_at + (_TICK if member.standing.suspected(loop.time()) else REFRESH)
            if loop.time() >= due:
                was = member.up
                await member.refresh()
                if member.up != was:
                    self.on_change()
            if up != member.up:
                up = member.up
                notice(Change.UP if up else Change.DOWN, member.statistics(loop.time()))
            state = member.standing.breaker.state
            if trusted != (state is BreakerState.CLOSED) and state in {BreakerState.CLOSED, BreakerState.OPEN}:
                trusted = state is BreakerState.CLOSED
                notice(Change.TRUSTED if trusted else Change.EJECTED, member.statistics(loop.time()))

    async def _probe(self, member: Member, notice: Notice) -> None:
        if await member.probe() is Handling.READS_ANYWAY:
            notice(Change.FORGEABLE, member.statistics(asyncio.get_running_loop().time()))

    async def close(self) -> None:
        """Let go of every engine, also when one of them fails to."""
        async with AsyncExitStack() as stack:
            for member in self.members:
                stack.push_async_callback(member.engine.close)

    def __repr__(self) -> str:
        busy = ", ".join(f"{m.engine.name} {m.busy}/{m.engine.slots} {m.standing.breaker.state}" for m in self.members)
        return f"<Fleet {busy}>"
