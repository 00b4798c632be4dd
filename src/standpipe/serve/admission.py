"""Admission: the async shell around the pace and the line. It turns an ask into a slot, or into a refusal, or back.

The pace's instant is reserved and the line joined at once, so spacing never adds to a longer line. Whatever can be
refused is refused here, before anything is sent. An `Ticket` owns everything that an ask holds on the way (its reserved
instant, its place, its slot) and lets go of it once, on whatever path it is closed. One loop timer waits for the next
instant of anybody; nothing polls. Must not know what engines do, formats or HTTP beyond the headers about waiting.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from types import TracebackType
from typing import Self

from standpipe.chat.errors import EngineFailed, Failure, LineFull, NoEngine, PaceExceeded, UnknownModel, WaitTooLong
from standpipe.chat.events import Waiting
from standpipe.engines.member import Seat
from standpipe.engines.seats import Journey, Seats
from standpipe.engines.timer import Timer
from standpipe.policy.estimate import Prompts
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Appointments, Left, Line, LineStatistics, QueuedAsk, Stage, TooManyWaiting
from standpipe.policy.overload import Slots
from standpipe.policy.pace import MICROSECONDS, Rate, Refuse, Wait
from standpipe.serve.lines import Lines
from standpipe.serve.trace import TokenMeter, Trace, WaitPreferences, Weight
from standpipe.store.paces import Paces

_OVERLOADED = "The server is overloaded, so your queued request was dropped. Please try again later."


class Admission:
    """Lets asks in.

    Args:
        line: the line; its slots follow what the engines can take.
        seats: the engines' slots: whoever is granted one has it.
        paces: where paces are kept.
        rate: the pace; None when there is none.
        wait_limit: longest predicted wait that is accepted, in seconds.
        auto: finds the number of slots by trying; None when it is fixed.
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
        auto: Slots | None = None,
        most: int = 4096,
    ) -> None:
        self.lines = Lines(line, seats)
        self.seats = seats
        self.paces = paces
        self.rate = rate
        self.wait_limit = wait_limit
        self.prompts = Prompts()
        self.auto = auto
        self.most = most
        self.appointments = Appointments()
        self._waiting: dict[QueuedAsk, Ticket] = {}
        self._timer = Timer(self.dispatch)
        self._draining = False
        seats.on_change = self.dispatch
        seats.fleet.on_models = self.regroup
        seats.others_wait = lambda: bool(self._waiting)

    def ticket(self, trace: Trace, journey: Journey, preferences: WaitPreferences, weight: Weight) -> Ticket:
        """A ticket for one ask, whose client is known. Nothing is taken before it is entered."""
        return Ticket(self, trace, journey, preferences, weight)

    def knock(self, client: ClientKey, now: float) -> None:
        """Refuse who asks too fast before anything of what they ask is read. Takes nothing. Raises PaceExceeded."""
        if (rate := self.rate) is not None:
            instant = int(now * MICROSECONDS)
            seen = self.paces.peek(client, instant, rate)
            if not seen.remaining:
                raise self.too_fast(client, now, rate, seen.free_at - instant - rate.max_waiting * rate.interval)

    def too_fast(self, client: ClientKey, now: float, rate: Rate, microseconds: int) -> PaceExceeded:
        """The refusal of a client whose rate limit has room again in so many microseconds."""
        seconds = self.come_back(client, now, microseconds / MICROSECONDS, self.lines.pulse(client))
        interval = rate.interval / MICROSECONDS
        waiting = f", with at most {rate.max_waiting} waiting" if rate.max_waiting else ""
        message = f"Rate limit: one request per {interval:g} s per address{waiting}. Retry in {seconds:.1f} s."
        return PaceExceeded(message, retry_after=seconds)

    def come_back(self, client: ClientKey, now: float, room: float, pulse: float) -> float:
        """In how many seconds to tell a refused client to come back, if one ask of its starts every `pulse` seconds."""
        gap = max(pulse, 0.0 if self.rate is None else self.rate.interval / MICROSECONDS)
        return self.appointments.give(client, now, room=room, gap=gap, chance=random.random())  # noqa: S311 - no secret

    def charge_fault(self, client: ClientKey, now: float) -> None:
        """A request that could not be read counts like one that could: reading it has cost the loop its time."""
        if self.rate is not None:
            self.paces.reserve(client, int(now * MICROSECONDS), self.rate)

    def drain(self) -> None:
        """Take no more asks, and refuse those that wait."""
        self._draining = True
        for ticket in list(self._waiting.values()):
            ticket.refuse(self.shutting_down())

    @property
    def draining(self) -> bool:
        return self._draining

    @staticmethod
    def shutting_down() -> Failure:
        return NoEngine("This server is shutting down. Please try again in a moment.", retry_after=5.0)

    def enter(self, place: QueuedAsk, ticket: Ticket) -> None:
        """An ask waits in line."""
        self._waiting[place] = ticket
        self.dispatch()

    def forget(self, place: QueuedAsk) -> None:
        """An ask has left the line, or has freed its slot."""
        self._waiting.pop(place, None)
        if self._waiting:
            self.dispatch()

    def regroup(self) -> None:
        """What engines may take has changed: who waits may have to wait in another line. Nothing is granted yet."""
        self.lines.regroup()
        if self.auto is not None:
            self.auto.bound(self.seats.fleet.slots)
        for ticket in list(self._waiting.values()):
            ticket.regroup()

    def dispatch(self) -> None:
        """Grant what can be granted, and wake up again when the next instant comes. Call it when anything changed."""
        now = asyncio.get_running_loop().time()
        waiting, seats = self._waiting, self.seats
        most = self.most if self.auto is None else min(self.auto.value, self.most)
        spare = most - self.lines.running
        due: float | None = None
        for line, members in self.lines.in_turn():
            usable, room = seats.usable(now, members)
            line.slots = max(1, min(usable, most))
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


class Ticket:
    """One ask on its way to a slot, and the owner of that slot while it is used in a `with`.

    Entering it reserves an instant and a place. Raises PaceExceeded, LineFull, WaitTooLong or NoEngine; then nothing
    is held. Leaving it lets go of all that is held and settles what the answer has cost.
    """

    __slots__ = (
        "_admission",
        "_client",
        "_granted",
        "_line",
        "_place",
        "_preferences",
        "_seat",
        "_trace",
        "_until",
        "_weight",
        "journey",
        "meter",
    )

    def __init__(
        self, admission: Admission, trace: Trace, journey: Journey, preferences: WaitPreferences, weight: Weight
    ) -> None:
        assert trace.client is not None
        self._admission = admission
        self._trace = trace
        self.journey = journey
        self._seat: Seat | None = None
        self._client = trace.client
        self._preferences = preferences
        self._weight = weight
        # Without somebody who listens, an ask leaves no cycle of references behind.
        first = partial(trace.step, "first token") if trace.tell is not None else None
        self.meter = TokenMeter(weight.cap, self._charge, first)
        self._place: QueuedAsk | None = None
        self._until: int | None = None
        self._granted: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        try:
            self._join()
        except BaseException:
            self._let_go()
            raise
        self._trace.meter = self.meter
        return self

    def _join(self) -> None:
        admission, weight = self._admission, self._weight
        if admission.draining:
            raise admission.shutting_down()
        now = asyncio.get_running_loop().time()
        eligible_at = self._reserve(now)
        line = self._line = admission.lines.of(self.journey)
        try:
            place = line.join(
                self._client,
                now=now,
                eligible_at=eligible_at,
                prompt_tokens=admission.prompts.low(weight.sizes),
                size=weight.size,
                output_cap=weight.cap,
                fingerprint=weight.fingerprint,
                retake=self._recall(now),
            )
        except TooManyWaiting as full:
            full.retry_after = admission.come_back(self._client, now, full.retry_after or 0.0, line.pulse(full=True))
            raise
        self._place = place
        self._trace.step("queued", now, eligible_in=round(eligible_at - now, 4), tokens=weight.cap)
        admission.enter(place, self)
        if place.stage is Stage.WAITING:
            self._judge(place, now)

    def _recall(self, now: float) -> Left | None:
        """The place that a retry gets back. One that comes as it was told stood nowhere: who stands is another."""
        if not self._preferences.retry or self._admission.appointments.expects(self._client, now):
            return None
        return self._line.recall(self._client, self._weight.fingerprint, now)

    def _reserve(self, now: float) -> float:
        """The instant before which this ask may not start. Raises PaceExceeded."""
        rate = self._admission.rate
        if rate is None:
            return now
        instant = int(now * MICROSECONDS)
        verdict = self._admission.paces.reserve(self._client, instant, rate)
        if isinstance(verdict, Refuse):
            raise self._admission.too_fast(self._client, now, rate, verdict.retry_after)
        if isinstance(verdict, Wait):
            self._until = verdict.until
            return now + (verdict.until - instant) / MICROSECONDS
        return now

    def _judge(self, place: QueuedAsk, now: float) -> None:
        """Refuse at once what could not be kept. The client may say how long it would wait itself."""
        if not self._preferences.patient:
            wait = place.eligible_at - now
            if wait > 0:
                raise PaceExceeded(
                    f"You sent `Prefer: wait=0`, but your rate limit allows the next request in {wait:.1f} s.",
                    retry_after=wait,
                )
            raise LineFull("You sent `Prefer: wait=0`, but no slot is free right now.", retry_after=1.0)
        fleet = self._admission.seats.fleet
        away = fleet.away(now)
        if away is not None and away > self._longest_wait:
            raise self._in_vain(now)
        forecast = self._line.forecast(place, now)
        wait = max(place.eligible_at - now, (fleet.opens_in(now) or 0.0) + (forecast.wait or 0.0))
        if wait > self._longest_wait:
            raise WaitTooLong(
                f"The estimated wait is {wait:.0f} s, over the limit of {self._longest_wait:g} s. "
                f"{forecast.position - 1} requests are ahead of yours.",
                retry_after=wait - self._longest_wait,
            )

    @property
    def _longest_wait(self) -> float:
        limit = self._admission.wait_limit
        return min(limit, self._preferences.client_timeout or limit)

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

    def _in_vain(self, now: float) -> Failure:
        if self._admission.seats.fleet.away(now) is not None:
            return NoEngine("No engine is available right now. Please try again later.", retry_after=10.0)
        message = f"No slot became free within {self._longest_wait:g} s. Please try again."
        return WaitTooLong(message, retry_after=5.0)

    def grant(self) -> None:
        """It has its turn, and with it a seat, if any is for it."""
        self._seat = self._admission.seats.take(self.journey)
        if self._granted is not None and not self._granted.done():
            self._granted.set_result(None)

    def regroup(self) -> None:
        """Wait in the line that is this ask's now. An ask whose model is gone is refused, where names are strict."""
        admission, place = self._admission, self._place
        assert place is not None
        try:
            admission.seats.fleet.resolve(self.journey.model)
        except UnknownModel as gone:
            self.refuse(gone)
            return
        line = admission.lines.of(self.journey)
        if line is not self._line:
            self._line.hand_over(place, line, asyncio.get_running_loop().time())
            self._line = line

    def refuse(self, failure: Failure) -> None:
        """End the wait with a failure."""
        if self._granted is not None and not self._granted.done():
            self._granted.set_exception(failure)

    def waiting(self) -> Waiting:
        """Where this ask is."""
        place = self._place
        if place is None or place.stage is not Stage.WAITING:
            ahead = self._trace.report.ahead
            return Waiting(None if ahead is None else ahead + 1)
        now = asyncio.get_running_loop().time()
        forecast, opens_in = self._line.forecast(place, now), self._admission.seats.fleet.opens_in(now)
        eta = None if forecast.wait is None or opens_in is None else opens_in + forecast.wait
        return Waiting(forecast.position, eta)

    def _charge(self, tokens: int, now: float) -> None:
        """Output tokens have passed."""
        assert self._place is not None
        self._line.charge(self._place, tokens, now)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        place = self._place
        if place is not None and place.stage is Stage.RUNNING:
            self._settle(place, failed=isinstance(error, EngineFailed) or self._trace.report.attempts > 1)
        self._let_go()

    def _settle(self, place: QueuedAsk, *, failed: bool) -> None:
        """The answer is over: put the engine's own count in the place of ours.

        Where the engine gave none, ours stands, but a failure before the first token costs nothing. What was measured
        teaches the estimates.
        """
        admission, usage, tokens = self._admission, self.meter.usage, self.meter.tokens
        now = asyncio.get_running_loop().time()
        self._trace.step("settled", now, tokens=tokens, counted=usage is not None, failed=failed)
        if usage is not None:
            admission.prompts.learn(self._weight.sizes, usage.prompt_tokens)
            self._line.settle(
                place,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=max(usage.completion_tokens, tokens),
                cached_tokens=usage.cached_tokens or 0,
            )
        elif failed and not tokens:
            self._line.settle(place, prompt_tokens=0, completion_tokens=0)
        if admission.auto is not None and place.granted_at is not None:
            if failed:
                admission.auto.refused(now)
            elif place.first_token_at is not None:
                running = admission.lines.running
                seconds = place.first_token_at - place.granted_at
                admission.auto.first_token(usage.prompt_tokens if usage else 0, seconds, running, now)

    def _let_go(self) -> None:
        """Let go of the slot, or of the place and the instant. Nothing here suspends."""
        place, self._place = self._place, None
        admission, ran = self._admission, False
        if self._seat is not None:
            self._seat.release()
        if place is not None:
            now = asyncio.get_running_loop().time()
            if place.stage is Stage.RUNNING:
                ran = True
                self._line.release(place, now)
            elif place.stage is Stage.WAITING:
                self._line.leave(place, now)
            admission.forget(place)
        if self._until is not None and not ran and admission.rate is not None:
            admission.paces.cancel(self._client, self._until, admission.rate)

    def __repr__(self) -> str:
        return f"<Ticket {self._place}>"
