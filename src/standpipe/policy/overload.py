"""Overload: load shedding when too many wait for too long, and how many asks an engine really takes at a time.

The shedding is CoDel (Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 2012; RFC 8289), told apart from
backpressure, which slows a stream that its reader does not take. The number of slots is found as TCP finds its window:
additive increase, multiplicative decrease (AIMD), which others call adaptive concurrency limits. Pure numbers; knows no
ask and no engine. Both parts judge by what an overload does, not by what causes one.
"""

from __future__ import annotations

from math import ceil, inf

from msgspec import Struct


class ShedTarget(Struct, frozen=True):
    """When a line counts as standing: nobody waited less than `target` seconds for a whole `interval` of seconds.

    Waiting is what a line is for, so `target` belongs near the longest wait that is promised, not near zero.
    """

    target: float = 30.0
    interval: float = 10.0


class Sojourn:
    """CoDel's load shedding: watches how long asks waited for a slot.

    The *shortest* wait of an interval tells a standing line from a burst, which a line is there to take. While it
    stands, each interval sheds half of what waits beyond `target`: enough to end it soon, never all at once. An idle
    slot is a wait of nothing. What a client waits for its own pace, cap or earlier asks is not the line's doing and
    must not be told.
    """

    __slots__ = ("_granted", "_shortest", "_since", "target")

    def __init__(self, target: ShedTarget) -> None:
        self.target = target
        self._since: float | None = None
        self._shortest = inf
        self._granted = 0

    def observe(self, waited: float, now: float) -> None:
        """Somebody got a slot after waiting for it this many seconds."""
        if self._since is None:
            self._since = now
        self._granted += 1
        self._shortest = min(self._shortest, waited)

    def idle(self, now: float) -> None:
        """A slot is free and nobody wants it."""
        self._since = now
        self._shortest = inf
        self._granted = 0

    def excess(self, waiting: int, now: float) -> int:
        """How many of the `waiting` to shed now. An interval in which nobody got a slot says nothing and goes on."""
        if self._since is None or now - self._since < self.target.interval or not self._granted:
            return 0
        standing = self._shortest > self.target.target
        timely = self._granted * self.target.target / (now - self._since)
        self._since, self._shortest, self._granted = now, inf, 0
        return ceil(max(0.0, waiting - timely) / 2) if standing else 0

    def __repr__(self) -> str:
        return f"<Sojourn shortest {self._shortest:.1f} s of {self._granted} since {self._since}>"


class SlotRange(Struct, frozen=True):
    """Between which numbers of slots to look, and how carefully.

    `tolerance` is how many times the best seconds per prompt token the usual ones may be; `pause` is seconds after a
    decrease in which there is no other, because asks that were under way tell of the past.
    """

    least: int = 1
    most: int = 64
    tolerance: float = 2.0
    pause: float = 10.0


class Slots:
    """Finds how many asks an engine takes at a time: one more for every round of asks that went well while all slots
    were in use, a part fewer when it refused one or when first tokens came late (AIMD).

    The length of an answer says nothing about an engine's load, so only the time to the first token counts, divided by
    the prompt's tokens. Short prompts count as `_SHORT` tokens: their time is overhead.
    """

    __slots__ = ("_best", "_calm_until", "_range", "_usual", "_value")

    _SHORT = 256
    _GAIN = 0.1
    _AGEING = 1.001
    """By which the best time is forgotten, with each first token."""

    def __init__(self, slots: int, within: SlotRange) -> None:
        self._range = within
        self._value = float(min(within.most, max(within.least, slots)))
        self._best = inf
        self._usual: float | None = None
        self._calm_until = -inf

    @property
    def value(self) -> int:
        """How many asks to give the engine at a time."""
        return int(self._value)

    def first_token(self, prompt_tokens: int, seconds: float, running: int, now: float) -> None:
        """An answer began `seconds` after its slot was granted, while `running` asks ran."""
        time = seconds / max(self._SHORT, prompt_tokens)
        self._usual = time if self._usual is None else self._usual + self._GAIN * (time - self._usual)
        self._best = min(self._best * self._AGEING, self._usual)
        if self._usual > self._range.tolerance * self._best:
            self._decrease(0.9, now)
        elif running >= self.value:
            self._value = min(float(self._range.most), self._value + 1 / self._value)

    def refused(self, now: float) -> None:
        """The engine said that it has too much to do, or did not answer in time."""
        self._decrease(0.7, now)

    def _decrease(self, factor: float, now: float) -> None:
        if now >= self._calm_until:
            self._value = max(float(self._range.least), self._value * factor)
            self._calm_until = now + self._range.pause

    def __repr__(self) -> str:
        return f"<Slots {self.value} within {self._range.least}..{self._range.most}>"
