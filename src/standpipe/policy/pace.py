"""The pace: the rate limiter. How far apart one client's asks may start, as GCRA with one integer per client.

GCRA, the generic cell rate algorithm (ITU-T I.371), is the leaky bucket kept as one timestamp and without a refill job;
here without a burst. Unlike most rate limiters it delays first and refuses late. Pure arithmetic on microseconds; it
must not know a clock, a client or where the integer is kept (see `store.paces`).

Theory: the *theoretical arrival time* (TAT) is the first instant that is still free for this client. An ask reserves
`max(now, tat)` and moves the TAT one interval past it, so reserved instants are never closer than one interval, and a
client that was silent starts at once. Nothing is refused until more than `max_waiting` instants would lie ahead.
"""

from __future__ import annotations

from msgspec import Struct

MICROSECONDS = 1_000_000
"""In a second: the unit of every number in this module."""


class Rate(Struct, frozen=True):
    """What the operator grants each client: one ask every `interval` microseconds, `max_waiting` reserved ahead."""

    interval: int = MICROSECONDS // 2
    max_waiting: int = 8

    def __post_init__(self) -> None:
        if self.interval < 1 or self.max_waiting < 0:
            raise ValueError(f"interval must be at least 1 microsecond, max_waiting not negative: {self}")


class Go(Struct, frozen=True):
    """The ask may start now. `tat` is the client's new one."""

    tat: int


class Wait(Struct, frozen=True):
    """The ask may start at `until`, which is reserved for it. `tat` is the client's new one."""

    until: int
    tat: int


class Refuse(Struct, frozen=True):
    """Too many wait already. After `retry_after` microseconds one more would be taken. The TAT stays as it was."""

    retry_after: int


Verdict = Go | Wait | Refuse


class Peek(Struct, frozen=True):
    """What a client may see of its pace: when an ask sent now could start, and how many would be taken."""

    free_at: int
    remaining: int


def reserve(tat: int, now: int, rate: Rate, count: int = 1) -> Verdict:
    """Take the next free instant, and with it those that follow, `count` in all, for what counts as several asks. `tat`
    is 0 for a client that is not known."""
    start = max(now, tat)
    too_far = start - now - rate.max_waiting * rate.interval
    if too_far > 0:
        return Refuse(too_far)
    if start == now:
        return Go(start + count * rate.interval)
    return Wait(start, start + count * rate.interval)


def cancel(tat: int, until: int, rate: Rate, count: int = 1) -> int:
    """The client left before the instant `until` that it had reserved: give it back if nobody reserved after it.

    Returns the new TAT. In the middle of a chain nothing can be given back: the later instants were promised.
    """
    return until if tat == until + count * rate.interval else tat


def peek(tat: int, now: int, rate: Rate) -> Peek:
    """Look without reserving."""
    free_at = max(now, tat)
    room = rate.max_waiting * rate.interval - (free_at - now)
    return Peek(free_at, max(0, room // rate.interval + 1) if room >= 0 else 0)
