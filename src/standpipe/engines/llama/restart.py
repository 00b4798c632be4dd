"""Whether and when a child process that ended is started again. Pure: what happened in, a decision out.

The theory: a model that was served once will most likely be served again, so the first new start comes at once, and
each failure in a row doubles the wait. A process that breaks down while it starts, rather than saying what is wrong,
does so every time. Having lived for a while wipes the slate.
"""

from __future__ import annotations

import signal
from typing import Final

from msgspec import Struct

FIRST_DELAY: Final = 0.25
LONGEST_DELAY: Final = 30.0
SETTLED: Final = 60.0
"""Seconds of life after which earlier failures no longer count."""
HOPELESS: Final = frozenset({-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGILL, -signal.SIGBUS, -signal.SIGFPE})


class End(Struct, frozen=True):
    """How a child ended: its exit code, negative for a signal, and the seconds it served; 0 when it never did."""

    code: int
    served: float = 0.0


class Restarts(Struct, frozen=True):
    """How many times in a row it failed."""

    failures: int = 0

    def after(self, end: End) -> tuple[Restarts, float | None]:
        """What to remember, and how many seconds to wait; None means never again."""
        if end.served == 0.0 and end.code in HOPELESS:
            return Restarts(self.failures + 1), None
        failures = 0 if end.served >= SETTLED else self.failures
        return Restarts(failures + 1), min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(failures, 10))
