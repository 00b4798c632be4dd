"""An engine as its operator's table places it: under public names, with a share, a rank and patience of its own.

Public names are translated here and nowhere else: an engine only ever hears its own, and a client the public ones.
Must not know other engines, nor settings.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from standpipe.chat.ask import Ask, Beginning, EmbedAsk, Vectors
from standpipe.chat.events import Event, Started
from standpipe.engines.attempt import Silence
from standpipe.engines.engine import Card, Continuer, Embedder, Engine, ProbedWrapper, Sink, SinkWrapper


class Placement(Struct, frozen=True, kw_only=True):
    """What an operator decided of one engine.

    Of engines that are equally good, each takes asks in proportion to its `weight`; one of a higher `priority` is a
    spare. `silence` None means as everywhere. `drain` begins without new asks. `window`, in tokens, is what every
    model has there, None where the engine shall tell. `sees` vouches for models that see images and do not tell.
    `models` are public names and the engine's own; none means those that it lists. `forwards` tells it whose asks it
    gets, by pseudonyms. `auto` finds out how many of its slots it really works on at a time.
    """

    weight: float = 1.0
    priority: int = 0
    silence: Silence | None = None
    drain: bool = False
    window: int | None = None
    sees: bool = False
    models: Mapping[str, str] = {}
    forwards: bool = False
    auto: bool = False


class Placed(ProbedWrapper):
    """The engine, where its operator wants it."""

    def __init__(self, engine: Engine, placement: Placement, name: str = "") -> None:
        """`name` is shown instead of the engine's own where there is one."""
        super().__init__(engine)
        self.engine = engine
        self.placement = placement
        self.name = name or engine.name
        self._translates = bool(placement.models)
        if self._translates and isinstance(engine, Embedder):
            self.embed = self._embed
        if self._translates and isinstance(engine, Continuer):
            self.continues = self._continues

    async def models(self) -> tuple[str, ...]:
        return tuple(self.placement.models) or await self._engine.models()

    def answer(self, ask: Ask, sink: Sink) -> Coroutine[Any, Any, None]:
        """As `Engine.answer`."""
        public = ask.model
        if public is None or not self._translates:
            return self._engine.answer(ask, sink)
        own = self.placement.models.get(public, public)
        return self._engine.answer(replace(ask, model=own), _Renamed(sink, public))

    def _continues(self, ask: Ask, begun: Beginning) -> bool:
        assert isinstance(self._engine, Continuer)
        model = ask.model and self.placement.models.get(ask.model, ask.model)
        return self._engine.continues(replace(ask, model=model), begun)

    async def _embed(self, ask: EmbedAsk) -> Vectors:
        assert isinstance(self._engine, Embedder)
        public = ask.model
        if public is None:
            return await self._engine.embed(ask)
        own = self.placement.models.get(public, public)
        return replace(await self._engine.embed(replace(ask, model=own)), model=public)

    def card(self, model: str, /) -> Card:
        card = super().card(self.placement.models.get(model, model))
        return replace(card, window=self.placement.window or card.window, sees=self.placement.sees or card.sees)


class _Renamed(SinkWrapper):
    """Tells the name that was asked for, whatever the engine calls itself."""

    def __init__(self, sink: Sink, model: str) -> None:
        super().__init__(sink)
        self._model = model

    def take(self, events: list[Event]) -> None:
        if events and isinstance(began := events[0], Started):
            events = [replace(began, model=self._model), *events[1:]]
        self._sink.take(events)
