"""A stay: what one ask holds on its way, and how it gets hold of it and lets go.

That is its client's reserved instant, its place in line, its slot, and the first seat at an engine. Every step is a
decision of the moment, so nothing here waits: who owns a stay tells its client, and is told by `grant` and `refuse`.
Must not know how an answer is had or told.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from standpipe.chat.errors import Failure, LineFull, NoEngine, PaceExceeded, UnknownModel, WaitTooLong
from standpipe.chat.events import Usage, Waiting
from standpipe.engines.fleet import Fleet
from standpipe.engines.member import Seat
from standpipe.engines.seats import Journey
from standpipe.policy.identity import ClientKey
from standpipe.policy.line import Left, QueuedAsk, Stage, TooManyWaiting
from standpipe.policy.pace import MICROSECONDS, Refuse, Wait
from standpipe.serve.trace import WaitPreferences, Weight

if TYPE_CHECKING:
    from standpipe.serve.admission import Admission


def waited_in_vain(fleet: Fleet, now: float, waited: float) -> Failure:
    """The refusal of an ask for which no slot of this fleet came within so many seconds."""
    if fleet.away(now) is not None:
        return NoEngine("No engine is available right now. Please try again later.", retry_after=10.0)
    return WaitTooLong(f"No slot became free within {waited:g} s. Please try again.", retry_after=5.0)


class Stay:
    """See the module. Whoever derives from it is told of its turn by `grant`, and that there is none by `refuse`."""

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
        limit = self._admission.wait_limit
        return min(limit, self._preferences.client_timeout or limit)

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
            admission.paces.cancel(self._client, self._until, admission.rate, self._weight.instants)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._place}>"
