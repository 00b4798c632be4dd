"""Plain orders, for comparison only: `Fifo` serves in order of joining, `RoundRobin` gives each client one ask in turn.
Both keep the cap per client and know neither tokens nor blocks. They have the fair queue's methods and stand in its
place; `python -m bench.fairness.turns serve ...` is a server that is first come, first served.

One heap of the clients that may start an ask, by turn. For Fifo a client's turn is the number of its first ask; for
RoundRobin it is drawn anew whenever the client comes up, so that it queues behind everybody who already waits.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush

from standpipe import cli
from standpipe.policy.line import QueuedAsk, line
from standpipe.policy.line.fair import insert
from standpipe.policy.line.forecast import Level
from standpipe.policy.line.rules import LargestAsk, SlotCaps, Weights

Entry = tuple[int, int, "Flow"]
"""A turn, a serial number against ties, and whose turn it is. Stale unless it is the flow's own `entry`."""


class Flow:
    """One client's asks. It may start one exactly when `entry` is set."""

    __slots__ = ("address", "entry", "queue", "running")

    def __init__(self, address: str) -> None:
        self.address = address
        self.queue: deque[QueuedAsk] = deque()
        self.running = 0
        self.entry: Entry | None = None


class Fifo:
    """First come, first served, among clients below their cap."""

    def __init__(self, caps: SlotCaps, weights: Weights, largest: LargestAsk) -> None:  # noqa: ARG002  (no tokens here)
        self._caps = caps
        self._flows: dict[str, Flow] = {}
        self._heap: list[Entry] = []
        self._serial = 0
        self.running = 0

    def _turn(self, flow: Flow) -> int:
        return flow.queue[0].number

    def enqueue(self, place: QueuedAsk) -> None:
        address = place.client.address
        flow = self._flows.get(address)
        if flow is None:
            flow = self._flows[address] = Flow(address)
        place.leaf = flow
        insert(flow.queue, place)
        self._schedule(flow)

    def withdraw(self, place: QueuedAsk) -> None:
        flow: Flow = place.leaf
        flow.queue.remove(place)
        self._settle(flow)

    def dequeue(self) -> QueuedAsk | None:
        while self._heap:
            entry = heappop(self._heap)
            flow = entry[2]
            if flow.entry is not entry:
                continue
            flow.entry = None
            place = flow.queue.popleft()
            flow.running += 1
            self.running += 1
            self._schedule(flow)
            return place
        return None

    def charge(self, place: QueuedAsk, weight: float) -> None:
        """Tokens count for nothing here."""
        place.charged += weight

    def release(self, place: QueuedAsk) -> None:
        flow: Flow = place.leaf
        flow.running -= 1
        self.running -= 1
        self._settle(flow)

    def resize(self, caps: SlotCaps, largest: LargestAsk) -> None:  # noqa: ARG002  (no tokens here)
        self._caps = caps
        for flow in self._flows.values():
            self._schedule(flow)

    def ahead(self, place: QueuedAsk) -> tuple[Level, ...]:
        own = self._flows.get(place.client.address)
        before = _before(own, place) if own else 0
        rivals = sum(self._passing(flow, place, before) for flow in self._flows.values() if flow is not own)
        return (
            Level(before, own.running if own else 0, self._caps.client),
            Level(before + rivals, self.running, self._caps.slots),
        )

    def _passing(self, rival: Flow, place: QueuedAsk, before: int) -> int:  # noqa: ARG002  (for round robin)
        """How many of a rival's asks will be served before a place that has `before` of its own client's before it."""
        return _before(rival, place)

    def heaviest(self) -> QueuedAsk | None:
        flow = max(self._flows.values(), key=lambda flow: (len(flow.queue), flow.running), default=None)
        return flow.queue[-1] if flow is not None and flow.queue else None

    @property
    def known(self) -> int:
        return len(self._flows)

    def _settle(self, flow: Flow) -> None:
        """After an ask has gone: forget an idle client, or see whether its turn has changed."""
        if not flow.queue and not flow.running:
            flow.entry = None
            del self._flows[flow.address]
        else:
            self._schedule(flow)

    def _schedule(self, flow: Flow) -> None:
        """Put a client that may start an ask into the heap, once; take out one that may not."""
        if not flow.queue or flow.running >= self._caps.client:
            flow.entry = None
        elif self._moved(flow):
            self._serial += 1
            flow.entry = (self._turn(flow), self._serial, flow)
            heappush(self._heap, flow.entry)
            self._tidy()

    def _moved(self, flow: Flow) -> bool:
        return flow.entry is None or flow.entry[0] != flow.queue[0].number

    def _tidy(self) -> None:
        """Stale entries stay until they come up; never more of them than of clients."""
        if len(self._heap) > 2 * len(self._flows) + 32:
            self._heap = [entry for entry in self._heap if entry[2].entry is entry]
            heapify(self._heap)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._flows)} clients>"


class RoundRobin(Fifo):
    """One ask of each client in turn."""

    def _turn(self, flow: Flow) -> int:  # noqa: ARG002  (a turn drawn anew has nothing to do with the asks)
        return self._serial

    def _moved(self, flow: Flow) -> bool:
        return flow.entry is None

    def _passing(self, rival: Flow, place: QueuedAsk, before: int) -> int:
        own = self._flows.get(place.client.address)
        earlier = own is None or own.entry is None or (rival.entry is not None and rival.entry < own.entry)
        return min(len(rival.queue), before + earlier)


def _before(flow: Flow, place: QueuedAsk) -> int:
    return sum(1 for other in flow.queue if other.number < place.number)


if __name__ == "__main__":
    vars(line)["FairQueue"] = Fifo
    cli.main()
