"""Standing: what is believed of one engine from how its asks went, and which of several gets the next one.

The field's names: a circuit breaker, slow start, and least-loaded balancing with decaying estimates of failure and
latency (Envoy's and Finagle's peak-EWMA; the same numbers would do for "power of two choices" where they are stale).
Here every engine's load is known exactly, so all are compared. Pure: numbers come in, and time is an argument; it must
not know what an engine is, nor what is asked of it.

An engine that fails at once always has the most free slots, and would draw every ask (the fail-fast black hole). So
what counts is not only how free it is: each recent failure makes it look busier than it is, and so does a first token
that comes much later than elsewhere.

A long prompt takes long to read, and which engine gets those is chance. How long is not known of the next ask: a prefix
cache may have most of it. So an engine is slow only if it is slow in both ways, in seconds and in seconds per token of
its prompts. Engines that take a + bn seconds for n tokens, with the same a and b, never differ by more than 2 in both,
whatever prompts each was given: by 1 + bn/a in the one, and by 1 + a/bn in the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp2, inf

from msgspec import Struct

from standpipe.policy.breaker import HEALTHY, Breaker, BreakerState
from standpipe.policy.overload import Slots
from standpipe.policy.retry import Verdict

_ANY = 1 << 30
"""More asks than any engine has slots: no slow start."""
_RAMPED = 64
"""Asks that may be owed a first word at a time, after which an engine counts as back."""
_GAIN = 0.3
"""The weight of the newest outcome in an estimate."""
_FAILING_HALF_LIFE = 10.0
"""Seconds after which a failure counts half."""
_LATENCY_HALF_LIFE = 30.0
"""Seconds after which half is left of what was believed of an engine's latency."""
_QUICK = 0.05
"""Seconds to a first token: below that, no engine is slow."""
_SLOW = 2.0
"""Times the fastest engine's latency: below that, engines are equally fast."""
_TEMPLATE = 32
"""Tokens that a chat template adds to a prompt, about: no prompt that is read has fewer."""
_SILENCE, _SILENT = 2.0, 5.0
"""Seconds, and times the usual latency: who says nothing to anybody for as long as both may have stopped."""
HOLD = 0.5
"""Seconds for which an engine that says that it is busy is left alone, at least; doubles while it goes on to say so."""
HOLD_CAP = 8.0
"""Seconds: no such doubling goes further."""
RETRY_AFTER_CAP = 60.0
"""Seconds: no engine is left alone for longer because it asks for it."""


class EngineStanding:
    """One engine. Times are seconds of one clock."""

    __slots__ = (
        "_busy_in_a_row", "_failing", "_failing_at", "_latency_at", "_owed_since", "_ramp", "_tokens", "auto",
        "breaker", "down_since", "held_until", "latency", "left_alone", "silent",
    )  # fmt: skip

    def __init__(self, auto: Slots | None = None) -> None:
        """`auto` finds out how many asks it takes at a time, where that is wanted."""
        self.auto = auto
        self.breaker: Breaker = HEALTHY
        self.down_since: float | None = None
        """Since when it is not there; None while it is."""
        self.held_until = 0.0
        """Before this it is not asked, because it said that it is busy."""
        self.left_alone = 0.0
        """Seconds for which it was left alone or will have been, in all: it was busy, or kept failing."""
        self.silent = 0
        """Asks that it was given and has not begun to answer."""
        self._busy_in_a_row = 0
        self._ramp = _ANY
        """While it comes back: how many asks it may owe a first word at a time."""
        self._failing = self._failing_at = 0.0
        self.latency: float | None = None
        """Usual seconds to a first token; None before the first."""
        self._tokens = 0.0
        """Usual tokens of the prompts that it took so long for."""
        self._latency_at = 0.0
        self._owed_since = 0.0
        """Since when it owes a first word to somebody and has given none to anybody."""

    def room(self, slots: int, busy: int, now: float) -> int:
        """How many more asks it may be given now, having `slots` of which `busy` are taken."""
        if self.down_since is not None or now < self.held_until:
            return 0
        free = slots - busy
        if self.breaker.state is not BreakerState.CLOSED:
            if not self.breaker.admits(now):
                return 0
            free = min(1, free)
        return max(0, min(free, self._ramp - self.silent))

    def opens_at(self, now: float) -> float | None:
        """The instant at which there may be room again by time alone; None when time changes nothing."""
        if self.down_since is not None:
            return None
        ejected = self.breaker.until if self.breaker.state is BreakerState.OPEN else 0.0
        instant = max(self.held_until, ejected)
        return instant if instant > now else None

    def expected(self, now: float, patience: float) -> bool:
        """Whether it can be expected to take an ask within so many seconds: an engine that has been away for longer
        than that will hardly come back within the same time."""
        return self.down_since is None or now - self.down_since < patience

    @property
    def pace(self) -> float:
        """Usual seconds to a first token, per token of the prompt."""
        return (self.latency or 0.0) / (self._tokens + 2 * _TEMPLATE)

    def cost(self, slots: int, busy: int, now: float, fastest: Fastest) -> float:
        """How dear it is to ask this engine next: its load, as it feels."""
        load = (busy + 1) / slots
        if self._failing:
            load += self._failing * exp2((self._failing_at - now) / _FAILING_HALF_LIFE)
        latency, usual = self.latency, max(_SLOW * fastest.latency, _QUICK)
        if latency is None or latency <= usual:
            return load
        slower = min(latency / usual, self.pace / max(_SLOW * fastest.pace, _QUICK / (2 * _TEMPLATE))) - 1
        return load if slower <= 0 else load * (1 + slower * exp2((self._latency_at - now) / _LATENCY_HALF_LIFE))

    def taken(self, now: float) -> bool:
        """It is given an ask. Gives whether that is the breaker's probe."""
        if not self.silent:
            self._owed_since = now
        self.silent += 1
        if self.breaker.state is BreakerState.CLOSED:
            return False
        before = self.breaker.at(now)
        self.breaker = before.take(now)
        return self.breaker.state is BreakerState.PROBING and before.state is not BreakerState.PROBING

    def spoke(self, now: float, seconds: float | None, tokens: int = 0, busy: int = 1) -> bool:
        """It has begun to answer one of `busy`, after so many seconds, where that says something of it, for a prompt of
        so many tokens. Gives whether it may be given more than before."""
        more = self._ramp < _ANY or self.breaker.state is not BreakerState.CLOSED
        self.silent -= 1
        self._owed_since = now
        self._busy_in_a_row = 0
        self.breaker = self.breaker.spoke()
        if self._ramp < _ANY:
            self._ramp = _ANY if self._ramp >= _RAMPED else self._ramp + 1  # doubles with each round
        if seconds is not None:
            if self.latency is None:
                self.latency, self._tokens = seconds, float(tokens)
            self.latency += _GAIN * (seconds - self.latency)
            self._tokens += _GAIN * (tokens - self._tokens)
            if self.auto is not None:
                slots = self.auto.value
                self.auto.first_token(tokens, seconds, busy, now)
                more = more or self.auto.value > slots
            self._latency_at = now
        return more

    def answered(self, now: float) -> None:
        """It has answered one."""
        if self.breaker.ejections:  # it has shown that it works again, and slow start has it prove that
            self._failing = 0.0
        elif self._failing:
            self._learn(0.0, now)
        self.breaker = self.breaker.answered()

    def failed(self, verdict: Verdict, now: float, *, probe: bool, retry_after: float | None = None) -> None:
        """It has failed one, in this way."""
        if self.auto is not None and verdict in {Verdict.BUSY, Verdict.FAULT}:
            self.auto.refused(now)
        match verdict:
            case Verdict.ASK:
                if probe:  # whether it was right to refuse is known only when another engine has been asked
                    self.held_until = max(self.held_until, now + HOLD)
                self.breaker = self.breaker.lost(probe=probe)
            case Verdict.EMPTY:
                self.breaker = self.breaker.answered()
            case Verdict.BUSY:
                self.hold(now, retry_after)
                self.breaker = self.breaker.lost(probe=probe)
            case Verdict.DOWN:
                self.went(now)
                self.breaker = self.breaker.lost(probe=probe)
            case Verdict.REFUSED | Verdict.ERROR | Verdict.FAULT:
                self._learn(1.0, now)
                ejected = self.breaker.until if self.breaker.state is BreakerState.OPEN else now
                self.breaker = self.breaker.failed(now, probe=probe)
                if self.breaker.state is BreakerState.OPEN:
                    self.left_alone += max(0.0, self.breaker.until - max(now, self.held_until, ejected))
                    self._ramp = 1

    def left(self, *, probe: bool, spoken: bool) -> None:
        """The client of one has left, or has enough. An engine that had begun to speak works."""
        self.breaker = self.breaker.answered() if spoken else self.breaker.lost(probe=probe)

    def over(self, *, spoken: bool) -> None:
        """An ask has ended, however; `spoken` if it had begun to be answered."""
        if not spoken:
            self.silent -= 1

    def hold(self, now: float, retry_after: float | None) -> None:
        """Leave it alone, for as long as it asked for within bounds. Then it begins slowly."""
        if now >= self.held_until:  # what was asked before the last refusal says nothing new
            self._busy_in_a_row += 1
        usual = min(HOLD_CAP, HOLD * 2 ** min(self._busy_in_a_row - 1, 10))
        wanted = retry_after if retry_after is not None and retry_after > 0 else 0.0  # NaN is not
        until = max(self.held_until, now + max(usual, min(wanted, RETRY_AFTER_CAP)))
        self.left_alone += until - max(now, self.held_until)
        self.held_until = until
        self._ramp = 1

    def went(self, now: float) -> None:
        """It is not there."""
        if self.down_since is None:
            self.down_since = now

    def came(self) -> None:
        """It is there. An engine that comes back begins slowly, with one ask and then with more each time it speaks.
        What it did before it went says nothing any more."""
        if self.down_since is not None:
            self.down_since = None
            self.breaker, self._failing, self._ramp = HEALTHY, 0.0, 1

    def suspected(self, now: float) -> bool:
        """Whether it is worth looking after: it is not there, it fails, or it says nothing for unusually long."""
        if self.down_since is not None or self.breaker.state is not BreakerState.CLOSED:
            return True
        return self.silent > 0 and now - self._owed_since > max(_SILENCE, _SILENT * (self.latency or 0.0))

    def _learn(self, outcome: float, now: float) -> None:
        failing = self._failing * exp2((self._failing_at - now) / _FAILING_HALF_LIFE)
        self._failing = failing + _GAIN * (outcome - failing)
        self._failing_at = now
        if self._failing < 0.01:
            self._failing = 0.0


class Fastest(Struct, frozen=True):
    """The least `latency` and the least `pace` of several engines, infinite where none has any."""

    latency: float = inf
    pace: float = inf

    @classmethod
    def of(cls, standings: Iterable[EngineStanding]) -> Fastest:
        latency = pace = inf
        for one in standings:
            if one.latency is not None:
                latency, pace = min(latency, one.latency), min(pace, one.pace)
        return cls(latency, pace)


class Option(Struct, frozen=True):
    """One engine that has room, as a choice. `seen`: how often it has seen the ask; `rank`: 0 where it serves the
    wanted model, more for one that may answer in its stead; `priority`: more for a spare; `taken_at`: when it was last
    given an ask, as a count that grows."""

    seen: int
    rank: int
    priority: int
    cost: float
    taken_at: int


def choose(options: Sequence[Option | None], home: int | None = None, slack: float = 0.0) -> int | None:
    """The index of the engine that gets the ask; None when there is none. Engines without room are None.

    In this order: seen it less often, serves the wanted model, is no spare, is cheapest, has been idle longest. `home`
    (`affinity`) comes before others that are cheaper by up to `slack`.
    """
    best: int | None = None
    least: tuple[int, int, int, float, int] | None = None
    for i, option in enumerate(options):
        if option is None:
            continue
        cost, since = (option.cost - slack, -1) if i == home else (option.cost, option.taken_at)
        rank = (option.seen, option.rank, option.priority, cost, since)
        if least is None or rank < least:
            best, least = i, rank
    return best
