"""The line itself: asks join, wait for their instant and their turn, run, and free their slot.

It keeps what all orders share: the instants before which asks may not start, the slots, places that a retry may take
back, and what has been measured. Who is next it asks its order. It never waits and never tells anybody: its shell calls
`next` whenever a slot may be free or an instant has come (`eligible_after`), and `shed` now and then.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from msgspec import Struct

from standpipe.policy.estimate import Bias, Measured, Speed
from standpipe.policy.identity import ClientKey
from standpipe.policy.line.forecast import Forecast, predict
from standpipe.policy.line.order import OrderStatistics
from standpipe.policy.line.place import Place, State
from standpipe.policy.line.waiting import Bound, Occupancy
from standpipe.policy.line.rules import Rules
from standpipe.policy.overload import Sojourn


class Left(Struct, frozen=True):
    """What a retry gets back: the place that its ask had. `place` is set while that is still in line; whoever joins in
    its stead ends it."""

    number: int
    eligible_at: float
    joined_at: float
    until: float
    place: Place | None = None


class LineStatistics(Struct, frozen=True):
    """A snapshot. `reserved` counts asks whose instant has not come, `kept` places kept for retries; `granted`, `shed`
    and `refused` count from the beginning."""

    slots: int
    running: int
    waiting: int
    reserved: int
    bytes: int
    clients: int
    kept: int
    granted: int
    shed: int
    refused: dict[Bound, int]
    measured: Measured | None
    order: OrderStatistics


class Line:
    """See the module. Times are seconds; whatever raises ValueError is a mistake of the shell's."""

    def __init__(self, rules: Rules, slots: int) -> None:
        self._rules = rules
        self._slots = slots
        self._reserve = rules.caps(slots).reserve
        self.order = rules.order(slots)
        self._room = Occupancy(rules.room)
        self._speed = Speed()
        self._biases = Bias(), Bias()
        """Of asks that stand, and of those that came fresh."""
        self._sojourn = Sojourn(rules.patience)
        self._reserved: list[tuple[float, int, Place]] = []
        self._left: dict[tuple[ClientKey, bytes], Left] = {}
        self._numbers = 0
        self._running = 0
        self._granted = 0
        self._shed = 0

    @property
    def slots(self) -> int:
        """How many asks may run. May be set at any time; what runs is never stopped."""
        return self._slots

    @slots.setter
    def slots(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"a line needs at least one slot, not {slots}")
        if slots != self._slots:
            caps = self._rules.caps(slots)
            self._slots, self._reserve = slots, caps.reserve
            self.order.resize(caps)

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

        `size` is the request's bytes, `prompt_tokens` a low estimate, `output_cap` the most output tokens that may
        come. `retake` is what `recall` gave: this is a retry of the ask with this fingerprint, and it stands where
        that stood. Raises TooManyWaiting or NoRoom, and has changed nothing then.
        """
        if retake is not None and retake.place is not None:
            self.leave(retake.place, now)
        bound = self._room.exceeded(client, size)
        if bound is not None:
            raise self._room.refusal(bound, self._retry_after(client, bound, now))
        self._numbers += 1
        place = Place(client, self._numbers, eligible_at, now, prompt_tokens, output_cap, size, fingerprint)
        place.expected = self._expected(prompt_tokens, output_cap)
        if retake is not None:
            place.number, place.eligible_at, place.joined_at = retake.number, retake.eligible_at, retake.joined_at
        if fingerprint is not None:
            self._left.pop((client, fingerprint), None)
        self._room.join(place, now)
        self._ripen(now)
        if place.eligible_at <= now:
            self.order.enter(place)
        else:
            heappush(self._reserved, (place.eligible_at, self._numbers, place))
            if len(self._reserved) > 2 * self._room.waiting + 32:
                self._reserved = [entry for entry in self._reserved if entry[2].state is State.WAITING]
                heapify(self._reserved)
        return place

    def recall(self, client: ClientKey, fingerprint: bytes, now: float) -> Left | None:
        """The place of the same ask of the same client: still in line, or left less than `hold` seconds ago."""
        for place in self.asks(client):
            if place.fingerprint == fingerprint and place.client == client:
                return Left(place.number, place.eligible_at, place.joined_at, now, place)
        left = self._left.get((client, fingerprint))
        return left if left is not None and now <= left.until else None

    def leave(self, place: Place, now: float) -> None:
        """The client of a waiting ask has gone, or is refused."""
        if place.state is not State.WAITING:
            raise ValueError(f"only a waiting place can be left: {place}")
        self._room.leave(place)
        self._room.forget(place.client.address)
        if place.flow is not None:
            self.order.withdraw(place)
        place.state = State.GONE
        if place.fingerprint is not None:
            self._keep(place, place.fingerprint, now)

    def next(self, now: float) -> Place | None:
        """Grant a slot, if one is free and somebody may have it. Call it until it gives None."""
        self._ripen(now)
        if self._running >= self._slots:
            return None
        place = self.order.take()
        if place is None:
            if self._slots - self._running > self._reserve:
                self._sojourn.idle(now)
            return None
        present = self._room.leave(place)
        self._sojourn.observe(now - max(place.eligible_at, place.joined_at, present.moved), now)
        present.running += 1
        present.moved = now
        if place.predicted is not None:
            asked_at, predicted = place.predicted
            if asked_at + predicted > place.eligible_at:
                self._biases[place.fresh].learn(predicted, now - asked_at)
        self._running += 1
        self._granted += 1
        place.state = State.RUNNING
        place.granted_at = now
        return place

    def eligible_after(self, now: float) -> float | None:
        """The instant at which `next` is worth calling again although nothing else happened; None if there is none."""
        self._ripen(now)
        return self._reserved[0][0] if self._reserved else None

    def charge(self, place: Place, output_tokens: int, now: float) -> None:
        """Count output tokens as they are produced, also when nobody reads them any more."""
        if place.state is not State.RUNNING:
            raise ValueError(f"only a running place can be charged: {place}")
        if place.first_token_at is None:
            place.first_token_at = now
        place.output_tokens += output_tokens
        self.order.charge(place, output_tokens * self._rules.weights.output)

    def settle(self, place: Place, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> None:
        """Replace what was charged by what the engine counted. An attempt that failed settles with what it had read
        and produced, which may be nothing. The slot is still held; call it once."""
        if place.state is not State.RUNNING:
            raise ValueError(f"only a running place can be settled: {place}")
        weights = self._rules.weights
        due = weights.input(prompt_tokens, cached_tokens) + weights.output * completion_tokens
        self.order.charge(place, due - place.charged)
        place.prompt_tokens = prompt_tokens - cached_tokens
        place.output_tokens = completion_tokens

    def release(self, place: Place, now: float) -> None:
        """The slot is free: the stream has ended and the engine's connection is closed."""
        if place.state is not State.RUNNING:
            raise ValueError(f"only a running place holds a slot: {place}")
        self._running -= 1
        self.order.release(place)
        place.state = State.GONE
        present = self._room.clients[place.client.address]
        present.running -= 1
        present.moved = now
        self._room.forget(place.client.address)
        first = place.first_token_at
        if first is not None and place.granted_at is not None:
            self._speed.learn(place.prompt_tokens, first - place.granted_at, place.output_tokens, now - first)

    def forecast(self, place: Place, now: float) -> Forecast:
        """Where a waiting place is and how long it will wait."""
        levels = self.order.ahead(place)
        measured = self._speed.measured
        wait = predict(levels, measured.answer_seconds if measured else None)
        if wait is not None:
            if place.predicted is None:
                place.predicted = now, wait
            wait = max(wait * self._biases[place.fresh].factor, place.eligible_at - now)
        # The client's own asks whose instant comes first are in no order yet, and still ahead of this one.
        own = sum(1 for other in self.asks(place.client) if other.flow is None and other.number < place.number)
        return Forecast(levels[-1].asks + own + 1, wait)

    def asks(self, client: ClientKey) -> tuple[Place, ...]:
        """The waiting places of a client's address, in order of joining."""
        present = self._room.clients.get(client.address)
        return tuple(present.waiting) if present else ()

    def clients(self) -> tuple[tuple[str, int, int], ...]:
        """Who is in the line: address, asks that wait, asks that run. An address is for nobody to see as it is."""
        return tuple(
            (address, len(present.waiting), present.running) for address, present in self._room.clients.items()
        )

    def shed(self, now: float) -> list[Place]:
        """Under overload (see `policy.overload`): places that have left the line with this and must be told so."""
        victims = []
        for _ in range(self._sojourn.excess(self._room.waiting, now)):
            place = self.order.heaviest()
            if place is None:
                break
            self.leave(place, now)
            victims.append(place)
        self._shed += len(victims)
        return victims

    def statistics(self) -> LineStatistics:
        return LineStatistics(
            slots=self._slots,
            running=self._running,
            waiting=self._room.waiting,
            reserved=sum(1 for entry in self._reserved if entry[2].state is State.WAITING),
            bytes=self._room.bytes,
            clients=len(self._room.clients),
            kept=len(self._left),
            granted=self._granted,
            shed=self._shed,
            refused=dict(self._room.refused),
            measured=self._speed.measured,
            order=self.order.statistics(),
        )

    def __repr__(self) -> str:
        return f"<Line {self._rules.policy} [{self._running}/{self._slots} slots, {self._room.waiting} waiting]>"

    def _ripen(self, now: float) -> None:
        """Let asks enter whose instant has come."""
        while self._reserved and self._reserved[0][0] <= now:
            place = heappop(self._reserved)[2]
            if place.state is State.WAITING:
                self.order.enter(place)

    def _keep(self, place: Place, fingerprint: bytes, now: float) -> None:
        """Keep a place for its retry; no more of them than may wait."""
        key = place.client, fingerprint
        self._left.pop(key, None)
        self._left[key] = Left(place.number, place.eligible_at, place.joined_at, now + self._rules.hold)
        while self._left:
            oldest = next(iter(self._left))
            if self._left[oldest].until >= now and len(self._left) <= self._rules.room.line:
                break
            del self._left[oldest]

    def _expected(self, prompt_tokens: int, output_cap: int | None) -> float:
        """What an ask is likely to cost."""
        measured = self._speed.measured
        output = measured.output_tokens if measured else self._rules.reach.output_tokens / 8
        weights = self._rules.weights
        likely = output if output_cap is None else min(output, output_cap)
        return max(1.0, weights.input(prompt_tokens) + weights.output * likely)

    def _retry_after(self, client: ClientKey, bound: Bound, now: float) -> float:
        """Seconds until there is likely to be room again."""
        measured = self._speed.measured
        if bound is Bound.CLIENT:
            wait = self.forecast(self.asks(client)[0], now).wait
        elif measured is not None:
            wait = self._room.waiting / 10 * measured.answer_seconds / self._slots
        else:
            wait = None
        return max(1.0, wait or 1.0)
