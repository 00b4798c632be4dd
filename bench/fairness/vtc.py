"""Plain VTC, for comparison only: the virtual token counter as published (arXiv 2401.00588), in front of an engine.

One flat set of clients with one counter each. Who had nothing queued is lifted to the smallest counter among those who
have; the smallest counter is next; input is charged at dispatch and output as it comes. No cap per client, no clock, no
blocks. Counters are never forgotten.
"""

from __future__ import annotations

from collections import deque

from standpipe.policy.line import Place, Weights
from standpipe.policy.line.order import Caps, Level, OrderStatistics


class PlainVtc:
    """An `Order`."""

    def __init__(self, weights: Weights, slots: int) -> None:
        self._weights = weights
        self._slots = slots
        self._running = 0
        self._counters: dict[str, float] = {}
        self._queues: dict[str, deque[Place]] = {}

    def enter(self, place: Place) -> None:
        name = place.client.address
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = deque()
            floor = min((self._counters[other] for other in self._queues if other != name), default=0.0)
            self._counters[name] = max(self._counters.get(name, 0.0), floor)
        place.flow = name
        queue.append(place)

    def withdraw(self, place: Place) -> None:
        queue = self._queues[place.flow]
        queue.remove(place)
        if not queue:
            del self._queues[place.flow]

    def take(self) -> Place | None:
        if not self._queues:
            return None
        name = min(self._queues, key=self._counters.__getitem__)
        place = self._queues[name][0]
        self.withdraw(place)
        self._running += 1
        self.charge(place, self._weights.input(max(1, place.prompt_tokens)))
        return place

    def charge(self, place: Place, weight: float) -> None:
        place.charged += weight
        self._counters[place.flow] += weight

    def release(self, place: Place) -> None:  # noqa: ARG002  (it has no cap to keep)
        self._running -= 1

    def resize(self, caps: Caps) -> None:
        self._slots = caps.slots

    def ahead(self, place: Place) -> tuple[Level, ...]:
        asks = sum(len(queue) for name, queue in self._queues.items() if name != place.flow)
        return (Level(asks, self._running, self._slots),)

    def heaviest(self) -> Place | None:
        name = max(self._queues, key=self._counters.__getitem__, default=None)
        return None if name is None else self._queues[name][-1]

    def statistics(self) -> OrderStatistics:
        return OrderStatistics(len(self._counters))
