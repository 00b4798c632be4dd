"""A group: members that share what the group gets, fairly by counters. The theory of the fair line is here.

Every member (a block among blocks, a client in its block, a share of its client) has a *counter* of the weighted tokens
delivered to it. A slot goes to the *eligible* member with the smallest counter, on a tie to the one served longest ago.
Eligible is who has an ask that may start and fewer running than its cap. Two floors make the counters of the idle
worthless as credit, yet keep their debts:

* the *floor* V: the smallest counter among eligible members when a slot was last given. It never falls.
* the *clock* F: grows by x / n whenever x is delivered to one of n active members; kept within [V, V + U].

Who comes from idleness, with nothing running and nothing else waiting, is lifted to max(own, F); who becomes eligible
again because it is below its cap again, to max(own, V). (V is not the smallest counter of the moment: where everybody
may run one ask, whoever runs it is not eligible, and would be lifted to the others each time, whatever its ask cost.)

*The bound.* U(k) (see `cost`) is the most that a counter can rise above V with k asks running: when a member is given a
slot its counter equals V, and until the next time it gains at most one prompt and the output of what runs, while V does
not fall. With U that of the cap, all counters stay within [V, V + U]; so while a member is eligible nobody else gets
more than 2U more than it does, however long that is, however many members or slots there are.

*Those who come fresh*, with nothing else waiting and, counting what they ask now, no more than F used, go first, in
order of coming: a stranger finds the next slot, not the end of the line. They may go past the smallest counter every
other time, and only from counters of at most V + U - U(r + 1), r being what they have running: then a counter stays
below V + U whatever they were given, and the bound holds for them too.

*Why a clock.* Would newcomers enter at V, an endless storm of them would keep V where it is, and who stands above it
would wait for ever. The clock goes on, and newcomers enter behind everybody who has had less than the average.

*Memory.* Who is idle at or below F would be lifted there when it returns, so it is forgotten. Debts last as long as
their group: an idle group that is forgotten takes the debts of its own members along.

Knows no asks, no weights and no time. `Fair` builds the tree of groups.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush, heapreplace

Entry = tuple[float, int, int, "Member"]
"""Counter, when last served, a serial number, and whose it is. Stale unless it is the member's own `entry`."""

_SLACK = 32
"""Stale entries that are never worth a clean-up."""


class Member:
    """One of a group. It is eligible exactly while `entry` is set."""

    __slots__ = (
        "cap", "counter", "entry", "expected", "fresh", "group", "indebted", "name", "running", "served", "waiting",
    )  # fmt: skip

    def __init__(self, group: Group | None, name: str, cap: int) -> None:
        self.group = group
        self.name = name
        self.cap = cap
        self.counter = 0.0
        self.served = 0
        """When it was last given a slot, counted in slots given; 0 for never."""
        self.running = 0
        self.waiting = 0
        """Asks below it that may start as far as time is concerned."""
        self.expected = 0.0
        """Weighted tokens that its waiting asks are expected to cost."""
        self.entry: Entry | None = None
        self.fresh = 0
        """The serial number of its coming while it is fresh, else 0."""
        self.indebted = False
        """It is in its group's list of debts."""

    def startable(self) -> bool:
        """Whether an ask below it may start, as far as those below it are concerned."""
        raise NotImplementedError


class Group(Member):
    """Members and their two floors."""

    __slots__ = (
        "active", "arrivals", "clock", "debts", "eligible", "floor", "heap", "members", "passed", "queued", "reach",
        "serial", "step",
    )  # fmt: skip

    def __init__(self, group: Group | None, name: str, cap: int) -> None:
        super().__init__(group, name, cap)
        self.reach = 0.0
        """U of its members, by their largest cap."""
        self.step = 0.0
        """U(k + 1) - U(k)."""
        self.members: dict[str, Member] = {}
        self.queued: dict[str, Member] = {}
        """Those with asks waiting."""
        self.active = 0
        """Members with asks waiting or running."""
        self.eligible = 0
        self.floor = 0.0
        self.clock = 0.0
        self.heap: list[Entry] = []
        self.arrivals: deque[tuple[int, Member]] = deque()
        """Those who came fresh, in order. Stale unless the number is the member's own `fresh`."""
        self.passed = False
        """The last slot went past the one with the smallest counter: the next one may not."""
        self.debts: list[tuple[float, int, Member]] = []
        self.serial = 0

    def startable(self) -> bool:
        return self.eligible > 0

    def choose(self, *, reserved: bool = False) -> Member | None:
        """The eligible member that gets the next slot. A `reserved` slot is only for one that came fresh."""
        least = self._least()
        if least is None:
            return None
        chosen = self._freshest(max(self.floor, least.counter)) if reserved or not self.passed else None
        if not reserved:
            chosen = chosen or least
            self.passed = chosen is not least
        if chosen is not None:
            self.floor = max(self.floor, least.counter)
        return chosen

    def _least(self) -> Member | None:
        """The eligible member with the smallest counter.

        Counters that rose leave entries that are too low: they are put right when they come up.
        """
        heap = self.heap
        while heap:
            entry = heap[0]
            member = entry[3]
            if member.entry is not entry:
                heappop(heap)
            elif member.counter > entry[0]:
                heapreplace(heap, self._entry(member))
            else:
                return member
        return None

    def _freshest(self, floor: float) -> Member | None:
        """The first of those who came fresh, if the bound allows it to go first."""
        while self.arrivals:
            number, member = self.arrivals[0]
            if member.fresh == number:
                if member.counter <= floor + (member.cap - member.running - 1) * self.step:
                    return member
                member.fresh = 0
            self.arrivals.popleft()
        return None

    def admit(self, member: Member, *, arrived: bool = False) -> None:
        """A member has become eligible: lift it, let it stand in line. `arrived`: by an ask that came just now."""
        entrance = self.entrance()
        if self.debts:
            self._forgive(entrance)
        own = member.counter
        alone = arrived and member.waiting == 1
        member.counter = max(own, entrance if alone and not member.running else self.floor)
        self.eligible += 1
        self._push(member)
        if alone and own <= entrance + member.expected:
            member.fresh = self.serial
            self.arrivals.append((self.serial, member))

    def dismiss(self, member: Member) -> None:
        """A member is eligible no longer."""
        member.entry = None
        member.fresh = 0
        self.eligible -= 1

    def serve(self, member: Member, weight: float, served: int) -> None:
        """The member that was chosen gets a slot, and service of this weight at once."""
        member.served = served
        member.fresh = 0
        member.running += 1
        self.deliver(member, weight)
        if member.running >= member.cap or not member.startable():
            self.dismiss(member)
        elif self.heap[0] is member.entry:
            heapreplace(self.heap, self._entry(member))

    def deliver(self, member: Member, weight: float) -> None:
        """Count service to an active member."""
        member.counter += weight
        self.clock = min(self.entrance() + weight / self.active, self.floor + self.reach)

    def give_back(self, member: Member, weight: float) -> bool:
        """Service was counted that was not delivered. Returns False if only a part could be given back: a counter
        never sinks below the floor, or the floor itself would fall."""
        own = member.counter
        lowest = min(own, self.floor)
        member.counter = max(own - weight, lowest)
        if member.entry is not None:
            self._push(member)
        return own - weight >= lowest

    def retire(self, member: Member) -> None:
        """A member has nothing waiting and nothing running: forget it, or remember its debt."""
        self.active -= 1
        if member.indebted:
            return
        if member.counter <= self.entrance():
            del self.members[member.name]
        else:
            self._remember(member)

    def replace(self, member: Member, other: Member) -> None:
        """Let `other` stand where a member stood, with all that the member had in this group."""
        self.members[member.name] = other
        other.counter, other.served = member.counter, member.served
        other.running, other.waiting, other.expected = member.running, member.waiting, member.expected
        if other.waiting:
            self.queued[member.name] = other
        elif not other.running:
            self._remember(other)
        # Its number would be a stranger's in the group that it goes to.
        self.arrivals = deque(arrival for arrival in self.arrivals if arrival[1] is not member)
        if member.entry is not None:
            member.entry = None
            self._push(other)

    def adopt(self, member: Member) -> None:
        """Take in a member that comes from elsewhere, with its asks and without its past."""
        self.members[member.name] = member
        member.counter, member.fresh, member.indebted = 0.0, 0, False
        if member.waiting:
            self.queued[member.name] = member
        if member.waiting or member.running:
            self.active += 1
        if member.running < member.cap and member.startable():
            self.admit(member)

    def entrance(self) -> float:
        """Where who comes from idleness enters at the lowest: F, which is never below V."""
        return max(self.clock, self.floor)

    def _push(self, member: Member) -> None:
        heappush(self.heap, self._entry(member))
        if len(self.heap) > 2 * self.eligible + _SLACK:
            self.heap = [entry for entry in self.heap if entry[3].entry is entry]
            heapify(self.heap)
        if len(self.arrivals) > 2 * self.eligible + _SLACK:
            self.arrivals = deque(arrival for arrival in self.arrivals if arrival[1].fresh == arrival[0])

    def _entry(self, member: Member) -> Entry:
        self.serial += 1
        entry = member.entry = (member.counter, member.served, self.serial, member)
        return entry

    def _remember(self, member: Member) -> None:
        member.indebted = True
        self.serial += 1
        heappush(self.debts, (member.counter, self.serial, member))

    def _forgive(self, entrance: float) -> None:
        """Forget the idle whose debts are paid: others have been served as much by now."""
        while self.debts and self.debts[0][0] <= entrance:
            member = heappop(self.debts)[2]
            if member.group is not self:
                continue
            member.indebted = False
            if member.running or member.waiting:
                continue
            if member.counter <= entrance:
                del self.members[member.name]
            else:
                self._remember(member)
