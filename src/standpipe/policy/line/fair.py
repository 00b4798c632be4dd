"""The fair order: weighted tokens, and a tree of groups: all blocks, a block's clients, a client's shares.

A slot goes down the tree to one flow, and its charge goes up. Every level is fair by the theory of `group`, so the
bounds hold between blocks, between the clients of a block, and between the shares of a client: new addresses inside a
block divide what the block gets, and new shares what the address gets. The root grants its last `reserve` slots only to
members that come fresh. Knows no time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from math import ceil

from standpipe.policy.identity import ClientKey
from standpipe.policy.line.cost import Reach, Weights
from standpipe.policy.line.group import Group, Member
from standpipe.policy.line.order import Caps, Level, OrderStatistics
from standpipe.policy.line.place import Place
from standpipe.policy.line.turns import insert


class Flow(Member):
    """A leaf of the tree: the asks of one share of one client."""

    __slots__ = ("queue",)

    def __init__(self, group: Group, name: str, cap: int) -> None:
        super().__init__(group, name, cap)
        self.queue: deque[Place] = deque()

    def startable(self) -> bool:
        return bool(self.queue)


class Fair:
    """See the module."""

    def __init__(self, caps: Caps, weights: Weights, reach: Reach) -> None:
        self._weights = weights
        self._reach = reach
        self._served = 0
        self._clipped = 0
        self._caps = caps
        self._levels = self._plan(caps)
        self.root = Group(None, "", caps.slots, self._levels[0][1])

    def _plan(self, caps: Caps) -> tuple[tuple[int, float], ...]:
        """For the blocks, a block's clients and a client's shares: the cap of each, and U among them."""
        return tuple((cap, self._reach.bound(self._weights, cap)) for cap in (caps.block, caps.client, caps.client))

    def enter(self, place: Place) -> None:
        flow = self._flow(place.client)
        place.flow = flow
        insert(flow.queue, place)
        for member, group in _upwards(flow):
            if not member.waiting:
                group.queued[member.name] = member
                if not member.running:
                    group.active += 1
            member.waiting += 1
            member.expected += place.expected
            if member.entry is None and member.running < member.cap and member.startable():
                group.admit(member, arrived=True)

    def withdraw(self, place: Place) -> None:
        flow: Flow = place.flow
        flow.queue.remove(place)
        for member, group in _upwards(flow):
            _dequeue(member, group, place)
            if member.entry is not None and not member.startable():
                group.dismiss(member)
            if not member.waiting and not member.running:
                group.retire(member)

    def take(self, free: int) -> Place | None:
        member = self.root.first()
        if member is None or free <= 0 or (free <= self._caps.reserve and not member.fresh):
            return None
        while isinstance(member, Group):
            member = member.first()
        assert isinstance(member, Flow)
        place = member.queue.popleft()
        place.charged = self._weights.input(max(1, place.prompt_tokens))
        self._served += 1
        self.root.running += 1
        for served, group in _upwards(member):
            _dequeue(served, group, place)
            group.serve(served, place.charged, self._served)
        return place

    def charge(self, place: Place, weight: float) -> None:
        place.charged += weight
        if weight >= 0:
            for member, group in _upwards(place.flow):
                group.deliver(member, weight)
        else:
            given = [group.give_back(member, -weight) for member, group in _upwards(place.flow)]
            self._clipped += not all(given)

    def release(self, place: Place) -> None:
        self.root.running -= 1
        for member, group in _upwards(place.flow):
            member.running -= 1
            if not member.running and not member.waiting:
                group.retire(member)
            elif member.entry is None and member.running < member.cap and member.startable():
                group.admit(member)

    def resize(self, caps: Caps) -> None:
        self._caps = caps
        self._levels = self._plan(caps)
        self.root.cap = caps.slots
        self._recap(self.root, 0)

    def _recap(self, group: Group, depth: int) -> None:
        cap, group.reach = self._levels[depth]
        for member in group.members.values():
            member.cap = cap
            if isinstance(member, Group):
                self._recap(member, depth + 1)
            able = member.running < cap and member.startable()
            if able and member.entry is None:
                group.admit(member)
            elif not able and member.entry is not None:
                group.dismiss(member)

    def ahead(self, place: Place) -> tuple[Level, ...]:
        """Plays the line forward, level by level, as if each waiting ask cost what is expected of it."""
        levels = []
        asks, weight = 0, 0.0
        for cap, (group, member) in zip(self._caps_upwards(), self._path(place.client), strict=True):
            if isinstance(member, Flow):
                before = [other for other in member.queue if other.number < place.number]
                asks, weight = len(before), sum(other.expected for other in before)
            if group is not None:
                passing, their_weight = _passing(group, member, weight)
                asks, weight = asks + passing, weight + their_weight
            levels.append(Level(asks, group.running if group else 0, cap))
        return tuple(levels)

    def _path(self, client: ClientKey) -> list[tuple[Group | None, Member | None]]:
        """From the client's shares up to the root: each group and its member; None for what is not known."""
        path: list[tuple[Group | None, Member | None]] = []
        group: Group | None = self.root
        for name in (client.block, client.address, client.share or ""):
            member = group.members.get(name) if group is not None else None
            path.append((group, member))
            group = member if isinstance(member, Group) else None
        return path[::-1]

    def heaviest(self) -> Place | None:
        member: Member = self.root
        while isinstance(member, Group):
            if not member.queued:
                return None
            member = max(member.queued.values(), key=lambda other: (other.counter, other.waiting))
        assert isinstance(member, Flow)
        return member.queue[-1]

    def statistics(self) -> OrderStatistics:
        known = sum(len(block.members) for block in self.root.members.values() if isinstance(block, Group))
        return OrderStatistics(known, self.root.floor, self.root.clock, self.root.reach, self._clipped)

    def _flow(self, client: ClientKey) -> Flow:
        """The leaf of a client, grown if need be."""
        group = self.root
        for depth, name in enumerate((client.block, client.address)):
            below = group.members.get(name)
            if below is None:
                below = Group(group, name, self._levels[depth][0], self._levels[depth + 1][1])
                group.members[name] = below
            assert isinstance(below, Group)
            group = below
        name = client.share or ""
        flow = group.members.get(name)
        if flow is None:
            flow = group.members[name] = Flow(group, name, self._levels[-1][0])
        assert isinstance(flow, Flow)
        return flow

    def _caps_upwards(self) -> tuple[int, int, int]:
        """The caps of a client, of a block, and of everybody."""
        return self._caps.client, self._caps.block, self._caps.slots

    def __repr__(self) -> str:
        return f"<Fair {len(self.root.members)} blocks, floor {self.root.floor:.0f}, clock {self.root.clock:.0f}>"


def _upwards(member: Member) -> Iterator[tuple[Member, Group]]:
    """A member and the group it is in, then that group and the one it is in, up to the root."""
    group = member.group
    while group is not None:
        yield member, group
        member, group = group, group.group


def _passing(group: Group, member: Member | None, weight: float) -> tuple[int, float]:
    """How many asks of a member's rivals, of which weight, start before it has got `weight` and starts one more."""
    own = member.counter if member else 0.0
    start = weight + max(own, group.floor if member and member.running else group.level())
    asks, their_weight = 0, 0.0
    for other in group.queued.values():
        if other is not member and other.counter < start:
            mean = other.expected / other.waiting
            passing = min(other.waiting, ceil((start - other.counter) / mean))
            asks += passing
            their_weight += passing * mean
    return asks, their_weight


def _dequeue(member: Member, group: Group, place: Place) -> None:
    member.waiting -= 1
    member.expected -= place.expected
    if not member.waiting:
        member.expected = 0.0
        del group.queued[member.name]
