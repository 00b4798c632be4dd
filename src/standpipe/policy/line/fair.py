"""The fair queue: which of the waiting asks is next, by weighted tokens, over a tree of groups.

Hierarchical fair queueing: all blocks, a block's clients, a client's shares. A slot goes down the tree to one leaf, and
its charge goes up. Every level is fair by the theory of `group`, so the bounds hold between blocks, between the clients
of a block, and between the shares of a client: new addresses inside a block divide what the block gets, and new shares
what the address gets. The root grants its last `headroom` slots only to members that come fresh. Knows no time: the
line tells it when an ask's instant has come.

The tree grows on demand. Most blocks hold one client and most clients one share; such a one is a single leaf right
under the root. When a second client or share comes, a group takes the leaf's stand with its counter, and the leaf moves
down into it, where both begin equal: what the first had before is the group's, not held against it inside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from standpipe.policy.identity import ClientKey
from standpipe.policy.line.forecast import Level, passing
from standpipe.policy.line.group import Group, Node, Standing
from standpipe.policy.line.rules import LargestAsk, SlotCaps, Weights
from standpipe.policy.line.waiting import QueuedAsk, Stage


class Leaf(Node):
    """A leaf of the tree: the asks of one share of one client."""

    __slots__ = ("path", "queue")

    def __init__(self, group: Group, name: str, cap: int, path: tuple[str, ...]) -> None:
        """`path` is what lies below its name: the client and the share in a block, the share in a client."""
        super().__init__(group, name, cap)
        self.path = path
        self.queue: deque[QueuedAsk] = deque()

    def startable(self) -> bool:
        return bool(self.queue)


class FairQueue:
    """See the module. `bench/fairness` puts other orders with the same methods in its place, to compare."""

    def __init__(self, caps: SlotCaps, weights: Weights, largest: LargestAsk) -> None:
        self._weights = weights
        self._largest = largest
        self._served = 0
        self._on_headroom = 0
        """Asks that run on slots of the headroom."""
        self.clipped = 0
        """Charges that could be given back only in part."""
        self._caps = caps
        self.root = self._group(None, "", caps.slots)
        """All blocks."""

    @property
    def running(self) -> int:
        """Asks that hold a slot."""
        return self.root.running

    @property
    def known(self) -> int:
        """Clients remembered, because they are here or in debt."""
        return sum(len(block.members) if isinstance(block, Group) else 1 for block in self.root.members.values())

    def enqueue(self, queued: QueuedAsk, *, arrived: bool = True) -> None:
        """An ask may start from now on. `arrived` is false for one that was enqueued before, in another line."""
        leaf = self._leaf(queued.client)
        queued.leaf = leaf
        if leaf.queue:
            insert(leaf.queue, queued)
        else:
            leaf.queue.append(queued)
        member: Node = leaf
        group = member.group
        while group is not None:
            if not member.waiting:
                group.backlogged[member.name] = member
                if not member.running:
                    group.active += 1
            member.waiting += 1
            member.expected += queued.expected
            if member.rung is None and member.running < member.cap and member.startable():
                group.admit(member, arrived=arrived)
                queued.fresh = member.fresh
            member, group = group, group.group

    def withdraw(self, queued: QueuedAsk) -> None:
        """An ask that had been enqueued leaves without having run."""
        leaf: Leaf = queued.leaf
        leaf.queue.remove(queued)
        for member, group in _upwards(leaf):
            _dequeued(member, group, queued)
            if member.rung is not None and not member.startable():
                group.dismiss(member)
            if not member.waiting and not member.running:
                group.retire(member)

    def dequeue(self) -> QueuedAsk | None:
        """Choose who gets a free slot and charge its prompt; None if nobody may have it."""
        headroom = self.root.running - self._on_headroom >= self._caps.slots - self._caps.headroom
        if headroom and self._on_headroom >= self._caps.headroom:
            return None
        member = self.root.choose(headroom=headroom)
        if member is None:
            return None
        while isinstance(member, Group):
            member = member.choose()
        assert isinstance(member, Leaf)
        queued = member.queue.popleft()
        queued.on_headroom = headroom
        self._on_headroom += headroom
        queued.charged = self._weights.input(max(1, queued.prompt_tokens))
        self._served += 1
        self.root.running += 1
        served: Node = member
        group = served.group
        while group is not None:
            _dequeued(served, group, queued)
            group.serve(served, queued.charged, self._served)
            served, group = group, group.group
        return queued

    def charge(self, queued: QueuedAsk, weight: float) -> None:
        """Count service that was delivered to a running ask. A negative weight gives back what was charged too much."""
        queued.charged += weight
        member: Node = queued.leaf
        if weight < 0:
            given = [group.give_back(member, -weight) for member, group in _upwards(member)]
            self.clipped += not all(given)
            return
        group = member.group
        while group is not None:
            group.deliver(member, weight)
            member, group = group, group.group

    def release(self, queued: QueuedAsk) -> None:
        """A running ask has freed its slot."""
        self.root.running -= 1
        self._on_headroom -= queued.on_headroom
        member: Node = queued.leaf
        group = member.group
        while group is not None:
            member.running -= 1
            if not member.running and not member.waiting:
                group.retire(member)
            elif member.rung is None and member.running < member.cap and member.startable():
                group.admit(member)
            member, group = group, group.group

    def resize(self, caps: SlotCaps, largest: LargestAsk) -> None:
        """The number of slots, or what follows from it, or the largest ask has changed."""
        self._caps = caps
        self._largest = largest
        self.root.cap = caps.slots
        self._recap(self.root)

    def _recap(self, group: Group) -> None:
        self._measure(group)
        for member in list(group.members.values()):
            if isinstance(member, Group):
                self._recap(member)
            member.cap = self._caps.block if group is self.root and isinstance(member, Group) else self._caps.client
            able = member.running < member.cap and member.startable()
            if able and member.rung is None:
                group.admit(member)
            elif not able and member.rung is not None:
                group.dismiss(member)

    def told(self, client: ClientKey) -> tuple[Standing, ...]:
        """Where a client stands: its block, itself in it, its share, as far as it is known apart from others."""
        return tuple(group.told(member) for group, member in reversed(self._trail(client)))

    def adopt(self, queued: QueuedAsk) -> None:
        """An ask of another line goes on in this one: it holds its slot without being chosen, or waits in its place."""
        if queued.stage is Stage.WAITING:
            self.enqueue(queued, arrived=False)
            return
        queued.leaf = self._leaf(queued.client)
        self._on_headroom += queued.on_headroom
        self.root.running += 1
        for member, group in _upwards(queued.leaf):
            if not member.running and not member.waiting:
                group.active += 1
            member.running += 1
            if member.rung is not None and (member.running >= member.cap or not member.startable()):
                group.dismiss(member)

    def stand(self, told: Mapping[ClientKey, tuple[Standing, ...]]) -> None:
        """Put clients where another line last told that they stood, once their asks that waited in it are adopted."""
        for client, levels in told.items():
            depth = max((at for at, standing in enumerate(levels, 1) if standing.waits or standing.counter), default=0)
            while sum(member is not None for _, member in self._trail(client)) < depth:
                leaf = self._leaf(client)
                if leaf.group is not None and sum(1 for _ in _upwards(leaf)) < depth:
                    self._grow(leaf, leaf.group)
        found: dict[Group, list[tuple[Node | None, Standing]]] = {}
        for client, levels in told.items():
            for (group, member), standing in zip(reversed(self._trail(client)), levels, strict=False):
                found.setdefault(group, []).append((member, standing))
                self._served = max(self._served, standing.served)
        for group, members in found.items():
            group.stand(members)
        for client in told:
            for group, member in self._trail(client):
                if member is not None and not member.waiting and not member.running:
                    group.rest(member)

    def ahead(self, queued: QueuedAsk) -> tuple[Level, ...]:
        """What will be served before an ask, enqueued or not yet, if nobody else joins. The last level is everybody."""
        levels = []
        asks, weight = 0, 0.0
        for group, member in self._trail(queued.client):
            if isinstance(member, Leaf):
                before = [other for other in member.queue if other.number < queued.number]
                asks, weight = len(before), sum(other.expected for other in before)
                levels.append(Level(asks, member.running, member.cap))
            rivals, their_weight = passing(group, member, weight, queued.expected)
            asks, weight = asks + rivals, weight + their_weight
            if group is not self.root or (member is not None and member.fresh):
                levels.append(Level(asks, group.running, group.cap))
            else:
                levels.append(Level(asks, group.running - self._on_headroom, group.cap - self._caps.headroom))
        return tuple(levels)

    def _trail(self, client: ClientKey) -> list[tuple[Group, Node | None]]:
        """The groups that a client is or would be in, lowest first, each with the client's member if it has one."""
        trail: list[tuple[Group, Node | None]] = []
        group = self.root
        names = (client.block, client.address, client.share or "")
        for depth, name in enumerate(names):
            member = group.members.get(name)
            if isinstance(member, Leaf) and member.path != names[depth + 1 :]:
                member = None
            trail.append((group, member))
            if not isinstance(member, Group):
                break
            group = member
        return trail[::-1]

    def heaviest(self) -> QueuedAsk | None:
        """The newest enqueued ask of whoever was served most."""
        member: Node = self.root
        while isinstance(member, Group):
            if not member.backlogged:
                return None
            member = max(member.backlogged.values(), key=lambda other: (other.counter, other.waiting))
        assert isinstance(member, Leaf)
        return member.queue[-1]

    def _leaf(self, client: ClientKey) -> Leaf:
        """The leaf of a client, grown if need be."""
        group = self.root
        path: tuple[str, ...] = (client.block, client.address, client.share or "")
        while True:
            name, path = path[0], path[1:]
            member = group.members.get(name)
            if member is None:
                member = Leaf(group, name, self._caps.client, path)
                group.members[name] = member
            elif isinstance(member, Leaf) and member.path != path:
                member = self._grow(member, group)
            if isinstance(member, Leaf):
                return member
            assert isinstance(member, Group)
            group = member

    def _grow(self, leaf: Leaf, group: Group) -> Group:
        """Put a group where a leaf stood, and the leaf into it, because a second one comes."""
        grown = self._group(group, leaf.name, self._caps.block if group is self.root else self._caps.client)
        group.replace(leaf, grown)
        leaf.group, leaf.name, leaf.path = grown, leaf.path[0], leaf.path[1:]
        grown.take_in(leaf)
        return grown

    def _group(self, group: Group | None, name: str, cap: int) -> Group:
        grown = Group(group, name, cap)
        self._measure(grown)
        return grown

    def _measure(self, group: Group) -> None:
        """Set U among a group's members."""
        running = self._caps.client if group.group is not None else self._caps.block
        group.bound = self._largest.bound(self._weights, running)
        group.step = self._largest.bound(self._weights, running + 1) - group.bound


def _upwards(member: Node) -> Iterator[tuple[Node, Group]]:
    """A member and the group it is in, then that group and the one it is in, up to the root."""
    group = member.group
    while group is not None:
        yield member, group
        member, group = group, group.group


def _dequeued(member: Node, group: Group, queued: QueuedAsk) -> None:
    """One ask less waits."""
    member.waiting -= 1
    member.expected -= queued.expected
    if not member.waiting:
        member.expected = 0.0
        del group.backlogged[member.name]


def insert(queue: deque[QueuedAsk], queued: QueuedAsk) -> None:
    """Append, or, for a retry that kept its number, put it back where it was."""
    if not queue or queue[-1].number <= queued.number:
        queue.append(queued)
        return
    index = next(index for index, other in enumerate(queue) if other.number > queued.number)
    queue.insert(index, queued)
