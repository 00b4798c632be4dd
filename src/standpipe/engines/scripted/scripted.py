"""The scripted engine: deterministic answers at a chosen speed, with chosen faults. It ships for tests and demos.

`compose` says what is said; this plays it in the loop's time, token by token or in whole batches, and breaks it off
where the script says so. It counts what it was asked, so that tests can hold the rest of the house to its promises:
never more asks than slots, and no work for a client who has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec.structs import replace

from standpipe.chat.ask import Ask
from standpipe.chat.errors import EngineBroke, EngineDown, EngineFailed, Failure
from standpipe.chat.events import Event, FinishReason, Started
from standpipe.engines.engine import Health, Sink, relay
from standpipe.engines.scripted.composition import Composition, compose
from standpipe.engines.scripted.script import Fault, FaultKind, Script

_BATCH = 64
"""Tokens in one batch where there is no rate."""


class Scripted:
    """An engine that follows a script."""

    def __init__(self, script: Script) -> None:
        self.name = script.name
        self.slots = script.slots
        self._script = script
        self.busy = self.most = 0
        """Asks that it works on now, and the most that it ever worked on at a time."""
        self.asked = self.finished = self.failed = self.cancelled = 0
        """Since its start."""

    async def answer(self, ask: Ask, sink: Sink) -> None:
        fault = self._fault()
        self.asked += 1
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            async with aclosing(self._play(ask, fault)) as batches:
                await relay(batches, sink)
            self.finished += 1
        except Failure:
            self.failed += 1
            raise
        except BaseException:
            self.cancelled += 1
            raise
        finally:
            self.busy -= 1

    async def models(self) -> tuple[str, ...]:
        if self._refuses():
            raise _refused()
        return (self._script.model,)

    async def health(self) -> Health:
        return Health(up=False, reason=_refused().message) if self._refuses() else Health(up=True)

    async def close(self) -> None:
        """There is nothing to let go of."""

    def _fault(self) -> Fault | None:
        """The fault that strikes the next ask."""
        limit = self._script.faults
        return self._script.fault if limit is None or self.asked < limit else None

    def _refuses(self) -> bool:
        fault = self._fault()
        return fault is not None and fault.kind is FaultKind.REFUSE

    async def _play(self, ask: Ask, fault: Fault | None) -> AsyncGenerator[list[Event], None]:
        """The answer in batches, up to the fault if there is one."""
        script = self._script
        match fault:
            case Fault(FaultKind.REFUSE):
                raise _refused()
            case Fault(FaultKind.STATUS, status):
                raise EngineFailed(f"The engine answered with status {status}.", upstream_status=status)
            case Fault(FaultKind.HANG):
                await _for_ever()
        if script.first:
            await asyncio.sleep(script.first)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for place, events in enumerate(_batches(script, compose(script, ask), fault)):
            if place:
                # Each token has its own instant, counted from the first one: lateness does not add up.
                await asyncio.sleep(max(0.0, begun + place / script.rate - loop.time()) if script.rate else 0)
            yield events
        match fault:
            case Fault(FaultKind.STALL):
                await _for_ever()
            case Fault(FaultKind.CUT):
                raise EngineBroke("The engine failed in the middle of an answer.")
            case Fault(FaultKind.MALFORMED):
                raise EngineFailed("The engine sent an invalid response.")

    def __repr__(self) -> str:
        return f"<Scripted {self.name} {self.busy}/{self.slots}>"


def _refused() -> EngineDown:
    return EngineDown("The engine refuses connections.")


def _batches(script: Script, composition: Composition, fault: Fault | None) -> list[list[Event]]:
    """What is sent at a time. Started goes with the first token and Finished with the last, where no fault strikes."""
    events: list[Event] = [*composition.deltas]
    finished = composition.finished
    struck = fault is not None
    if fault is not None and fault.kind is FaultKind.EMPTY:
        usage = finished.usage and replace(finished.usage, completion_tokens=0, reasoning_tokens=0)
        events, finished, struck = [], replace(finished, reason=FinishReason.STOP, usage=usage), False
    elif fault is not None:
        events = events[: fault.at]
    size = 1 if script.rate else _BATCH
    batches = [events[start : start + size] for start in range(0, len(events), size)] or [[]]
    batches[0].insert(0, Started(script.model))
    if not struck:
        batches[-1].append(finished)
    return batches


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()
