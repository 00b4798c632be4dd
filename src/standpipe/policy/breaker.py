"""A circuit breaker: what is believed of one engine's health, from how its asks went. `NEXT` is the whole machine.

    closed --(5 failures in a row)--> open --(time)--> half-open --(an ask)--> probing
                                       ^                   ^                   |  |  |
                                       |                   +---(no verdict)----+  |  +--(it speaks)--> closed
                                       +---------------(failed: longer)-----------+

The theory: an engine that has just failed several times will probably fail again, and finding that out costs a client
its wait. So it is passed over for a while that doubles each time it disappoints, and then one ask finds out how it is.
Only the engine's own faults count: a client must not be able to take an engine away from others. The circuit breaker is
Nygard's ("Release It!", 2007); being passed over for longer each time is what Envoy calls outlier detection with
ejection. Time is an argument; this module knows no engine and moves nothing by itself.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

THRESHOLD = 5
"""Failures in a row that open a closed breaker."""
EJECTION = 1.0
"""Seconds for which a breaker is open the first time. It doubles each time until an ask is answered."""
EJECTION_CAP = 15.0
"""Seconds: no ejection is longer. Finding out costs one ask a detour, and a lone engine that works again is missed."""


class BreakerState(StrEnum):
    """What is believed."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    PROBING = "probing"


class Signal(StrEnum):
    """What moves a breaker."""

    TAKEN = "taken"
    """The engine was given an ask."""
    SPOKE = "spoke"
    """An answer has begun: enough to let more asks come, not enough to forget what was."""
    ANSWERED = "answered"
    FAILED = "failed"
    TRIPPED = "tripped"
    """The failure that makes `THRESHOLD` in a row."""
    PROBE_FAILED = "probe_failed"
    PROBE_LOST = "probe_lost"
    """The probe ended and says nothing of the engine: the client left, or the ask was at fault itself."""
    LAPSED = "lapsed"
    """The ejection is over."""


NEXT: dict[BreakerState, dict[Signal, BreakerState]] = {
    BreakerState.CLOSED: {Signal.TRIPPED: BreakerState.OPEN},
    BreakerState.OPEN: {Signal.LAPSED: BreakerState.HALF_OPEN, Signal.ANSWERED: BreakerState.CLOSED},
    BreakerState.HALF_OPEN: {
        Signal.TAKEN: BreakerState.PROBING,
        Signal.PROBE_FAILED: BreakerState.OPEN,
        Signal.ANSWERED: BreakerState.CLOSED,
    },
    BreakerState.PROBING: {
        Signal.PROBE_FAILED: BreakerState.OPEN,
        Signal.PROBE_LOST: BreakerState.HALF_OPEN,
        Signal.SPOKE: BreakerState.CLOSED,
        Signal.ANSWERED: BreakerState.CLOSED,
    },
}
"""State, then signal, gives the next state; what is absent changes nothing.

Asks end long after they began, so an open engine's may still be answered or fail. That one was answered says more than
the clock, that one more failed says nothing new.
"""


class BreakerStatistics(Struct, frozen=True):
    """A breaker at one instant. `retry_in` is the seconds until an open one is tried again, 0 for any other."""

    state: BreakerState
    failures: int
    ejections: int
    retry_in: float


class Breaker(Struct, frozen=True):
    """One engine's breaker. Every method gives the breaker that it has become; times are seconds of one clock.

    `failures` counts those in a row, `ejections` those since an ask was answered; `until` is when an open one lapses.
    """

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    ejections: int = 0
    until: float = 0.0

    def at(self, now: float) -> Breaker:
        """Let time pass."""
        if self.state is BreakerState.OPEN and now >= self.until:
            return self._move(Signal.LAPSED)
        return self

    def admits(self, now: float) -> bool:
        """Whether the engine may be given an ask."""
        return self.state is BreakerState.CLOSED or self.at(now).state in {BreakerState.CLOSED, BreakerState.HALF_OPEN}

    def take(self, now: float) -> Breaker:
        """The engine is given an ask. It is the probe if this turned half-open into probing."""
        return self if self.state is BreakerState.CLOSED else self.at(now)._move(Signal.TAKEN)  # noqa: SLF001  # another value of this very class

    def spoke(self) -> Breaker:
        """An answer has begun. If it was the probe's, the next failure opens the breaker again, for longer."""
        moved = self._move(Signal.SPOKE)
        return self if moved is self else Breaker(moved.state, THRESHOLD - 1, self.ejections)

    def answered(self) -> Breaker:
        """An ask was answered: whatever was believed, the engine works."""
        return self if self == HEALTHY else Breaker(NEXT[self.state].get(Signal.ANSWERED, self.state))

    def failed(self, now: float, *, probe: bool) -> Breaker:
        """An ask failed by the engine's own fault (see `retry.verdict`)."""
        failures = self.failures + 1
        signal = Signal.FAILED
        if self.state is BreakerState.CLOSED and failures >= THRESHOLD:
            signal = Signal.TRIPPED
        elif probe:
            signal = Signal.PROBE_FAILED
        if NEXT[self.state].get(signal) is not BreakerState.OPEN:
            return Breaker(self.state, failures, self.ejections, self.until)
        # The exponent is bounded, because 2.0 to a large one overflows.
        ejection = min(EJECTION_CAP, EJECTION * 2 ** min(self.ejections, 10))
        return Breaker(BreakerState.OPEN, failures, self.ejections + 1, now + ejection)

    def lost(self, *, probe: bool) -> Breaker:
        """An ask ended without a verdict on the engine."""
        return self._move(Signal.PROBE_LOST) if probe else self

    def statistics(self, now: float) -> BreakerStatistics:
        """What there is to know at this instant."""
        current = self.at(now)
        retry_in = self.until - now if current.state is BreakerState.OPEN else 0.0
        return BreakerStatistics(current.state, self.failures, self.ejections, retry_in)

    def _move(self, signal: Signal) -> Breaker:
        state = NEXT[self.state].get(signal, self.state)
        return self if state is self.state else Breaker(state, self.failures, self.ejections, self.until)


HEALTHY = Breaker()
"""One that knows of nothing wrong."""
