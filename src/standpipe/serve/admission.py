"""Admission: what lets an ask in. It turns an ask into a slot, or into a refusal, or back.

The pace's instant is reserved and the line joined at once, so spacing never adds to a longer line. Whatever can be
refused is refused here, before anything is sent. A `Stay` is all that one ask holds on its way: its client's reserved
instant, its place in line, its slot, and its first seat at an engine. Every step is a decision of the moment, so
nothing here waits: who owns a stay is told of its turn. One loop timer waits for the next instant of anybody; nothing
polls. Must not know what engines do, who waits for a stay, formats or HTTP beyond the headers about waiting.
"""

from __future__ import annotations

import asyncio
import random

from standpipe.chat.errors import Failure, LineFull, NoEngine, PaceExceeded, UnknownModel, WaitTooLong
from standpipe.chat.events import Usage, Waiting
from standpipe.engines.fleet import Fleet
from standpipe.engines.member import Seat
from standpipe.engines.seats import Journey, Seats
from standpipe.engines.timer import Timer
from standpipe.policy.estimate import Prompts
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Appointments, Left, Line, LineStatistics, QueuedAsk, Stage, TooManyWaiting
from standpipe.policy.pace import MICROSECONDS, Rate, Refuse, Wait
from standpipe.serve.lines import Lines
from standpipe.serve.trace import WaitPreferences, Weight
from standpipe.store.paces import Paces

_OVERLOADED = "The server is overloaded, so your queued request was dropped. Please try again later."


class Admission:
    """Lets asks in, each as a `Stay`.

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

    def rate_of(self, client: ClientKey) -> Rate | None:
        """The pace of one client; None where there is none, and for whom a tier in front has paced."""
        return None if client.paced else self.rate

    def too_fast(self, client: ClientKey, now: float) -> bool:
        """Whether a client asks too fast for anything that it asks to be read."""
        rate = self.rate_of(client)
        return rate is not None and not self.paces.peek(client, int(now * MICROSECONDS), rate).remaining

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
        """Count what is no ask like so many of them: reading it has cost the loop its time."""
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

    def asks(self, client: ClientKey) -> list[tuple[int, float | None, float]]:
        """What of a client waits, in order of arrival: position, seconds to wait if known, seconds waited."""
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
        spare = self.most - self.lines.running if waiting else 0
        due: float | None = None
        for members, line in self.lines.in_turn():
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


def waited_in_vain(fleet: Fleet, now: float, waited: float) -> Failure:
    """The refusal of an ask for which no slot of this fleet came within so many seconds."""
    if fleet.away(now) is not None:
        return NoEngine("No engine is available right now. Please try again later.", retry_after=10.0)
    return WaitTooLong(f"No slot became free within {waited:g} s. Please try again.", retry_after=5.0)


class Stay:
    """What one ask holds. Whoever derives from it is told of its turn by `grant`, and by `refuse` that it has none."""

    __slots__ = (
        "_admission", "_client", "_line", "_place", "_preferences", "_seat", "_until", "_weight", "journey",
    )  # fmt: skip

    def __init__(
        self, admission: Admission, client: ClientKey, journey: Journey, preferences: WaitPreferences, weight: Weight
    ) -> None:
        self._admission = admission
        self._client = client
        self._preferences = preferences
        self._weight = weight
        self._place: QueuedAsk | None = None
        self._seat: Seat | None = None
        self._until: int | None = None
        self.journey = journey

    def join(self, prompt_tokens: int) -> QueuedAsk:
        """Reserve an instant and a place. `prompt_tokens` is a low estimate.

        Raises PaceExceeded, LineFull, WaitTooLong or NoEngine; what it holds then is to be let go of.
        """
        admission, weight = self._admission, self._weight
        if admission.draining:
            raise admission.shutting_down()
        now = asyncio.get_running_loop().time()
        eligible_at = self._reserve(now)
        line = self._line = admission.lines.of(self.journey)
        try:
            place = self._place = line.join(
                self._client,
                now=now,
                eligible_at=eligible_at,
                prompt_tokens=prompt_tokens,
                size=0 if weight.held else weight.size,
                output_cap=weight.cap,
                fingerprint=weight.fingerprint,
                retake=self._recall(now),
            )
        except TooManyWaiting as full:
            full.retry_after = admission.come_back(self._client, now, full.retry_after or 0.0, line.pulse(full=True))
            raise
        self.joined(place, now)
        admission.enter(place, self)
        if place.stage is Stage.WAITING:
            self._judge(place, now)
        return place

    def joined(self, place: QueuedAsk, now: float) -> None:
        """It has a place now, for whoever wants to know."""

    def _recall(self, now: float) -> Left | None:
        """The place that a retry gets back. One that comes as it was told stood nowhere: who stands is another."""
        if not self._preferences.retry or self._admission.appointments.expects(self._client, now):
            return None
        return self._line.recall(self._client, self._weight.fingerprint, now)

    def _reserve(self, now: float) -> float:
        """The instant before which this ask may not start. Raises PaceExceeded."""
        rate = self._admission.rate_of(self._client)
        if rate is None:
            return now
        instant = int(now * MICROSECONDS)
        verdict = self._admission.paces.reserve(self._client, instant, rate, self._weight.instants)
        if isinstance(verdict, Refuse):
            raise self._admission.slow_down(self._client, now, rate, verdict.retry_after)
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
        return self._preferences.longest(self._admission.wait_limit)

    def _in_vain(self, now: float) -> Failure:
        return waited_in_vain(self._admission.seats.fleet, now, self._longest_wait)

    def grant(self) -> None:
        """It has its turn, and with it a seat, if any is for it."""
        self._seat = self._admission.seats.take(self.journey)

    def refuse(self, failure: Failure) -> None:
        """It will not have its turn."""
        raise NotImplementedError

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

    def waiting(self) -> Waiting | None:
        """Where it is in line; None when it is in none."""
        place = self._place
        if place is None or place.stage is not Stage.WAITING:
            return None
        now = asyncio.get_running_loop().time()
        forecast, opens_in = self._line.forecast(place, now), self._admission.seats.fleet.opens_in(now)
        eta = None if forecast.wait is None or opens_in is None else opens_in + forecast.wait
        return Waiting(forecast.position, eta)

    def charge(self, tokens: int, now: float) -> None:
        """Output tokens have passed."""
        assert self._place is not None
        self._line.charge(self._place, tokens, now)

    def settle(self, usage: Usage | None, tokens: int, *, failed: bool) -> None:
        """The answer is over, after so many tokens: put the engine's own count in the place of ours.

        Where the engine gave none, ours stands, but a failure before the first token costs nothing.
        """
        place = self._place
        assert place is not None
        if usage is not None:
            self._line.settle(
                place,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=max(usage.completion_tokens, tokens),
                cached_tokens=usage.cached_tokens or 0,
            )
        elif failed and not tokens:
            self._line.settle(place, prompt_tokens=0, completion_tokens=0)

    def let_go(self) -> None:
        """Let go of the slot, or of the place and the instant. Nothing here suspends. Idempotent."""
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
        until, self._until = self._until, None
        if until is not None and not ran and admission.rate is not None:
            admission.paces.cancel(self._client, until, admission.rate, self._weight.instants)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._place}>"
