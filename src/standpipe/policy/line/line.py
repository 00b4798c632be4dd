"""The line itself: asks join, wait for their instant and their turn, run, and free their slot.

It keeps what all orders share: the instants before which asks may not start, the bounds, the slots, retries that come
back to their place, and what can be predicted. Who is next it asks its order. It never waits and never tells anybody:
its shell calls `next` whenever a slot may be free or an instant has come (`eligible_after`).
"""

from __future__ import annotations

from collections import defaultdict
from enum import StrEnum
from heapq import heappop, heappush

from msgspec import Struct

from standpipe.policy.identity import ClientKey
from standpipe.policy.line.cost import Reach, Weights
from standpipe.policy.line.order import Caps, Order
from standpipe.policy.line.place import Place, State
from standpipe.policy.line.room import Bound, NoRoom, Room, TooManyWaiting
from standpipe.policy.line.turns import Fifo, RoundRobin


class Policy(StrEnum):
    """How waiting asks are ordered."""

    FAIR = "fair"
    ROUND_ROBIN = "round-robin"
    FIFO = "fifo"


class Rules(Struct, frozen=True):
    """What the operator decides. `client_slots` 0 means: chosen by the number of slots (see `caps`)."""

    policy: Policy = Policy.FAIR
    client_slots: int = 0
    headroom: int = 1
    weights: Weights = Weights()
    reach: Reach = Reach()
    room: Room = Room()
    hold: float = 10.0
    """Seconds for which the place of a client that left is kept for its retry."""

    def caps(self, slots: int) -> Caps:
        """With this many slots: `headroom` of them are out of reach for any one client or block."""
        most = max(1, slots - self.headroom)
        return Caps(slots=slots, client=min(self.client_slots or 4, most), block=most)


class Left(Struct, frozen=True):
    """A place that a client has left, or is about to take over: what its retry gets back."""

    client: ClientKey
    number: int
    eligible_at: float
    joined_at: float
    until: float
    place: Place | None = None
    """Set while the old place is still in line; whoever joins in its stead ends it."""


class Forecast(Struct, frozen=True):
    """`position` 1 is next. `wait` is seconds until the slot, None while nothing has been measured."""

    position: int
    wait: float | None


class LineStatistics(Struct, frozen=True):
    """A snapshot. `held` counts places kept for retries, `reserved` asks whose instant has not come."""

    slots: int
    running: int
    waiting: int
    reserved: int
    waiting_bytes: int
    clients: int
    held: int


class Line:
    """See the module. Not for use by two threads at once."""

    def __init__(self, rules: Rules, slots: int) -> None:
        self._rules = rules
        self._slots = slots
        self._order: Order = (
            RoundRobin(rules.caps(slots)) if rules.policy is not Policy.FIFO else Fifo(rules.caps(slots))
        )
        self._numbers = 0
        self._running = 0
        self._waiting = 0
        self._bytes = 0
        self._reserved: list[tuple[float, int, Place]] = []
        self._clients: dict[str, list[Place]] = {}
        self._blocks: defaultdict[str, int] = defaultdict(int)
        self._left: dict[tuple[ClientKey, bytes], Left] = {}

    @property
    def slots(self) -> int:
        """How many asks may run. May be set at any time; running ones are never stopped."""
        return self._slots

    @slots.setter
    def slots(self, slots: int) -> None:
        self._slots = slots
        self._order.resize(self._rules.caps(slots))

    def join(
        self,
        client: ClientKey,
        *,
        now: float,
        eligible_at: float,
        prompt_tokens: int,
        size: int,
        output_cap: int | None = None,
        fingerprint: bytes | None = None,
        retake: Left | None = None,
    ) -> Place:
        """Wait in line. Nothing starts before `eligible_at`, the instant that the pace gave.

        `retake` is what `recall` gave: this is a retry, and it stands where the old ask stood.
        Raises TooManyWaiting or NoRoom, and has changed nothing then.
        """
        if retake is not None and retake.place is not None:
            self.leave(retake.place, now)
        self._check(client, size)
        self._numbers += 1
        place = Place(
            client,
            self._numbers if retake is None else retake.number,
            eligible_at if retake is None else retake.eligible_at,
            now if retake is None else retake.joined_at,
            prompt_tokens,
            output_cap,
            size,
            fingerprint,
        )
        if fingerprint is not None:
            self._left.pop((client, fingerprint), None)
        self._waiting += 1
        self._bytes += size
        self._clients.setdefault(client.address, []).append(place)
        self._blocks[client.block] += 1
        self._ripen(now)
        if place.eligible_at <= now:
            self._order.enter(place)
        else:
            heappush(self._reserved, (place.eligible_at, self._numbers, place))
        return place

    def recall(self, client: ClientKey, fingerprint: bytes, now: float) -> Left | None:
        """The place of the same ask of the same client, still in line or left less than `hold` seconds ago."""
        for place in self._clients.get(client.address, ()):
            if place.fingerprint == fingerprint and place.client == client:
                return Left(client, place.number, place.eligible_at, place.joined_at, now, place)
        left = self._left.get((client, fingerprint))
        return left if left is not None and left.until >= now else None

    def leave(self, place: Place, now: float) -> None:
        """The client of a waiting ask has gone, or is refused."""
        if place.state is not State.WAITING:
            raise ValueError(f"only a waiting place can be left: {place}")
        self._remove(place)
        if place.flow is not None:
            self._order.withdraw(place)
        place.state = State.GONE
        if place.fingerprint is not None:
            self._hold(place, now)

    def next(self, now: float) -> Place | None:
        """Grant a slot, if one is free and somebody may have it. Call it until it gives None."""
        self._ripen(now)
        free = self._slots - self._running
        if free <= 0:
            return None
        place = self._order.take(free)
        if place is None:
            return None
        self._remove(place)
        self._running += 1
        place.state = State.RUNNING
        place.granted_at = now
        return place

    def eligible_after(self, now: float) -> float | None:
        """The instant at which `next` is worth calling again although nothing else happened; None if there is none."""
        self._ripen(now)
        return self._reserved[0][0] if self._reserved else None

    def charge(self, place: Place, output_tokens: int, now: float) -> None:
        """Count output tokens as they are produced, also when nobody reads them any more."""
        if place.first_token_at is None:
            place.first_token_at = now
        place.output_tokens += output_tokens
        self._order.charge(place, output_tokens * self._rules.weights.output)

    def settle(
        self, place: Place, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0, now: float
    ) -> None:
        """Replace what was charged by the engine's own count. A failed attempt settles with 0 and what it produced."""

    def release(self, place: Place, now: float) -> None:
        """The slot is free: the stream has ended and the engine's connection is closed."""
        if place.state is not State.RUNNING:
            raise ValueError(f"only a running place holds a slot: {place}")
        place.state = State.GONE
        self._running -= 1
        self._order.release(place)

    def forecast(self, place: Place, now: float) -> Forecast:
        """Where a waiting place is and how long it will wait."""
        return Forecast(self._order.ahead(place).asks + 1, None)

    def asks(self, client: ClientKey) -> tuple[Place, ...]:
        """The waiting places of one client's address, in order of joining."""
        return tuple(self._clients.get(client.address, ()))

    def shed(self, now: float) -> list[Place]:
        """Under overload: places that are out of the line by now and must be refused; see `policy.overload`."""
        return []

    def statistics(self) -> LineStatistics:
        return LineStatistics(
            slots=self._slots,
            running=self._running,
            waiting=self._waiting,
            reserved=sum(1 for entry in self._reserved if entry[2].state is State.WAITING),
            waiting_bytes=self._bytes,
            clients=len(self._clients),
            held=len(self._left),
        )

    def __repr__(self) -> str:
        return f"<Line {self._rules.policy} [{self._running}/{self._slots} slots, {self._waiting} waiting]>"

    def _check(self, client: ClientKey, size: int) -> None:
        room = self._rules.room
        if len(self._clients.get(client.address, ())) >= room.client:
            raise TooManyWaiting(Bound.CLIENT, room.client, 1.0)
        if self._blocks.get(client.block, 0) >= room.block:
            raise TooManyWaiting(Bound.BLOCK, room.block, 1.0)
        if self._waiting >= room.line:
            raise NoRoom(Bound.LINE, 1.0)
        if self._bytes + size > room.bytes:
            raise NoRoom(Bound.BYTES, 1.0)

    def _ripen(self, now: float) -> None:
        """Let asks enter whose instant has come."""
        while self._reserved and self._reserved[0][0] <= now:
            place = heappop(self._reserved)[2]
            if place.state is State.WAITING:
                self._order.enter(place)

    def _remove(self, place: Place) -> None:
        """Take a waiting place out of the counts."""
        self._waiting -= 1
        self._bytes -= place.size
        client, block = place.client.address, place.client.block
        self._clients[client].remove(place)
        if not self._clients[client]:
            del self._clients[client]
        self._blocks[block] -= 1
        if not self._blocks[block]:
            del self._blocks[block]

    def _hold(self, place: Place, now: float) -> None:
        """Keep the place for a retry; no more places than may wait."""
        assert place.fingerprint is not None
        until = now + self._rules.hold
        self._left[place.client, place.fingerprint] = Left(
            place.client, place.number, place.eligible_at, place.joined_at, until
        )
        while self._left:
            oldest = next(iter(self._left))
            if self._left[oldest].until >= now and len(self._left) <= self._rules.room.line:
                break
            del self._left[oldest]
