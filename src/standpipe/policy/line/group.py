"""A group: members that share what the group gets, fairly by counters. The theory of the fair line is here.

Every member (a block among blocks, a client in its block, a share of its client) has a *counter* of the weighted tokens
delivered to it. A slot goes to an *eligible* member, one that has an ask that may start and fewer running than its cap,
with the smallest counter; on a tie to the one served longest ago.

*The bound.* V is the smallest counter among the eligible when a slot was last given; it never falls, and whoever
becomes eligible is lifted to it. U(k) (see `cost`) is the most that a counter can rise with k asks running: when a
member is given a slot its counter equals V, and until the next time it gains at most one prompt and the output of what
runs. With U that of the cap, all counters stay within [V, V + U]. (One that fell behind V while its member was at its
cap is lifted before it is charged.) So while a member is eligible nobody else gets more than 2U more than it does,
however long that is, however many members or slots there are. Another than the lowest may be given a slot if its
counter is at most V + U - U(r + 1), r being what it has running: then it stays below V + U, too.

*Fresh and standing.* Fresh is who comes with nothing else waiting and, counting what it asks now, with no more used
than the average; all others stand. Those who come fresh go first as far as the bound allows, so that a stranger finds
the next slot; but they get at most three of four tokens while others stand, so that these are served whatever comes.

*Idle time is no credit, and debts are kept.* Who comes from idleness enters no lower than where the standing are: at E,
the counter of the standing member that was last given a slot. While nobody stands, E follows the clock F, which grows
by x / n whenever x is delivered to one of n active members and stays within [V, V + U]; so E does not stay behind what
a stream of newcomers leaves. F is also the average that freshness is measured by.

*Memory.* Who is idle at or below E would be lifted there when it returns, so it is forgotten. Debts last as long as
their group: an idle group that is forgotten takes the debts of its own members along.

Knows no asks, no weights and no time. `Fair` builds the tree of groups.
"""

from __future__ import annotations

from heapq import heappop, heappush

from standpipe.policy.line.member import Ladder, Member

_FRESH = 3.0
"""Tokens that those who come fresh may get for each one that goes to the standing, while there are any."""
_TURNS = 4
"""Asks of the standing for which that may be saved up, so that strangers may come in bunches."""


class Group(Member):
    """Members, two ladders, and what the theory needs to know of the past."""

    __slots__ = (
        "_balance", "_debts", "_entrance", "_serial", "active", "clock", "floor", "fresher", "members", "queued",
        "reach", "standing", "step",
    )  # fmt: skip

    def __init__(self, group: Group | None, name: str, cap: int) -> None:
        super().__init__(group, name, cap)
        self.reach = 0.0
        """U of its members, by their largest cap."""
        self.step = 0.0
        """U(k + 1) - U(k)."""
        self.members: dict[str, Member] = {}
        self.queued: dict[str, Member] = {}
        """Those with asks waiting, eligible or at their cap."""
        self.active = 0
        """Members with asks waiting or running."""
        self.fresher = Ladder()
        """The eligible who came fresh."""
        self.standing = Ladder()
        """The eligible who did not."""
        self.floor = 0.0
        """V."""
        self.clock = 0.0
        """F, or less where that is below V."""
        self._entrance = 0.0
        """E, or less where that is below V."""
        self._balance = 0.0
        """Tokens that those who come fresh may get before it is the turn of the standing."""
        self._debts: list[tuple[float, int, Member]] = []
        self._serial = 0

    def startable(self) -> bool:
        return self.fresher.count > 0 or self.standing.count > 0

    def choose(self, *, reserved: bool = False) -> Member | None:
        """The eligible member that gets the next slot. A `reserved` slot is only for one that came fresh."""
        fresh, standing = self.fresher.lowest(), self.standing.lowest()
        least = fresh if standing is None or (fresh and fresh.counter <= standing.counter) else standing
        if least is None:
            return None
        floor = max(self.floor, least.counter)
        chosen = fresh if reserved or self._balance >= 0 else standing
        if chosen is not least and (chosen is None or not self._bounded(chosen, floor)):
            chosen = None if reserved else least
        if chosen is None:
            return None
        self.floor = floor
        if not chosen.fresh:
            self._entrance = max(self._entrance, chosen.counter)
        if not reserved:
            self._weigh(chosen)
        return chosen

    def _bounded(self, member: Member, floor: float) -> bool:
        """Whether one with a smaller counter may be passed."""
        return member.counter <= floor + (member.cap - member.running - 1) * self.step

    def _weigh(self, chosen: Member) -> None:
        """Note whose turn it was: of those who came fresh, or of the standing."""
        most = _TURNS * _FRESH * chosen.cost
        if not chosen.fresh:
            self._balance = min(most, self._balance + _FRESH * chosen.cost)
        elif self._anybody_stands():
            self._balance = max(-most, self._balance - chosen.cost)

    def _anybody_stands(self) -> bool:
        return len(self.queued) > self.fresher.count

    def admit(self, member: Member, *, arrived: bool = False) -> None:
        """A member has become eligible. `arrived`: by an ask that came just now."""
        if arrived and member.waiting == 1:
            self._enter(member)
        else:
            member.counter = max(member.counter, self.floor)
            self.standing.add(member)
        self._forgive(self.entrance())

    def _enter(self, member: Member) -> None:
        """A member with nothing else waiting has got an ask."""
        lowest = self.standing.lowest()
        if lowest is not None:
            self._entrance = max(self._entrance, lowest.counter)
        elif len(self.queued) - 1 == self.fresher.count:
            self._entrance = max(self._entrance, self.clock)
        own = member.counter
        member.fresh = own <= max(self.clock, self.floor) + member.expected
        member.counter = max(own, self.floor if member.running else self.entrance())
        (self.fresher if member.fresh else self.standing).add(member)

    def entrance(self) -> float:
        """Where who comes from idleness enters at the lowest."""
        return max(self._entrance, self.floor)

    def dismiss(self, member: Member) -> None:
        """A member is eligible no longer."""
        (self.fresher if member.fresh else self.standing).remove(member)
        member.fresh = False

    def serve(self, member: Member, weight: float, served: int) -> None:
        """The member that was chosen gets a slot, and service of this weight at once."""
        member.served = served
        member.running += 1
        self.deliver(member, weight)
        if member.running >= member.cap or not member.startable():
            self.dismiss(member)
        elif member.fresh:
            self.dismiss(member)
            self.standing.add(member)

    def deliver(self, member: Member, weight: float) -> None:
        """Count service to an active member."""
        member.counter = max(member.counter, self.floor) + weight
        self.clock = min(max(self.clock, self.floor) + weight / self.active, self.floor + self.reach)

    def give_back(self, member: Member, weight: float) -> bool:
        """Service was counted that was not delivered. Returns False if only a part could be given back: a counter
        never sinks below the floor, or the floor itself would fall."""
        own = member.counter
        lowest = min(own, self.floor)
        member.counter = max(own - weight, lowest)
        if member.entry is not None:
            (self.fresher if member.fresh else self.standing).move(member)
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
        if member.entry is not None:
            self.dismiss(member)
            self.standing.add(other)

    def adopt(self, member: Member) -> None:
        """Take in a member that comes from elsewhere, with its asks and without its past."""
        self.members[member.name] = member
        member.counter, member.indebted = 0.0, False
        if member.waiting:
            self.queued[member.name] = member
        if member.waiting or member.running:
            self.active += 1
        if member.running < member.cap and member.startable():
            self.admit(member)

    def _remember(self, member: Member) -> None:
        member.indebted = True
        self._serial += 1
        heappush(self._debts, (member.counter, self._serial, member))

    def _forgive(self, entrance: float) -> None:
        """Forget the idle whose debts are paid: others have been served as much by now."""
        while self._debts and self._debts[0][0] <= entrance:
            member = heappop(self._debts)[2]
            if member.group is not self:
                continue
            member.indebted = False
            if member.running or member.waiting:
                continue
            if member.counter <= entrance:
                del self.members[member.name]
            else:
                self._remember(member)
