"""The fleet: all engines of this server, what they serve, and whether they are there.

A name that no engine lists stands for the default model, or is refused where the operator wants that. Another model
answers in a model's stead only where the operator says so (`fallbacks`). The fleet looks after its engines for as long
as it runs, and they may come and go meanwhile. It must not know asks, nor who gets which engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from enum import StrEnum
from functools import partial
from typing import Any

from msgspec import Struct

from standpipe.chat.errors import ContextTooLong, UnknownModel
from standpipe.engines.engine import Card, Engine, Health
from standpipe.engines.guard.control_tokens import Handling
from standpipe.engines.member import EngineStatistics, Member
from standpipe.engines.names import chain, chats, default_of
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


class DefaultChange(Struct, frozen=True):
    """The default model is another one than before, or the first. `gone` is whether the former is served no more, and
    `unlisted` whether no engine lists the one that the operator named."""

    model: str
    former: str | None
    gone: bool
    unlisted: bool


class Fleet:
    """At least one engine. `default_model` is the operator's wish; None means that one is chosen (`names`)."""

    def __init__(self, engines: Sequence[Engine], default_model: str | None = None) -> None:
        if not engines:
            raise ValueError("a fleet needs at least one engine")
        self.members = tuple(Member(engine) for engine in engines)
        """Replaced by another tuple when engines come and go."""
        self._wished = default_model
        self._default: str | None = None
        self._embedder: str | None = None
        self._listed: frozenset[str] = frozenset()
        self._served: list[tuple[Member, tuple[str, ...], dict[str, int], tuple[str, ...]]] = []
        self.fallbacks: Mapping[str, Sequence[str]] = {}
        """Models that may answer in a model's stead, in order."""
        self.strict = False
        """Whether a name that no engine lists is refused."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when an engine went down or came back."""
        self.on_models: Callable[[], None] = lambda: None
        """Called when engines came or went, or serve other models than before."""
        self.on_default: Callable[[DefaultChange], None] = lambda _: None
        """Called when the default model has been chosen, or has changed."""
        self.on_left: Callable[[Member], None] = lambda _: None
        """Called when an engine has left for good."""
        self._watch_over: Callable[[Member], None] = lambda _: None
        self._watchers: dict[Member, tuple[asyncio.Task[None], ...]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def slots(self) -> int:
        """How many asks all engines together could work on at a time."""
        return sum(member.slots for member in self.members)

    def models(self) -> tuple[str, ...]:
        """The names that all engines list, the default first."""
        names = [name for member in self.members for name in member.models]
        return tuple(dict.fromkeys(([] if self._default is None else [self._default]) + names))

    def resolve(self, name: str | None) -> str:
        """The model that an ask for this name is meant for, as far as that can be known before it is answered.

        Raises UnknownModel where names are taken strictly.
        """
        if self.strict and name and self._listed and name not in self._listed:
            raise UnknownModel("No such model here. See GET /v1/models for the list.", param="model")
        return self.wanted(name) or self.members[0].engine.name

    def wanted(self, name: str | None, *, embeds: bool = False) -> str | None:
        """The listed model that this name means: itself, else the default, for vectors the first that only makes
        those. None while no engine has told its models."""
        if name in self._listed:
            return name
        return (self._embedder if embeds else None) or self._default

    def rank(self, member: Member, name: str | None, *, embeds: bool = False) -> int | None:
        """How well an engine serves this name: 0 as itself, more in its stead; None when it must not."""
        wanted = self.wanted(name, embeds=embeds)
        if wanted is None or wanted in member.models or not member.models:
            return 0  # one that tells no names decides for itself
        for rank, other in enumerate(self.fallbacks.get(wanted, ()), 1):
            if other in member.models:
                return rank
        return None

    def model_at(self, member: Member, name: str | None, *, embeds: bool = False) -> str | None:
        """What to ask this engine for: never a name that it does not know, where its names are known."""
        if not member.models:
            return self._wished
        wanted = self.wanted(name, embeds=embeds)
        if wanted is None or wanted in member.models:
            return wanted
        return next((model for model in chain(wanted, self.fallbacks) if model in member.models), None)

    def window_at(self, member: Member, name: str | None) -> int | None:
        """The window of the model that this engine would answer with, in tokens; None where that is not known."""
        if not member.windows:
            return None
        model = self.model_at(member, name)
        return None if model is None else member.windows.get(model)

    def sees(self, name: str | None) -> bool:
        """Whether any engine that serves this name may be shown images for it."""
        return any(self.sees_at(member, name) for member in self.members if self.rank(member, name) is not None)

    def sees_at(self, member: Member, name: str | None) -> bool:
        """Whether the model that this engine would answer with may be shown images."""
        if member.placement.sees:
            return True  # whether or not it has told its models
        return bool(member.sees) and self.model_at(member, name) in member.sees

    def seers(self) -> tuple[str, ...]:
        """All models that may be shown images."""
        return tuple(dict.fromkeys(name for member in self.members for name in member.sees))

    def refuse_what_cannot_fit(self, name: str | None, least: int) -> None:
        """Raises ContextTooLong where every engine that serves this name has a smaller window than the prompt's."""
        largest = 0
        for member in self.members:
            window = self.window_at(member, name)
            if least < window if window is not None else self.rank(member, name) is not None:
                return
            largest = max(largest, window or 0)
        if largest:
            raise ContextTooLong.of(least, largest)

    def card(self, model: str) -> Card:
        """What is known of a listed model: what the engines that list it tell, the smallest window of theirs."""
        cards = [member.card(model) for member in self.members if model in member.models]
        windows = [card.window for card in cards if card.window]
        chats = next((card.chats for card in cards if card.chats is not None), None)
        return Card(min(windows, default=None), chats, any(card.sees for card in cards))

    def _relist(self) -> None:
        """Engines have told their models: the default may have to be chosen, or chosen anew."""
        listed = {name: chats(name, self.card(name).chats) for name in self.models()}
        self._listed = frozenset(name for member in self.members for name in member.models)
        for stale in listed.keys() - self._listed:
            del listed[stale]
        self._embedder = next((name for name, can in listed.items() if not can), None)
        former, self._default = self._default, default_of(listed, self._wished, self._default)
        if self._default is not None and self._default != former:
            gone = former is not None and former not in listed
            unlisted = self._wished is not None and self._wished not in listed
            self.on_default(DefaultChange(self._default, former, gone, unlisted))
        served = [(member, member.models, member.windows, member.sees) for member in self.members]
        if served != self._served:
            self._served = served
            self.on_models()

    def believe(self, default: str | None, embedder: str | None) -> None:
        """Go by what another process has found of the same engines, which has told its `members` as well."""
        self._default, self._embedder = default, embedder
        self._listed = frozenset(name for member in self.members for name in member.models)
        self.on_models()

    # What is told

    @property
    def found(self) -> tuple[str | None, str | None]:
        """The default model, and the one for vectors where the default makes none."""
        return self._default, self._embedder

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

    # Who comes and goes

    def join(self, *members: Member) -> None:
        """Take in engines that have told their health and models (`Member.refresh`), or could not."""
        self.members += members
        for member in members:
            self._watch_over(member)
        self._relist()
        self.on_change()

    def drain(self, member: Member) -> None:
        """Give it nothing new; what runs there goes on."""
        member.draining = True
        self.on_change()

    def resume(self, member: Member) -> None:
        """Give it asks again, also when it was about to leave."""
        if member.leaving is not None:
            member.leaving.cancel()
            member.leaving = None
        member.draining = False
        self.on_change()

    def change(self, member: Member, fresh: Member, *, close: bool = True) -> None:
        """Go on with another engine in a member's place, or with the same one differently (`Member.become`). The one
        that was there is closed when nothing runs on it any more, unless `close` is false."""
        former = member.engine
        member.become(fresh)
        self._forget(member)
        self._watch_over(member)
        self._relist()
        self.on_change()
        if close:
            self._later(self._retire(member, former))

    def _forget(self, member: Member) -> None:
        for task in self._watchers.pop(member, ()):
            task.cancel()

    async def _retire(self, member: Member, engine: Engine) -> None:
        try:
            await member.left(engine)
        finally:
            await engine.close()

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have something done that this fleet ends when it is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    def leave(self, member: Member) -> None:
        """Drain it, and let go of it when nothing runs there any more. Raises ValueError if no other would be left."""
        if all(other.leaving for other in self.members if other is not member):
            raise ValueError("it is the last engine")
        self.drain(member)
        if member.leaving is None:
            member.leaving = self._later(self._see_off(member))

    async def _see_off(self, member: Member) -> None:
        await member.emptied()
        self.members = tuple(other for other in self.members if other is not member)
        self._forget(member)
        self._relist()
        self.on_change()
        self.on_left(member)
        await self._retire(member, member.engine)

    # Care

    async def refresh(self) -> None:
        """Ask every engine for its health and its models."""
        async with asyncio.TaskGroup() as group:
            for member in self.members:
                group.create_task(member.refresh())
        self._relist()
        self.on_change()

    async def watch(self, notice: Notice) -> None:
        """Keep an eye on every engine, for ever, and probe each once. `notice` is told of every change."""
        try:
            async with asyncio.TaskGroup() as group:
                self._watch_over = partial(self._begin_to_watch, group, notice)
                for member in self.members:
                    self._watch_over(member)
        finally:
            self._watch_over = lambda _: None

    def _begin_to_watch(self, group: asyncio.TaskGroup, notice: Notice, member: Member) -> None:
        tasks = self._watch(member, notice), self._probe(member, notice)
        self._watchers[member] = tuple(map(group.create_task, tasks))

    async def _watch(self, member: Member, notice: Notice) -> None:
        loop = asyncio.get_running_loop()
        up = trusted = True

        def tell() -> None:
            nonlocal up, trusted
            if up != member.up:
                up = member.up
                notice(Change.UP if up else Change.DOWN, member.statistics(loop.time()))
            state = member.standing.breaker.state
            if trusted != (state is BreakerState.CLOSED) and state in {BreakerState.CLOSED, BreakerState.OPEN}:
                trusted = state is BreakerState.CLOSED
                notice(Change.TRUSTED if trusted else Change.EJECTED, member.statistics(loop.time()))

        while True:
            await asyncio.sleep(_TICK)
            tell()  # what asks have found out
            due = member.looked_at + (_TICK if member.elsewhere or member.standing.suspected(loop.time()) else REFRESH)
            if loop.time() >= due:
                was, crowd = (member.up, member.models), member.elsewhere
                await member.refresh()
                if member.elsewhere < crowd:
                    self.on_change()
                if (member.up, member.models) != was:
                    self._relist()
                    self.on_change()
                tell()

    async def _probe(self, member: Member, notice: Notice) -> None:
        if await member.probe() is Handling.READS_ANYWAY:
            notice(Change.FORGEABLE, member.statistics(asyncio.get_running_loop().time()))

    async def close(self) -> None:
        """Let go of every engine, also when one of them fails to."""
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        async with AsyncExitStack() as stack:
            for member in self.members:
                stack.push_async_callback(member.engine.close)

    def __repr__(self) -> str:
        busy = ", ".join(f"{m.engine.name} {m.busy}/{m.slots} {m.standing.breaker.state}" for m in self.members)
        return f"<Fleet {busy}>"
