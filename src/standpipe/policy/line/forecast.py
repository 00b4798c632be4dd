"""Forecasts: how long a waiting ask will wait, from what is ahead of it and how long asks have been taking.

Theory: an ask is held up by its client's cap, by its block's and by the number of slots. At each of these levels `asks`
are ahead and `cap - running` slots are free, so `asks + 1 - free` of those ahead must finish first. With all of the cap
busy one finishes every `answer_seconds / cap`. The longest of these waits is the wait. What is ahead is found by
playing the line forward, level by level, as if each waiting ask cost what is expected of it. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, floor

from msgspec import Struct

from standpipe.policy.line.group import Group, Node


class Forecast(Struct, frozen=True):
    """`position` 1 is next. `wait` is seconds until the slot, None while too little has been measured."""

    position: int
    wait: float | None


class Level(Struct, frozen=True):
    """One of the wholes that an ask is a part of: its client, its block, everybody.

    `asks` of it will be served before the ask; `running` of it run now, and `cap` may.
    """

    asks: int
    running: int
    cap: int


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


def passing(group: Group, member: Node | None, weight: float, own: float) -> tuple[int, float]:
    """How many asks of a member's rivals, of which weight, start before it has got `weight` and starts one more.

    `own` is what one ask of the member is expected to cost. An ask that runs is half paid for, on average. `member` is
    None for a client that the group does not know.
    """
    if member is not None and member.fresh and not weight:
        earlier = group.fresher.before(member)
        return len(earlier), sum(other.cost for other in earlier)
    if member is None:
        start = group.entry_level() + weight
    else:
        start = max(member.counter, group.virtual_time) + member.running * own / 2 + weight
    asks, their_weight = 0, 0.0
    for other in group.backlogged.values():
        if other is not member:
            behind = (start - other.counter) / other.cost - other.running / 2
            # On a tie the one served longest ago is next: the rival, if the member was served in between.
            first = floor(behind) + 1 if weight else ceil(behind)
            first = min(other.waiting, max(int(other.fresh), first))
            asks += first
            their_weight += first * other.cost
    return asks, their_weight
