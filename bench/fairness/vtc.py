"""Plain VTC, for comparison only: the virtual token counter as published (arXiv 2401.00588), in front of an engine.

One flat set of clients with one counter each. Who had nothing queued is lifted to the smallest counter among those who
have; the smallest counter is next; input is charged at dispatch and output as it comes. No cap per client, no clock, no
blocks. Counters are never forgotten.
"""

from __future__ import annotations

from collections import deque

from standpipe.policy.line import LargestAsk, QueuedAsk, Weights
from standpipe.policy.line.forecast import Level
from standpipe.policy.line.rules import SlotCaps


class PlainVtc:
    """The methods of `standpipe.policy.line.fair.FairQueue`."""

    def __init__(self, caps: SlotCaps, weights: Weights, largest: LargestAsk) -> None:  # noqa: ARG002  (it has no bound)
        self._weights = weights
        self._slots = caps.slots
        self.running = 0
        self._counters: dict[str, float] = {}
        self._queues: dict[str, deque[QueuedAsk]] = {}

    def enqueue(self, place: QueuedAsk) -> None:
        name = place.client.address
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = deque()
            floor = min((self._counters[other] for other in self._queues if other != name), default=0.0)
            self._counters[name] = max(self._counters.get(name, 0.0), floor)
        place.leaf = name
        queue.append(place)

    def withdraw(self, place: QueuedAsk) -> None:
        queue = self._queues[place.leaf]
        queue.remove(place)
        if not queue:
            del self._queues[place.leaf]

    def dequeue(self) -> QueuedAsk | None:
        if not self._queues:
            return None
        name = min(self._queues, key=self._counters.__getitem__)
        place = self._queues[name][0]
        self.withdraw(place)
        self.running += 1
        self.charge(place, self._weights.input(max(1, place.prompt_tokens)))
        return place

    def charge(self, place: QueuedAsk, weight: float) -> None:
        place.charged += weight
        self._counters[place.leaf] += weight

    def release(self, place: QueuedAsk) -> None:  # noqa: ARG002  (it has no cap to keep)
        self.running -= 1

    def resize(self, caps: SlotCaps) -> None:
        self._slots = caps.slots

    def ahead(self, place: QueuedAsk) -> tuple[Level, ...]:
        asks = sum(len(queue) for name, queue in self._queues.items() if name != place.leaf)
        return (Level(asks, self.running, self._slots),)

    def heaviest(self) -> QueuedAsk | None:
        name = max(self._queues, key=self._counters.__getitem__, default=None)
        return None if name is None else self._queues[name][-1]

    @property
    def known(self) -> int:
        return len(self._counters)
