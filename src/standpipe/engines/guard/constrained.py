"""Engines that may ignore tools, made to call them where they must.

Wraps any engine. An ask that must call a tool is first asked as it is, unless the engine is known to ignore tools, and
its answer kept back until a call begins: prose in the place of a call must reach nobody. Where no call comes, the
engine is asked for the JSON of a call instead (`policy.forced_calls`). Where even that brings none, the ask is refused:
a clear 400 is worth more than prose that pretends.
"""

from __future__ import annotations

import secrets
from collections.abc import Coroutine
from typing import Any

from standpipe.chat.ask import Ask
from standpipe.chat.errors import InvalidAsk, Unsupported
from standpipe.chat.events import Event, Finished, FinishReason, ReasoningDelta, Started, TextDelta, ToolCallDelta
from standpipe.engines.engine import Engine, Probed, Sink
from standpipe.engines.guard.control_tokens import Handling
from standpipe.engines.guard.forced_calls import calls, constrain, must_call
from standpipe.engines.wrapper import Wrapper
from standpipe.flow import Flow


class Constrained(Wrapper):
    """The engine, made to call tools where it must."""

    def __init__(self, engine: Engine, *, ignores_tools: bool = False) -> None:
        super().__init__(engine)
        self._ignores_tools = ignores_tools

    def answer(self, ask: Ask, sink: Sink) -> Coroutine[Any, Any, None]:
        """As `Engine.answer`."""
        if not ask.tools:
            return self._engine.answer(ask, sink)
        if not must_call(ask):
            return self._engine.answer(constrain(ask) if self._ignores_tools else ask, sink)
        return self._call(ask, sink)

    async def _call(self, ask: Ask, sink: Sink) -> None:
        if self._ignores_tools or not await self._calls(ask, sink):
            await self._engine.answer(constrain(ask), _FromJson(ask, sink))

    async def _calls(self, ask: Ask, sink: Sink) -> bool:
        """Ask as it is. False when no call came, and nothing has reached the sink."""
        held = _UntilCalled(sink)
        try:
            await self._engine.answer(ask, held)
        except InvalidAsk:
            # An engine may refuse tools as such. If it is the ask that is wrong, it will be refused again.
            if held.called:
                raise
        return held.called or held.cut

    @property
    def handling(self) -> Handling | None:
        """What the engine's guard has found of control tokens, if it has one."""
        return self._engine.handling if isinstance(self._engine, Probed) else None

    async def probe(self) -> Handling:
        return await self._engine.probe() if isinstance(self._engine, Probed) else Handling.UNCLEAR


class _UntilCalled:
    """A sink that keeps an answer back until a call begins in it. `cut` tells of one that ended before it could."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._held: list[Event] = []
        self.called = self.cut = False

    def connect(self, flow: Flow | None) -> None:
        self._sink.connect(flow)

    def take(self, events: list[Event]) -> None:
        if not self.called:
            self._held += events
            self.called = any(isinstance(event, ToolCallDelta) for event in events)
            last = events[-1]
            self.cut = isinstance(last, Finished) and last.reason is FinishReason.LENGTH
            if not (self.called or self.cut):
                return
            events, self._held = self._held, []
        self._sink.take(events)


class _FromJson:
    """A sink that turns the JSON of a call into a call. Half of that JSON is nothing to anybody, so it waits."""

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
                    pass  # an engine that was given no tools calls none
        if out:
            self._sink.take(out)

    def _call(self, finished: Finished) -> list[Event]:
        found = calls("".join(self._text), self._ask, secrets.token_hex(6))
        if found is not None:
            return [*found, Finished(FinishReason.TOOL_CALLS, finished.usage, finished.timings)]
        if finished.reason is FinishReason.LENGTH:
            return [finished]  # it was cut before the call was whole
        raise Unsupported(
            "The model behind this address cannot be made to call a tool. Leave `tool_choice` out, or set it to auto.",
            param="tool_choice",
        )
