"""A member of a group, and the ladder that eligible members stand on.

A ladder orders members by how much they have had, and of equals by how long ago. It is a heap whose entries may be out
of date, because counters rise all the time and only the lowest rung matters: an entry that is too low is put right when
it comes up, and one that is no longer its member's own is dropped then. Knows no theory; see `group`.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from standpipe.policy.line.group import Group

_SLACK = 32
"""Entries out of date that are never worth a clean-up."""


class Member:
    """One of a group. It is eligible exactly while `entry` is set, and then stands on one of the group's ladders."""

    __slots__ = (
        "cap", "counter", "entry", "expected", "fresh", "group", "indebted", "name", "running", "served", "waiting",
    )  # fmt: skip

    def __init__(self, group: Group | None, name: str, cap: int) -> None:
        self.group = group
        self.name = name
        self.cap = cap
        self.counter = 0.0
        """Weighted tokens delivered to it, or credited as if."""
        self.served = 0
        """When it was last given a slot, counted in slots given; 0 for never."""
        self.running = 0
        self.waiting = 0
        """Asks below it that may start as far as time is concerned."""
        self.expected = 0.0
        """Weighted tokens that its waiting asks are expected to cost."""
        self.entry: Entry | None = None
        self.fresh = False
        """It came with nothing else waiting and no more than its share used."""
        self.indebted = False
        """It is in its group's list of debts."""

    @property
    def cost(self) -> float:
        """Weighted tokens that one of its waiting asks is expected to cost."""
        return self.expected / self.waiting

    def startable(self) -> bool:
        """Whether an ask below it may start, as far as those below it are concerned."""
        raise NotImplementedError


Entry = tuple[float, int, int, Member]
"""Counter, when last served, a serial number, and whose it is. Out of date unless it is the member's own `entry`, or
when the counter has risen."""


class Ladder:
    """See the module."""

    __slots__ = ("_entries", "_serial", "count")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._serial = 0
        self.count = 0
        """Members on it."""

    def add(self, member: Member) -> None:
        self.count += 1
        self.move(member)

    def remove(self, member: Member) -> None:
        self.count -= 1
        member.entry = None

    def move(self, member: Member) -> None:
        """A member's counter has fallen: its entry would come up too late."""
        heappush(self._entries, self._enter(member))
        if len(self._entries) > 2 * self.count + _SLACK:
            self._entries = [entry for entry in self._entries if entry[3].entry is entry]
            heapify(self._entries)

    def lowest(self) -> Member | None:
        """Who has had least, and of those longest ago."""
        entries = self._entries
        while entries:
            entry = entries[0]
            member = entry[3]
            if member.entry is not entry:
                heappop(entries)
            elif member.counter > entry[0]:
                heapreplace(entries, self._enter(member))
            else:
                return member
        return None

    def before(self, member: Member) -> list[Member]:
        """Those on it who come before one that stands on it."""
        return [
            entry[3] for entry in self._entries if member.entry and entry[3].entry is entry and entry < member.entry
        ]

    def _enter(self, member: Member) -> Entry:
        self._serial += 1
        entry = member.entry = (member.counter, member.served, self._serial, member)
        return entry

    def __repr__(self) -> str:
        return f"<Ladder of {self.count}>"
