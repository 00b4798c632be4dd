"""Admission: the async shell around the pace and the line. It turns an ask into a slot, or into a refusal, or back.

The pace's instant is reserved and the line joined at once, so spacing never adds to a longer line. Whatever can be
refused is refused here, before anything is sent. A `Ticket` owns everything that an ask holds on the way (`stay`) and
lets go of it once, on whatever path it is closed. One loop timer waits for the next instant of anybody; nothing polls.
The walk knows admission as `Admits`, because the line may be in another process (`keeper`). Must not know what engines
do, formats or HTTP beyond the headers about waiting.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from standpipe.chat.errors import EngineFailed, Failure, NoEngine, PaceExceeded, WaitTooLong
from standpipe.chat.events import Waiting
from standpipe.engines.choice import Lease
from standpipe.engines.member import Seat
from standpipe.engines.seats import Journey, Seats
from standpipe.engines.timer import Timer
from standpipe.policy.estimate import Prompts
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Appointments, Line, LineStatistics, QueuedAsk, Stage
from standpipe.policy.pace import MICROSECONDS, Rate
from standpipe.serve.lines import Lines
from standpipe.serve.stay import Stay
from standpipe.serve.trace import TokenMeter, Trace, WaitPreferences, Weight
from standpipe.store.paces import Paces

_OVERLOADED = "The server is overloaded, so your queued request was dropped. Please try again later."


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


class Admission:
    """Lets asks in.

    Args:
        line: the line; its slots follow what the engines can take.
        seats: the engines' slots: whoever is granted one has it.
        paces: where paces are kept.
        rate: the pace; None when there is none.
        wait_limit: longest predicted wait that is accepted, in seconds.
        most: asks that may run at a time, however many slots there are: what this process can stream.
    """

    def __init__(
        self,
        line: Line,
        seats: Seats,
        paces: Paces,
        *,
        rate: Rate | None,
        wait_limit: float,
        most: int = 4096,
    ) -> None:
        self.lines = Lines(line, seats)
        self.seats = seats
        self.paces = paces
        self.rate = rate
        self.wait_limit = wait_limit
        self.prompts = Prompts()
        self.most = most
        self.appointments = Appointments()
        self._waiting: dict[QueuedAsk, Stay] = {}
        self._timer = Timer(self.dispatch)
        self._draining = False
        self.holding = False
        """Nothing is granted for now: what was granted elsewhere is still being told."""
        seats.on_change = self.dispatch
        seats.fleet.on_models = self.regroup
        seats.others_wait = lambda: bool(self._waiting)

    def ticket(self, trace: Trace, journey: Journey, preferences: WaitPreferences, weight: Weight) -> Ticket:
        return Ticket(self, trace, journey, preferences, weight)

    def rate_of(self, client: ClientKey) -> Rate | None:
        return None if client.paced else self.rate

    def too_fast(self, client: ClientKey, now: float) -> bool:
        rate = self.rate_of(client)
        return rate is not None and not self.paces.peek(client, int(now * MICROSECONDS), rate).remaining

    async def turn_away(self, client: ClientKey, now: float) -> None:
        self.knock(client, now)

    def knock(self, client: ClientKey, now: float) -> None:
        """Refuse who asks too fast before anything of what they ask is read. Takes nothing. Raises PaceExceeded."""
        if (rate := self.rate_of(client)) is not None:
            instant = int(now * MICROSECONDS)
            seen = self.paces.peek(client, instant, rate)
            if not seen.remaining:
                raise self.slow_down(client, now, rate, seen.free_at - instant - rate.max_waiting * rate.interval)

    def slow_down(self, client: ClientKey, now: float, rate: Rate, microseconds: int) -> PaceExceeded:
        """The refusal of a client whose rate limit has room again in so many microseconds."""
        seconds = self.come_back(client, now, microseconds / MICROSECONDS, self.lines.pulse(client))
        interval = rate.interval / MICROSECONDS
        waiting = f", with at most {rate.max_waiting} waiting" if rate.max_waiting else ""
        message = f"Rate limit: one request per {interval:g} s per address{waiting}. Retry in {seconds:.1f} s."
        return PaceExceeded(message, retry_after=seconds)

    def come_back(self, client: ClientKey, now: float, room: float, pulse: float) -> float:
        """In how many seconds to tell a refused client to come back, if one ask of its starts every `pulse` seconds."""
        rate = self.rate_of(client)
        gap = max(pulse, 0.0 if rate is None else rate.interval / MICROSECONDS)
        return self.appointments.give(client, now, room=room, gap=gap, chance=random.random())  # noqa: S311 - no secret

    def charge(self, client: ClientKey, now: float, count: int = 1) -> None:
        if count and (rate := self.rate_of(client)) is not None:
            self.paces.reserve(client, int(now * MICROSECONDS), rate, count)

    def drain(self) -> None:
        """Take no more asks, and refuse those that wait."""
        self._draining = True
        for stay in list(self._waiting.values()):
            stay.refuse(self.shutting_down())

    @property
    def draining(self) -> bool:
        return self._draining

    async def own(self, client: ClientKey) -> list[tuple[int, float | None, float]]:
        return self.asks(client)

    def asks(self, client: ClientKey) -> list[tuple[int, float | None, float]]:
        """As `own`."""
        now = asyncio.get_running_loop().time()
        forecasts = ((line.forecast(place, now), place) for line, place in self.lines.asks(client))
        return [(forecast.position, forecast.wait, now - place.joined_at) for forecast, place in forecasts]

    @staticmethod
    def shutting_down() -> Failure:
        return NoEngine("This server is shutting down. Please try again in a moment.", retry_after=5.0)

    def enter(self, place: QueuedAsk, stay: Stay) -> None:
        """An ask waits in line."""
        self._waiting[place] = stay
        self.dispatch()

    def resume(self, place: QueuedAsk, stay: Stay) -> None:
        """An ask waits in line that has waited in another, which is gone."""
        self._waiting[place] = stay

    def forget(self, place: QueuedAsk) -> None:
        """An ask has left the line, or has freed its slot."""
        self._waiting.pop(place, None)
        if self._waiting:
            self.dispatch()

    def regroup(self) -> None:
        """What engines may take has changed: who waits may have to wait in another line. Nothing is granted yet."""
        self.lines.regroup()
        for stay in list(self._waiting.values()):
            stay.regroup()

    def dispatch(self) -> None:
        """Grant what can be granted, and wake up again when the next instant comes. Call it when anything changed."""
        if self.holding:
            return
        now = asyncio.get_running_loop().time()
        waiting, seats = self._waiting, self.seats
        spare = self.most - self.lines.running
        due: float | None = None
        for line, members in self.lines.in_turn():
            usable, room = seats.usable(now, members)
            line.slots = max(1, min(usable, self.most))
            room = min(room, spare)
            for shed in line.shed(now):
                waiting.pop(shed).refuse(WaitTooLong(_OVERLOADED))
            while waiting and room > 0 and (place := line.next(now)) is not None:
                waiting.pop(place).grant()
                room -= 1
                spare -= 1
                self.lines.had_its_turn(members)
            if waiting and (instant := line.eligible_after(now)) is not None:
                due = instant if due is None else min(due, instant)
        self._timer.set(due)

    def close(self) -> None:
        self._timer.set(None)

    def statistics(self) -> LineStatistics:
        return self.lines.statistics()

    def __repr__(self) -> str:
        return f"<Admission {self.statistics()}>"


class Ticket(Stay):
    """One ask on its way to a slot, and the owner of that slot while it is used in a `with`.

    Entering it reserves an instant and a place. Raises PaceExceeded, LineFull, WaitTooLong or NoEngine; then nothing
    is held. Leaving it lets go of all that is held and settles what the answer has cost.
    """

    __slots__ = ("_granted", "_trace", "meter")

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

    def __enter__(self) -> Self:
        try:
            self.join(self._admission.prompts.low(self._weight.sizes))
        except BaseException:
            self.let_go()
            raise
        self._trace.meter = self.meter
        return self

    def joined(self, place: QueuedAsk, now: float) -> None:
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
                async with asyncio.timeout(self._longest_wait):
                    await self._granted
            except TimeoutError:
                raise self._in_vain(loop.time()) from None
        now = self._trace.granted_at = loop.time()
        self._trace.step("granted", now)
        self.journey.patience = max(0.0, self._longest_wait - (now - place.joined_at))
        return self._seat

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
            now = asyncio.get_running_loop().time()
            self._trace.step("settled", now, tokens=tokens, counted=usage is not None, failed=failed)
            if usage is not None:
                self._admission.prompts.learn(self._weight.sizes, usage.prompt_tokens)
            self.settle(usage, tokens, failed=failed)
        self.let_go()
