"""Forecasts: how long a waiting ask will wait, from what is ahead of it and how long asks have been taking.

Pure arithmetic on levels (see `order`). Theory: an ask is held up by its client's cap, by its block's and by the number
of slots. At each of these levels `asks` are ahead and `cap - running` slots are free, so `asks + 1 - free` of those
ahead must finish first. With all of the cap busy one finishes every `answer_seconds / cap`. The longest of these waits
is the wait.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from standpipe.policy.line.order import Level


class Forecast(Struct, frozen=True):
    """`position` 1 is next. `wait` is seconds until the slot, None while too little has been measured."""

    position: int
    wait: float | None


def predict(levels: Iterable[Level], answer_seconds: float | None) -> float | None:
    """Seconds until the slot. `answer_seconds` is how long a usual ask holds one, None if not measured yet."""
    wait = 0.0
    for level in levels:
        endings = level.asks + 1 - (level.cap - level.running)
        if endings > 0:
            if answer_seconds is None:
                return None
            wait = max(wait, endings * answer_seconds / level.cap)
    return wait
