"""Retries: what a failed attempt says, and whether another one follows it, where, and after how long.

The field's names: exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", 2015), and a retry
budget (Envoy's; "Handling Overload" in Google's "Site Reliability Engineering", 2016). Pure: the failure, a few numbers
and a random one come in, a decision goes out.

Nothing is repeated once the client has been sent anything, for half an answer cannot be taken back. What an engine
refused without working on it (it is busy, it is not there, it does not take our key) costs nothing and goes on
elsewhere, or waits. What failed while an engine worked is repeated a few times: first where it has not been seen, later
with full jitter. A budget lets such retries be only a tenth of what succeeds, once its small reserve is spent, so that
a fleet in trouble is not asked three times as often as a healthy one; it never keeps an ask from an idle engine.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from standpipe.chat.errors import EngineDown, EngineFailed, Failure, NoAnswer

ATTEMPTS = 3
"""Attempts in which an engine worked on one ask, the first included."""
BACKOFF = 0.25
"""Seconds: the longest delay before the second attempt at an engine. It doubles with each attempt after that."""
BACKOFF_CAP = 4.0
"""Seconds: no backoff is longer."""


class Verdict(StrEnum):
    """What a failed attempt says, and of whom."""

    ASK = "ask"
    """The ask is wrong: the same bytes fail again. Only that other engines take it tells that this one was wrong."""
    BUSY = "busy"
    """The engine has too much to do (429, 503): not now."""
    DOWN = "down"
    """The engine is not there for now: it refuses connections, loads a model or starts again."""
    REFUSED = "refused"
    """The engine will not work for us at all: a wrong key, an unknown path (any other 4xx)."""
    ERROR = "error"
    """The engine said 500: bad luck, or an ask that breaks whatever reads it. Worth one more attempt, never a tour."""
    EMPTY = "empty"
    """The model thought and said nothing. The engine works; worth one more attempt."""
    FAULT = "fault"
    """The engine failed while it worked: it was silent, broke off, was unreadable, or said any other 5xx."""


def verdict(failure: Failure) -> Verdict:
    """What an attempt that failed like this says."""
    if not isinstance(failure, EngineFailed):
        return Verdict.ASK
    if isinstance(failure, EngineDown):
        return Verdict.DOWN
    if isinstance(failure, NoAnswer):
        return Verdict.EMPTY
    status = failure.upstream_status
    if status in {429, 503}:
        return Verdict.BUSY
    if status == 500:
        return Verdict.ERROR
    return Verdict.REFUSED if status is not None and 400 <= status < 500 and status != 408 else Verdict.FAULT


class Again(Struct, frozen=True):
    """Attempt once more after `delay` seconds; `elsewhere`: only at an engine that has not seen the ask."""

    delay: float = 0.0
    elsewhere: bool = False


class GiveUp(Struct, frozen=True):
    """The failure is the answer."""


class Others(Struct, frozen=True):
    """The engines that have not seen the ask: whether any of them can be expected to take it, and one at once."""

    expected: bool = False
    idle: bool = False


def decide(
    found: Verdict,
    *,
    worked: int,
    sent: bool,
    others: Others,
    affords: bool,
    chance: float,
    most: int = ATTEMPTS,
) -> Again | GiveUp:
    """Decide what follows an attempt that failed.

    Args:
        found: what the failure says.
        worked: attempts in which an engine worked on the ask or found it wrong, this one included.
        sent: whether the client has been sent any of this answer.
        others: the engines that have not seen the ask.
        affords: whether the budget of retries has one left.
        chance: a random number in 0..1, for the jitter.
        most: the most that `worked` may become.
    """
    if sent:
        return GiveUp()
    match found:
        case Verdict.BUSY | Verdict.DOWN:
            return Again()
        case Verdict.REFUSED:
            return Again(elsewhere=True) if others.expected else GiveUp()
        case Verdict.ASK:  # a second opinion, where it costs nobody a wait
            return Again(elsewhere=True) if others.idle and worked == 1 and most > 1 else GiveUp()
    if worked >= (min(2, most) if found in {Verdict.ERROR, Verdict.EMPTY} else most):
        return GiveUp()
    if others.idle or (others.expected and affords):
        return Again(elsewhere=True)
    return Again(chance * min(BACKOFF_CAP, BACKOFF * 2 ** (worked - 1))) if affords else GiveUp()


class Budget(Struct, frozen=True):
    """How many retries the engines may still be sent. A retry costs 1, an answer earns a tenth; it starts full.

    Counted in tenths, because ten times 0.1 is less than 1.
    """

    tenths: int = 100

    @property
    def retries(self) -> float:
        """What is left, in retries."""
        return self.tenths / 10

    @property
    def affords(self) -> bool:
        """Whether a retry may be sent."""
        return self.tenths >= 10

    def spend(self) -> Budget:
        """Pay for one retry, down to nothing."""
        return Budget(max(0, self.tenths - 10))

    def earn(self) -> Budget:
        """Count one answer, up to full."""
        return self if self.tenths >= 100 else Budget(self.tenths + 1)
