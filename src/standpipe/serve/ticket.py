"""Tickets: how one ask waits for its slot, and for the seat that comes with it.

A ticket owns a stay (`admission`) and lets go of it once, on whatever path it is closed. The walk of an ask knows only
`Admits` and `Admitted`, because the line may be in another process (`keeper`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from standpipe.chat.errors import EngineFailed, Failure
from standpipe.chat.events import Waiting
from standpipe.engines.choice import Lease
from standpipe.engines.member import Seat
from standpipe.engines.seats import Journey
from standpipe.policy.estimate import Prompts
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import QueuedAsk, Stage
from standpipe.policy.pace import Rate
from standpipe.serve.admission import Admission, Stay
from standpipe.serve.trace import TokenMeter, Trace, WaitPreferences, Weight
from standpipe.store.paces import Paces


class Admitted(Protocol):
    """One ask on its way to a slot, which it has in the `with`: see `Ticket`."""

    meter: TokenMeter

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def granted(self) -> Lease | None:
        """Wait for the slot. Gives the seat, or None where this ask has to wait for one of another kind.

        Raises what the ask is refused with, if not in `__enter__` already.
        """
        ...

    def wait_on(self) -> None:
        """If this ask waits for its slot, let it wait as long from now on as it might have from its start."""
        ...

    def look(self, tell: Callable[[Waiting], None]) -> None:
        """Tell where this ask is, now or as soon as that is known."""
        ...


class Admits(Protocol):
    """Lets asks in. `paces` may know of nobody but those who came to this process."""

    prompts: Prompts
    paces: Paces

    @property
    def draining(self) -> bool: ...

    def rate_of(self, client: ClientKey) -> Rate | None:
        """The pace of one client; None where there is none, and for whom a tier in front has paced."""
        ...

    def ticket(self, trace: Trace, journey: Journey, preferences: WaitPreferences, weight: Weight, /) -> Admitted:
        """A ticket for one ask, whose client is known. Nothing is taken before it is entered."""
        ...

    def too_fast(self, client: ClientKey, now: float) -> bool:
        """Whether a client asks too fast for anything that it asks to be read."""
        ...

    async def turn_away(self, client: ClientKey, now: float) -> None:
        """Tell such a client when to come back. Raises PaceExceeded, if it is too fast in fact."""
        ...

    def charge(self, client: ClientKey, now: float, count: int = 1) -> None:
        """Count what is no ask like so many of them: reading it has cost the loop its time."""
        ...

    async def own(self, client: ClientKey) -> list[tuple[int, float | None, float]]:
        """What of a client waits, in order of arrival: position, seconds to wait if known, seconds waited."""
        ...


class LocalAdmission(Admission):
    """Admission where the line is in the same process: as `Admits`."""

    def ticket(self, trace: Trace, journey: Journey, preferences: WaitPreferences, weight: Weight) -> Ticket:
        return Ticket(self, trace, journey, preferences, weight)

    async def turn_away(self, client: ClientKey, now: float) -> None:
        self.knock(client, now)

    async def own(self, client: ClientKey) -> list[tuple[int, float | None, float]]:
        return self.asks(client)


class Ticket(Stay):
    """One ask on its way to a slot, and the owner of that slot while it is used in a `with`.

    Entering it reserves an instant and a place. Raises PaceExceeded, LineFull, WaitTooLong or NoEngine; then nothing
    is held. Leaving it lets go of all that is held and settles what the answer has cost.
    """

    __slots__ = ("_granted", "_patience", "_trace", "_waits_since", "meter")

    def __init__(
        self, admission: Admission, trace: Trace, journey: Journey, preferences: WaitPreferences, weight: Weight
    ) -> None:
        assert trace.client is not None
        super().__init__(admission, trace.client, journey, preferences, weight)
        self._trace = trace
        # Without somebody who listens, an ask leaves no cycle of references behind.
        first = partial(trace.step, "first token") if trace.tell is not None else None
        self.meter = TokenMeter(weight.cap, self.charge, first)
        self._granted: asyncio.Future[None] | None = None
        self._patience: asyncio.Timeout | None = None
        self._waits_since = 0.0

    def __enter__(self) -> Self:
        try:
            self.join(self._admission.prompts.low(self._weight.sizes))
        except BaseException:
            self.let_go()
            raise
        self._trace.meter = self.meter
        return self

    def joined(self, place: QueuedAsk, now: float) -> None:
        if self._trace.tell is not None:
            self._trace.step("queued", now, eligible_in=round(place.eligible_at - now, 4), tokens=self._weight.cap)

    async def granted(self) -> Seat | None:
        """Wait for the slot. Gives the seat, or None where this ask has to wait for one of another kind.

        Raises WaitTooLong or NoEngine when it does not come in time, or what `refuse` was given.
        """
        place = self._place
        assert place is not None
        loop = asyncio.get_running_loop()
        if place.stage is not Stage.RUNNING:
            self._granted = loop.create_future()
            try:
                async with asyncio.timeout(self._longest_wait) as self._patience:
                    await self._granted
            except TimeoutError:
                raise self._in_vain(loop.time()) from None
            finally:
                self._patience = None
        now = self._trace.granted_at = loop.time()
        if self._trace.tell is not None:
            self._trace.step("granted", now)
        self.journey.patience = max(0.0, self._longest_wait - (now - max(place.joined_at, self._waits_since)))
        return self._seat

    def wait_on(self) -> None:
        if self._patience is not None and not self._patience.expired():
            self._waits_since = asyncio.get_running_loop().time()
            self._patience.reschedule(self._waits_since + self._longest_wait)

    def grant(self) -> None:
        super().grant()
        if self._granted is not None and not self._granted.done():
            self._granted.set_result(None)

    def refuse(self, failure: Failure) -> None:
        if self._granted is not None and not self._granted.done():
            self._granted.set_exception(failure)

    def look(self, tell: Callable[[Waiting], None]) -> None:
        """Tell where this ask is."""
        ahead = self._trace.report.ahead
        tell(self.waiting() or Waiting(None if ahead is None else ahead + 1))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        place = self._place
        if place is not None and place.stage is Stage.RUNNING:
            failed = isinstance(error, EngineFailed) or self._trace.report.attempts > 1
            usage, tokens = self.meter.usage, self.meter.tokens
            if self._trace.tell is not None:
                now = asyncio.get_running_loop().time()
                self._trace.step("settled", now, tokens=tokens, counted=usage is not None, failed=failed)
            if usage is not None:
                self._admission.prompts.learn(self._weight.sizes, usage.prompt_tokens)
            self.settle(usage, tokens, failed=failed)
        self.let_go()
