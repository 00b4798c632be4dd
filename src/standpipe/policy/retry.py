"""Retries: whether a failed attempt is followed by another one, and after how long.

The field's names: exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", 2015), and a retry
budget (Envoy's; "Handling Overload" in Google's "Site Reliability Engineering", 2016). Pure: the failure, the count and
a random number come in, a decision goes out. Two rules keep a retry harmless. Nothing may have been sent to the client,
for half an answer cannot be taken back; and the failure must be one that time or another engine can mend. Two more keep
retries from making an overload worse: full jitter spreads them (a random delay up to a cap that doubles), and a budget
per engine lets them be only a tenth of what succeeds, once its small reserve is spent, so that an engine in trouble is
not asked three times as often as a healthy one.
"""

from __future__ import annotations

from msgspec import Struct

from standpipe.chat.errors import EngineFailed, Failure

ATTEMPTS = 3
"""Attempts for one ask, the first included."""
BACKOFF = 0.25
"""Seconds: the longest delay before the second attempt. It doubles with each attempt after that."""
BACKOFF_CAP = 4.0
"""Seconds: no backoff is longer."""
PATIENCE = 10.0
"""Seconds: an engine that says `Retry-After` with more than this is not waited for. The client is told instead."""

PASSING = frozenset({408, 429, 502, 503, 504})
"""HTTP statuses of an engine that say: not now."""


class Again(Struct, frozen=True):
    """Attempt once more after `delay` seconds."""

    delay: float


class GiveUp(Struct, frozen=True):
    """The failure is the answer."""


def classify(
    failure: Failure, *, attempt: int, anything_sent: bool, chance: float, elsewhere: bool = False, most: int = ATTEMPTS
) -> Again | GiveUp:
    """Decide what follows an attempt that failed.

    Args:
        failure: how it failed.
        attempt: which one failed, the first being 1.
        anything_sent: whether the client has been sent any of this answer.
        chance: a random number in 0..1, for the jitter.
        elsewhere: whether the next attempt goes to another engine; then this one's `retry_after` binds nobody.
        most: attempts for one ask, the first included.
    """
    if anything_sent or attempt >= most or not _may_pass(failure, attempt):
        return GiveUp()
    backoff = chance * min(BACKOFF_CAP, BACKOFF * 2 ** (attempt - 1))
    if elsewhere or failure.retry_after is None:
        return Again(backoff)
    if failure.retry_after > PATIENCE:
        return GiveUp()
    return Again(max(backoff, failure.retry_after))


def _may_pass(failure: Failure, attempt: int) -> bool:
    """Whether time or another engine may mend this."""
    if not isinstance(failure, EngineFailed):
        return False  # the client's fault, or our own: the same ask fails again
    status = failure.upstream_status
    if status is None:
        return True  # refused, broken off, unreadable or silent
    # A bare 500 may be bad luck or an ask that kills whatever reads it: worth one more attempt, never a tour of all.
    return status in PASSING or (status == 500 and attempt == 1)


class Budget(Struct, frozen=True):
    """How many retries an engine may still be sent. A retry costs 1, an answer earns a tenth; it starts full.

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
