"""Poison: asks that kill the engine that works on them (a "query of death"), recognised by what they leave behind.

Which of the asks that ran when an engine died has killed it, nobody can see. If many ran, nothing is concluded: engines
also die by themselves. If few did, each of them is suspect, and its next attempt is made last, when nobody waits, and
alone, so that it harms nobody and its end proves something. An ask whose engine dies a second time gets no third one,
and if it was alone then, the same bytes are refused for a while. Pure: `now` is an argument, in seconds.

Must not know engines, nor what an ask is: a fingerprint is all that is kept, and none is kept for long.
"""

from __future__ import annotations

from msgspec import Struct

FEW = 4
"""Asks that may have run when an engine died for each of them to be suspect."""
MEMORY = 600.0
"""Seconds for which a death is remembered, and for which a poison is refused."""
MOST = 4096
"""Fingerprints that are remembered at a time."""


class _Death(Struct, frozen=True):
    until: float
    proved: bool


class Poison:
    """What is remembered of asks whose engines died."""

    def __init__(self) -> None:
        self._deaths: dict[bytes, _Death] = {}  # the oldest first: each lives equally long

    def refuses(self, fingerprint: bytes, now: float) -> bool:
        """Whether these bytes are known to kill engines."""
        death = self._of(fingerprint, now)
        return death is not None and death.proved

    def suspects(self, fingerprint: bytes, now: float) -> bool:
        """Whether an engine has died of an ask with these bytes, perhaps."""
        return self._of(fingerprint, now) is not None

    def died(self, fingerprint: bytes, running: int, now: float) -> bool:
        """An engine has died while this ask and `running - 1` others ran. Gives whether it must not be tried again."""
        if running > FEW:
            return False
        again = self._of(fingerprint, now) is not None
        self._deaths.pop(fingerprint, None)
        self._deaths[fingerprint] = _Death(now + MEMORY, proved=again and running == 1)
        while len(self._deaths) > MOST:
            del self._deaths[next(iter(self._deaths))]
        return again

    def survived(self, fingerprint: bytes) -> None:
        """It has been answered: what was thought of it was wrong."""
        self._deaths.pop(fingerprint, None)

    def _of(self, fingerprint: bytes, now: float) -> _Death | None:
        death = self._deaths.get(fingerprint)
        if death is not None and now >= death.until:
            del self._deaths[fingerprint]
            return None
        return death

    def __len__(self) -> int:
        return len(self._deaths)
