"""The fair order: weighted tokens, and a tree of groups: all blocks, a block's clients, a client's shares.

A slot goes down the tree to one flow, and its charge goes up. Every level is fair by the theory of `group`, so the
bounds hold between blocks, between the clients of a block, and between the shares of a client: new addresses inside a
block divide what the block gets, and new shares what the address gets. The root grants its last `reserve` slots only to
members that come fresh. Knows no time.

The tree grows on demand. Most blocks hold one client and most clients one share; such a one is a single leaf right
under the root. When a second client or share comes, a group takes the leaf's stand with its counter, and the leaf moves
down into it, where both begin equal: what the first had before is the group's, not held against it inside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from math import ceil, floor

from standpipe.policy.identity import ClientKey
from standpipe.policy.line.cost import Reach, Weights
from standpipe.policy.line.group import Group
from standpipe.policy.line.member import Member
from standpipe.policy.line.order import Caps, Level, OrderStatistics
from standpipe.policy.line.place import Place
from bench.fairness.turns import insert


class Flow(Member):
    """A leaf of the tree: the asks of one share of one client."""

    __slots__ = ("path", "queue")

    def __init__(self, group: Group, name: str, cap: int, path: tuple[str, ...]) -> None:
        """`path` is what lies below its name: the client and the share in a block, the share in a client."""
        super().__init__(group, name, cap)
        self.path = path
        self.queue: deque[Place] = deque()

    def startable(self) -> bool:
        return bool(self.queue)


class Fair:
    """See the module."""

    def __init__(self, caps: Caps, weights: Weights, reach: Reach) -> None:
        self._weights = weights
        self._reach = reach
        self._served = 0
        self._reserved = 0
        """Asks that run on reserved slots."""
        self._clipped = 0
        self._caps = caps
        self.root = self._group(None, "", caps.slots)
        """All blocks."""

    def enter(self, place: Place) -> None:
        flow = self._flow(place.client)
        place.flow = flow
        if flow.queue:
            insert(flow.queue, place)
        else:
            flow.queue.append(place)
        member: Member = flow
        group = member.group
        while group is not None:
            if not member.waiting:
                group.queued[member.name] = member
                if not member.running:
                    group.active += 1
            member.waiting += 1
            member.expected += place.expected
            if member.entry is None and member.running < member.cap and member.startable():
                group.admit(member, arrived=True)
                place.fresh = member.fresh
            member, group = group, group.group

    def withdraw(self, place: Place) -> None:
        flow: Flow = place.flow
        flow.queue.remove(place)
        for member, group in _upwards(flow):
            _dequeue(member, group, place)
            if member.entry is not None and not member.startable():
                group.dismiss(member)
            if not member.waiting and not member.running:
                group.retire(member)

    def take(self) -> Place | None:
        reserved = self.root.running - self._reserved >= self._caps.slots - self._caps.reserve
        if reserved and self._reserved >= self._caps.reserve:
            return None
        member = self.root.choose(reserved=reserved)
        if member is None:
            return None
        while isinstance(member, Group):
            member = member.choose()
        assert isinstance(member, Flow)
        place = member.queue.popleft()
        place.reserved = reserved
        self._reserved += reserved
        place.charged = self._weights.input(max(1, place.prompt_tokens))
        self._served += 1
        self.root.running += 1
        served: Member = member
        group = served.group
        while group is not None:
            _dequeue(served, group, place)
            group.serve(served, place.charged, self._served)
            served, group = group, group.group
        return place

    def charge(self, place: Place, weight: float) -> None:
        place.charged += weight
        member: Member = place.flow
        if weight < 0:
            given = [group.give_back(member, -weight) for member, group in _upwards(member)]
            self._clipped += not all(given)
            return
        group = member.group
        while group is not None:
            group.deliver(member, weight)
            member, group = group, group.group

    def release(self, place: Place) -> None:
        self.root.running -= 1
        self._reserved -= place.reserved
        member: Member = place.flow
        group = member.group
        while group is not None:
            member.running -= 1
            if not member.running and not member.waiting:
                group.retire(member)
            elif member.entry is None and member.running < member.cap and member.startable():
                group.admit(member)
            member, group = group, group.group

    def resize(self, caps: Caps) -> None:
        self._caps = caps
        self.root.cap = caps.slots
        self._recap(self.root)

    def _recap(self, group: Group) -> None:
        self._measure(group)
        for member in list(group.members.values()):
            if isinstance(member, Group):
                self._recap(member)
            member.cap = self._caps.block if group is self.root and isinstance(member, Group) else self._caps.client
            able = member.running < member.cap and member.startable()
            if able and member.entry is None:
                group.admit(member)
            elif not able and member.entry is not None:
                group.dismiss(member)

    def ahead(self, place: Place) -> tuple[Level, ...]:
        """Plays the line forward, level by level, as if each waiting ask cost what is expected of it."""
        levels = []
        asks, weight = 0, 0.0
        for group, member in self._trail(place.client):
            if isinstance(member, Flow):
                before = [other for other in member.queue if other.number < place.number]
                asks, weight = len(before), sum(other.expected for other in before)
                levels.append(Level(asks, member.running, member.cap))
            passing, their_weight = _passing(group, member, weight, place.expected)
            asks, weight = asks + passing, weight + their_weight
            if group is not self.root or (member is not None and member.fresh):
                levels.append(Level(asks, group.running, group.cap))
            else:
                levels.append(Level(asks, group.running - self._reserved, group.cap - self._caps.reserve))
        return tuple(levels)

    def _trail(self, client: ClientKey) -> list[tuple[Group, Member | None]]:
        """The groups that a client is or would be in, lowest first, each with the client's member if it has one."""
        trail: list[tuple[Group, Member | None]] = []
        group = self.root
        names = (client.block, client.address, client.share or "")
        for depth, name in enumerate(names):
            member = group.members.get(name)
            if isinstance(member, Flow) and member.path != names[depth + 1 :]:
                member = None
            trail.append((group, member))
            if not isinstance(member, Group):
                break
            group = member
        return trail[::-1]

    def heaviest(self) -> Place | None:
        member: Member = self.root
        while isinstance(member, Group):
            if not member.queued:
                return None
            member = max(member.queued.values(), key=lambda other: (other.counter, other.waiting))
        assert isinstance(member, Flow)
        return member.queue[-1]

    def statistics(self) -> OrderStatistics:
        known = sum(len(block.members) if isinstance(block, Group) else 1 for block in self.root.members.values())
        return OrderStatistics(known, self.root.floor, self.root.clock, self.root.reach, self._clipped)

    def _flow(self, client: ClientKey) -> Flow:
        """The leaf of a client, grown if need be."""
        group = self.root
        path: tuple[str, ...] = (client.block, client.address, client.share or "")
        while True:
            name, path = path[0], path[1:]
            member = group.members.get(name)
            if member is None:
                member = Flow(group, name, self._caps.client, path)
                group.members[name] = member
            elif isinstance(member, Flow) and member.path != path:
                member = self._grow(member, group)
            if isinstance(member, Flow):
                return member
            assert isinstance(member, Group)
            group = member

    def _grow(self, flow: Flow, group: Group) -> Group:
        """Put a group where a leaf stood, and the leaf into it, because a second one comes."""
        grown = self._group(group, flow.name, self._caps.block if group is self.root else self._caps.client)
        group.replace(flow, grown)
        flow.group, flow.name, flow.path = grown, flow.path[0], flow.path[1:]
        grown.adopt(flow)
        return grown

    def _group(self, group: Group | None, name: str, cap: int) -> Group:
        grown = Group(group, name, cap)
        self._measure(grown)
        return grown

    def _measure(self, group: Group) -> None:
        """Set U among a group's members."""
        running = self._caps.client if group.group is not None else self._caps.block
        group.reach = self._reach.bound(self._weights, running)
        group.step = self._reach.bound(self._weights, running + 1) - group.reach

    def __repr__(self) -> str:
        return f"<Fair {len(self.root.members)} blocks, floor {self.root.floor:.0f}, clock {self.root.clock:.0f}>"


def _upwards(member: Member) -> Iterator[tuple[Member, Group]]:
    """A member and the group it is in, then that group and the one it is in, up to the root."""
    group = member.group
    while group is not None:
        yield member, group
        member, group = group, group.group


def _passing(group: Group, member: Member | None, weight: float, own: float) -> tuple[int, float]:
    """How many asks of a member's rivals, of which weight, start before it has got `weight` and starts one more.

    `own` is what one ask of the member is expected to cost. An ask that runs is half paid for, on average.
    """
    if member is not None and member.fresh and not weight:
        earlier = group.fresher.before(member)
        return len(earlier), sum(other.cost for other in earlier)
    if member is None:
        start = group.entrance() + weight
    else:
        start = max(member.counter, group.floor) + member.running * own / 2 + weight
    asks, their_weight = 0, 0.0
    for other in group.queued.values():
        if other is not member:
            behind = (start - other.counter) / other.cost - other.running / 2
            # On a tie the one served longest ago is next: the rival, if the member was served in between.
            passing = floor(behind) + 1 if weight else ceil(behind)
            passing = min(other.waiting, max(int(other.fresh), passing))
            asks += passing
            their_weight += passing * other.cost
    return asks, their_weight


def _dequeue(member: Member, group: Group, place: Place) -> None:
    member.waiting -= 1
    member.expected -= place.expected
    if not member.waiting:
        member.expected = 0.0
        del group.queued[member.name]
