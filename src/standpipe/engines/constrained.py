"""An engine that ignores tools, made to call them where it must: it is asked for the JSON of a call instead.

Wraps any engine. What is asked instead, and how the answer is read, is `policy.forced_calls`'s business; this only
keeps the text of such an answer back until it is whole, because half of a call's JSON is nothing to anybody.
"""

from __future__ import annotations

import secrets

from standpipe.chat.ask import Ask
from standpipe.chat.errors import EngineFailed
from standpipe.chat.events import Event, Finished, FinishReason, ReasoningDelta, Started, TextDelta
from standpipe.engines.base import Engine, Flow, Health, Sink
from standpipe.policy.forced_calls import calls, constrain, must_call


class Constrained:
    """Stands before an engine that holds to JSON schemas and ignores tools."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.slots = engine.slots

    async def answer(self, ask: Ask, sink: Sink) -> None:
        if not ask.tools:
            await self._engine.answer(ask, sink)
        elif must_call(ask):
            await self._engine.answer(constrain(ask), _Calling(ask, sink))
        else:
            await self._engine.answer(constrain(ask), sink)

    async def models(self) -> tuple[str, ...]:
        return await self._engine.models()

    async def health(self) -> Health:
        return await self._engine.health()

    async def close(self) -> None:
        await self._engine.close()

    def __repr__(self) -> str:
        return f"<Constrained {self._engine!r}>"


class _Calling:
    """A sink that turns the JSON of a call into a call."""

    def __init__(self, ask: Ask, sink: Sink) -> None:
        self._ask = ask
        self._sink = sink
        self._text: list[str] = []

    def connect(self, flow: Flow | None) -> None:
        self._sink.connect(flow)

    def take(self, events: list[Event]) -> None:
        out: list[Event] = []
        for event in events:
            match event:
                case TextDelta(text):
                    self._text.append(text)
                case Started() | ReasoningDelta():
                    out.append(event)
                case Finished():
                    out += self._call(event)
                case _:
                    pass  # an engine that ignores tools calls none
        if out:
            self._sink.take(out)

    def _call(self, finished: Finished) -> list[Event]:
        found = calls("".join(self._text), self._ask, secrets.token_hex(6))
        if found is not None:
            return [*found, Finished(FinishReason.TOOL_CALLS, finished.usage, finished.timings)]
        if finished.reason is FinishReason.LENGTH:
            return [finished]  # it was cut before the call was whole
        raise EngineFailed("The model had to call a tool and did not.")
