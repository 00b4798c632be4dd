"""What an engine is: whatever answers an ask, by pushing events into a sink.

Events are pushed, not pulled: bytes that arrive on an engine's socket become events and then bytes on the client's
socket inside one callback, with no queue and no task switch in between. An engine that is written as an async
iterator joins through `relay`. Whatever stands between derives from `EngineWrapper` and `SinkWrapper`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct
from msgspec.structs import replace

from standpipe.chat.ask import Ask, Beginning, EmbedAsk, Vectors
from standpipe.chat.events import Event, Started
from standpipe.engines.guard.control_tokens import Handling
from standpipe.flow import Flow


class Sink(Protocol):
    """Where one answer's events go."""

    def connect(self, flow: Flow | None) -> None:
        """From now on this flow is what to hold back; None when there is none any more. A new attempt connects
        anew. A sink whose client is behind already pauses the new flow at once."""
        ...

    def take(self, events: list[Event]) -> None:
        """Take one batch, in the legal order of `chat.events`. An empty one tells that the engine lives, and nothing
        else. Called on the event loop, must not block. Raising ends the answer: the engine stops its work and lets
        the exception through."""
        ...


class Health(Struct, frozen=True):
    """What is known of an engine. `reason` is a public sentence when it is not up; `restarts` counts how often it was
    started again, where that is known, so that even a short absence is noticed. `at_work` counts the asks
    that it has, whoever sent them, where it tells that, and `queued` those of them that wait there."""

    up: bool
    reason: str | None = None
    restarts: int = 0
    at_work: int | None = None
    queued: int = 0


class NeedsTemplate(Exception):
    """The engine takes no prompt without a chat template: a raw ask has to be asked as a chat."""


class Engine(Protocol):
    """Whatever answers an ask."""

    name: str
    """Short and public: no credentials, no path."""
    slots: int
    """How many asks it really works on at a time. It is never given more."""

    def answer(self, ask: Ask, sink: Sink) -> Coroutine[Any, Any, None]:
        """Answer one ask: push Started, deltas and Finished (never Waiting, never Failed), then return, with the
        engine's connection closed or given back.

        Cancelling this stops the engine's work at once. Raises EngineFailed, EngineTimeout, or a client's fault
        (InvalidAsk, Unsupported, UnknownModel) that the engine found; NeedsTemplate, before any event, for a raw ask
        (its guard sees to that).
        """
        ...

    async def models(self) -> tuple[str, ...]:
        """The names it serves, the default first. Raises EngineFailed."""
        ...

    async def health(self) -> Health:
        """Ask whether it is up. Never raises."""
        ...

    async def close(self) -> None:
        """Let go of everything. Idempotent."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """An engine that may also turn texts into vectors. Most engines are none."""

    async def embed(self, ask: EmbedAsk) -> Vectors:
        """One vector for each text, in order. Cancelling this stops the engine's work at once.

        Raises EngineFailed, EngineTimeout, a client's fault that the engine found, or Unsupported when the engine
        turns out to make no embeddings.
        """
        ...


class Card(Struct, frozen=True):
    """What an engine tells of one of its models. `window` is how many tokens prompt and answer may have together, None
    where it does not say; `chats` is false for one that makes embeddings only, None where it does not say. `sees` is
    whether it may be shown images, None where it does not say."""

    window: int | None = None
    chats: bool | None = None
    sees: bool | None = None


_BLANK = Card()


@runtime_checkable
class Described(Protocol):
    """An engine that tells more of its models than their names."""

    def card(self, model: str, /) -> Card:
        """What it last told of a model that it lists."""
        ...


@runtime_checkable
class Continuer(Protocol):
    """An engine that can go on with what another one has begun to say."""

    def continues(self, ask: Ask, begun: Beginning) -> bool:
        """Whether it goes on with this answer to this ask, as far as is known."""
        ...


@runtime_checkable
class Probed(Protocol):
    """An engine behind a guard that can measure what the engine does with control tokens in a client's text."""

    @property
    def handling(self) -> Handling | None:
        """What was found; None before it was looked for."""
        ...

    async def probe(self) -> Handling:
        """Find out, at the cost of three short prompts. Never raises a Failure."""
        ...


class EngineWrapper:
    """Stands before an engine and passes on all but the asking. It embeds if the engine does, and only then has an
    `embed`; so it is with `continues`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.slots = engine.slots
        if isinstance(engine, Embedder):
            self.embed = engine.embed
        if isinstance(engine, Continuer):
            self.continues = engine.continues

    def card(self, model: str, /) -> Card:
        return self._engine.card(model) if isinstance(self._engine, Described) else _BLANK

    async def models(self) -> tuple[str, ...]:
        return await self._engine.models()

    async def health(self) -> Health:
        return await self._engine.health()

    async def close(self) -> None:
        await self._engine.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._engine!r}>"


class ProbedWrapper(EngineWrapper):
    """Passes on, too, what the engine's guard has found, if it has one."""

    @property
    def handling(self) -> Handling | None:
        return self._engine.handling if isinstance(self._engine, Probed) else None

    async def probe(self) -> Handling:
        return await self._engine.probe() if isinstance(self._engine, Probed) else Handling.UNCLEAR


class SinkWrapper:
    """Stands before a sink. Whoever derives from it takes the events."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def connect(self, flow: Flow | None) -> None:
        self._sink.connect(flow)


class _Lacking(SinkWrapper):
    """Tells what of the ask the engine does without."""

    def __init__(self, sink: Sink, names: tuple[str, ...]) -> None:
        super().__init__(sink)
        self._names = names

    def take(self, events: list[Event]) -> None:
        if events and isinstance(began := events[0], Started):
            events = [replace(began, dropped=(*began.dropped, *self._names)), *events[1:]]
        self._sink.take(events)


def lacking(sink: Sink, names: tuple[str, ...]) -> Sink:
    """A sink that is told that the engine does without these fields of the ask, if any."""
    return _Lacking(sink, names) if names else sink


class _Gate:
    """The Flow of an async iterator: the relay waits here between batches."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    def pause(self) -> None:
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        if not self._open.is_set():
            await self._open.wait()


async def relay(batches: AsyncIterator[list[Event]], sink: Sink) -> None:
    """Push an async iterator's batches into a sink, holding back when told to."""
    gate = _Gate()
    sink.connect(gate)
    try:
        async for events in batches:
            await gate.passed()
            sink.take(events)
    finally:
        sink.connect(None)
