"""A group: members that share what the group gets, fairly by counters. The theory of the fair line is here.

The field calls this fair queueing by virtual time. Counters of weighted tokens are VTC's (Sheng et al., "Fairness in
Serving Large Language Models", OSDI 2024); a virtual time that those who wake up are lifted to is start-time fair
queueing's (Goyal, Vin and Cheng, SIGCOMM 1996), as deficit round robin (Shreedhar and Varghese, SIGCOMM 1995) is with
rounds in its place; fresh and standing are the new and old flows of FQ-CoDel (RFC 8290). `docs/fairness.md` tells in
plain words what follows, and what was measured.

Every member (a block among blocks, a client in its block, a share of its client) has a *counter* of the weighted tokens
delivered to it. A slot goes to an *eligible* member, one that has an ask that may start and fewer running than its cap,
with the smallest counter; on a tie to the one served longest ago.

*The bound.* V, the virtual time, is the smallest counter among the eligible when a slot was last given; it never falls,
and whoever becomes eligible is lifted to it. U(k) (see `rules`) is the most that a counter can rise with k asks
running: when a member is given a slot its counter equals V, and until the next time it gains at most one prompt and the
output of what runs. With U that of the cap, all counters stay within [V, V + U]. (One that fell behind V while its
member was at its cap is lifted before it is charged.) So while a member is eligible nobody else gets more than 2U more
than it does, however long that is, however many members or slots there are. Another than the lowest may be given a slot
if its counter is at most V + U - U(r + 1), r being what it has running: then it stays below V + U, too.

*Fresh and standing.* Fresh is who comes with nothing else waiting and, counting what it asks now, with no more used
than the average; all others stand. Those who come fresh go first as far as the bound allows, so that a stranger finds
the next slot; but they get at most three of four tokens while others stand, so that these are served whatever comes.

*Idle time is no credit, and debts are kept.* Who comes from idleness enters no lower than where the standing are: at E,
the entry level, the counter of the standing member that was last given a slot. While nobody stands, E follows the
average F, which grows by x / n whenever x is delivered to one of n active members and stays within [V, V + U]; so E
does not stay behind what a stream of newcomers leaves. F is also the average that freshness is measured by.

*Memory.* Who is idle at or below E would be lifted there when it returns, so it is forgotten. Debts last as long as
their group: an idle group that is forgotten takes the debts of its own members along.

*Lag.* Charges may come late, if all of an ask's come no later than its release. Let T be a counter as it would be with
nothing held back. At a grant the counter is V, and until the next one T gains at most one prompt and all that the asks
that run are still to be charged, delivered or not, which is what U counts. So V <= T <= V + U and the gap stays within
2U, however late charges come. One that came after the release would be in no U: then the gap would grow with the lag.

*Replay.* A group depends on differences only, so one that is lost goes on in another, where asks that ran hold their
slots without being chosen, asks that waited wait, and members *stand* where they stood: as far above V, served as long
ago, fresh or not, with F, E and the balance as they were. Nobody enters, for that would lift them to E and call them
fresh. So the order stays, and with it the bound. What was told too early to hold the latest charges loses these; debts
of members that are not told of are lost once, U each at most; and if nothing is told, k replays make it 2U (1 + k).

Knows no asks, no weights and no time. `fair` builds the tree of groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush, heapreplace

from msgspec import Struct

_FRESH = 3.0
"""Tokens that those who come fresh may get for each one that goes to the standing, while there are any."""
_TURNS = 4
"""Asks of the standing for which that may be saved up, so that strangers may come in bunches."""
_SLACK = 32
"""Rungs out of date that are never worth a clean-up."""


class Standing(Struct, frozen=True):
    """Where a member stands in its group, and the group itself, as offsets from V; see `Node` and `Group`.

    `turn` orders the eligible who are otherwise equal, and is 0 for a member that is not eligible; `waits` is whether
    asks of it wait. A member that is not known has nothing.
    """

    average: float
    entry_level: float
    balance: float
    counter: float = 0.0
    served: int = 0
    turn: int = 0
    fresh: bool = False
    waits: bool = False


class Node:
    """A member of a group: a group itself, or a leaf. While it is eligible it stands on one of the group's ladders, and
    `rung` is set."""

    __slots__ = (
        "cap", "counter", "expected", "fresh", "group", "indebted", "name", "rung", "running", "served", "waiting",
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
        self.rung: Rung | None = None
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


Rung = tuple[float, int, int, Node]
"""Counter, when last served, a serial number, and whose it is. Out of date unless it is the member's own `rung`, or
when the counter has risen."""


class Ladder:
    """The eligible, ordered by how much they have had, and of equals by how long ago.

    A heap whose rungs may be out of date, because counters rise all the time and only the lowest one matters: a rung
    that is too low is put right when it comes up, and one that is no longer its member's own is dropped then.
    """

    __slots__ = ("_rungs", "_serial", "count")

    def __init__(self) -> None:
        self._rungs: list[Rung] = []
        self._serial = 0
        self.count = 0
        """Members on it."""

    def add(self, member: Node) -> None:
        self.count += 1
        self.move(member)

    def remove(self, member: Node) -> None:
        self.count -= 1
        member.rung = None

    def move(self, member: Node) -> None:
        """A member's counter has fallen: its rung would come up too late."""
        heappush(self._rungs, self._new_rung(member))
        if len(self._rungs) > 2 * self.count + _SLACK:
            self._rungs = [rung for rung in self._rungs if rung[3].rung is rung]
            heapify(self._rungs)

    def lowest(self) -> Node | None:
        """Who has had least, and of those longest ago."""
        rungs = self._rungs
        while rungs:
            rung = rungs[0]
            member = rung[3]
            if member.rung is not rung:
                heappop(rungs)
            elif member.counter > rung[0]:
                heapreplace(rungs, self._new_rung(member))
            else:
                return member
        return None

    def before(self, member: Node) -> list[Node]:
        """Those on it who come before one that stands on it."""
        return [rung[3] for rung in self._rungs if member.rung and rung[3].rung is rung and rung < member.rung]

    def _new_rung(self, member: Node) -> Rung:
        self._serial += 1
        rung = member.rung = (member.counter, member.served, self._serial, member)
        return rung


class Group(Node):
    """Members, two ladders, and what the theory needs to know of the past."""

    __slots__ = (
        "_balance", "_debts", "_entry_level", "_serial", "active", "average", "backlogged", "bound", "fresher",
        "members", "standing", "step", "virtual_time",
    )  # fmt: skip

    def __init__(self, group: Group | None, name: str, cap: int) -> None:
        super().__init__(group, name, cap)
        self.bound = 0.0
        """U of its members, by their largest cap."""
        self.step = 0.0
        """U(k + 1) - U(k)."""
        self.members: dict[str, Node] = {}
        self.backlogged: dict[str, Node] = {}
        """Those with asks waiting, eligible or at their cap."""
        self.active = 0
        """Members with asks waiting or running."""
        self.fresher = Ladder()
        """The eligible who came fresh."""
        self.standing = Ladder()
        """The eligible who did not."""
        self.virtual_time = 0.0
        """V."""
        self.average = 0.0
        """F, or less where that is below V."""
        self._entry_level = 0.0
        """E, or less where that is below V."""
        self._balance = 0.0
        """Tokens that those who come fresh may get before it is the turn of the standing."""
        self._debts: list[tuple[float, int, Node]] = []
        self._serial = 0

    def startable(self) -> bool:
        return self.fresher.count > 0 or self.standing.count > 0

    def choose(self, *, headroom: bool = False) -> Node | None:
        """The eligible member that gets the next slot. One of the head-room is only for whoever came fresh."""
        fresh, standing = self.fresher.lowest(), self.standing.lowest()
        least = fresh if standing is None or (fresh and fresh.counter <= standing.counter) else standing
        if least is None:
            return None
        virtual_time = max(self.virtual_time, least.counter)
        chosen = fresh if headroom or self._balance >= 0 else standing
        if chosen is not least and (chosen is None or not self._bounded(chosen, virtual_time)):
            chosen = None if headroom else least
        if chosen is None:
            return None
        self.virtual_time = virtual_time
        if not chosen.fresh:
            self._entry_level = max(self._entry_level, chosen.counter)
        if not headroom:
            self._weigh(chosen)
        return chosen

    def _bounded(self, member: Node, virtual_time: float) -> bool:
        """Whether one with a smaller counter may be passed."""
        return member.counter <= virtual_time + (member.cap - member.running - 1) * self.step

    def _weigh(self, chosen: Node) -> None:
        """Note whose turn it was: of those who came fresh, or of the standing."""
        most = _TURNS * _FRESH * chosen.cost
        if not chosen.fresh:
            self._balance = min(most, self._balance + _FRESH * chosen.cost)
        elif len(self.backlogged) > self.fresher.count:
            self._balance = max(-most, self._balance - chosen.cost)

    def admit(self, member: Node, *, arrived: bool = False) -> None:
        """A member has become eligible. `arrived`: by an ask that came just now."""
        if arrived and member.waiting == 1:
            self._arrive(member)
        else:
            member.counter = max(member.counter, self.virtual_time)
            self.standing.add(member)
        if self._debts:
            self._forgive(self.entry_level())

    def _arrive(self, member: Node) -> None:
        """A member with nothing else waiting has got an ask."""
        lowest = self.standing.lowest()
        if lowest is not None:
            self._entry_level = max(self._entry_level, lowest.counter)
        elif len(self.backlogged) - 1 == self.fresher.count:
            self._entry_level = max(self._entry_level, self.average)
        own = member.counter
        member.fresh = own <= max(self.average, self.virtual_time) + member.expected
        member.counter = max(own, self.virtual_time if member.running else self.entry_level())
        (self.fresher if member.fresh else self.standing).add(member)

    def entry_level(self) -> float:
        """Where who comes from idleness enters at the lowest."""
        return max(self._entry_level, self.virtual_time)

    def dismiss(self, member: Node) -> None:
        """A member is eligible no longer."""
        (self.fresher if member.fresh else self.standing).remove(member)
        member.fresh = False

    def serve(self, member: Node, weight: float, served: int) -> None:
        """The member that was chosen gets a slot, and service of this weight at once."""
        member.served = served
        member.running += 1
        self.deliver(member, weight)
        if member.running >= member.cap or not member.startable():
            self.dismiss(member)
        elif member.fresh:
            self.dismiss(member)
            self.standing.add(member)

    def deliver(self, member: Node, weight: float) -> None:
        """Count service to an active member."""
        member.counter = max(member.counter, self.virtual_time) + weight
        self.average = min(max(self.average, self.virtual_time) + weight / self.active, self.virtual_time + self.bound)

    def give_back(self, member: Node, weight: float) -> bool:
        """Service was counted that was not delivered. Returns False if only a part could be given back: a counter
        never sinks below the virtual time, or that itself would fall."""
        own = member.counter
        lowest = min(own, self.virtual_time)
        member.counter = max(own - weight, lowest)
        if member.rung is not None:
            (self.fresher if member.fresh else self.standing).move(member)
        return own - weight >= lowest

    def retire(self, member: Node) -> None:
        """A member has nothing waiting and nothing running any more."""
        self.active -= 1
        self.rest(member)

    def rest(self, member: Node) -> None:
        """Forget an idle member, or remember its debt."""
        if member.indebted:
            return
        if member.counter <= self.entry_level():
            del self.members[member.name]
        else:
            self._remember(member)

    def replace(self, member: Node, other: Node) -> None:
        """Let `other` stand where a member stood, with all that the member had in this group."""
        self.members[member.name] = other
        other.counter, other.served = member.counter, member.served
        other.running, other.waiting, other.expected = member.running, member.waiting, member.expected
        if other.waiting:
            self.backlogged[member.name] = other
        elif not other.running:
            self._remember(other)
        if member.rung is not None:
            self.dismiss(member)
            self.standing.add(other)

    def take_in(self, member: Node) -> None:
        """Take in a member that comes from elsewhere, with its asks and without its past: an idle one is forgotten."""
        member.counter, member.indebted = 0.0, False
        if not member.waiting and not member.running:
            return
        self.members[member.name] = member
        self.active += 1
        if member.waiting:
            self.backlogged[member.name] = member
        if member.running < member.cap and member.startable():
            self.admit(member)

    def told(self, member: Node | None) -> Standing:
        """What another group needs to know to have the member `stand`. None is one that is not known."""
        base = self.virtual_time
        own = max(0.0, self.average - base), self.entry_level() - base, self._balance
        if member is None:
            return Standing(*own)
        turn = member.rung[2] if member.rung is not None else 0
        counter = max(0.0, member.counter - base)
        return Standing(*own, counter, member.served, turn, member.fresh, member.waiting > 0)

    def stand(self, told: Sequence[tuple[Node | None, Standing]]) -> None:
        """Put members exactly where they stood, see *Replay*."""
        base = self.virtual_time
        for member, standing in sorted(told, key=lambda pair: pair[1].turn):
            self.average = max(self.average, base + standing.average)
            self._entry_level = max(self._entry_level, base + standing.entry_level)
            self._balance = standing.balance
            if member is None:
                continue
            member.counter, member.served = base + standing.counter, standing.served
            if member.rung is not None:
                self.dismiss(member)
                member.fresh = standing.fresh
                (self.fresher if member.fresh else self.standing).add(member)

    def _remember(self, member: Node) -> None:
        member.indebted = True
        self._serial += 1
        heappush(self._debts, (member.counter, self._serial, member))

    def _forgive(self, entry_level: float) -> None:
        """Forget the idle whose debts are paid: others have been served as much by now."""
        while self._debts and self._debts[0][0] <= entry_level:
            member = heappop(self._debts)[2]
            if member.group is not self:
                continue
            member.indebted = False
            if member.running or member.waiting:
                continue
            if member.counter <= entry_level:
                del self.members[member.name]
            else:
                self._remember(member)
