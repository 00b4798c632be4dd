"""The line: asks join, wait for their instant and their turn, run, and free their slot.

The field calls it a fair queue in front of a pool of slots. Here is all that does not depend on who is next: the
instants before which asks may not start, the slots, places that a retry may take back, and what has been measured. Who
is next it asks its order, `fair`. It never waits and never tells anybody: its shell calls `next` whenever a slot may be
free or an instant has come (`eligible_after`), and `shed` now and then.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush

from msgspec import Struct

from standpipe.policy.estimate import Bias, Measured, Speed
from standpipe.policy.identity import ClientKey
from standpipe.policy.line.fair import FairQueue
from standpipe.policy.line.forecast import Forecast, predict
from standpipe.policy.line.group import Standing
from standpipe.policy.line.rules import Rules
from standpipe.policy.line.waiting import Limit, QueuedAsk, QueueLoad, Stage
from standpipe.policy.overload import Sojourn

_UNMEASURED = 20.0
"""Seconds that an answer is taken to last where a client's queue is full before any answer has ended."""


class Left(Struct, frozen=True):
    """What a retry gets back: the place that its ask had. `queued` is that ask while it is still in line; whoever joins
    in its stead ends it."""

    number: int
    eligible_at: float
    joined_at: float
    until: float
    queued: QueuedAsk | None = None


class LineStatistics(Struct, frozen=True):
    """A snapshot. `early` counts asks whose instant has not come, `kept` places kept for retries; `granted`, `shed` and
    `refused` count from the beginning."""

    slots: int
    running: int
    waiting: int
    early: int
    bytes: int
    clients: int
    kept: int
    granted: int
    shed: int
    refused: dict[Limit, int]
    measured: Measured | None


class Line:
    """See the module. Times are seconds; whatever raises ValueError is a mistake of the shell's."""

    def __init__(self, rules: Rules, slots: int) -> None:
        self._rules = rules
        self._caps = rules.caps(slots)
        self.order = FairQueue(self._caps, rules.weights, rules.largest)
        self._load = QueueLoad(rules.limits)
        self._speed = Speed()
        self._biases = Bias(), Bias()
        """Of asks that stand, and of those that came fresh."""
        self._sojourn = Sojourn(rules.shed)
        self._early: list[tuple[float, int, int, QueuedAsk]] = []
        self._left: dict[tuple[ClientKey, bytes], Left] = {}
        self._numbers = 0
        self._instants = 0
        self._granted = 0
        self._shed = 0

    @property
    def rules(self) -> Rules:
        """What the line goes by. May be set at any time, but for the weights; what waits and runs keeps its place."""
        return self._rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._rules = rules
        self._caps = rules.caps(self.slots)
        self._load.limits = rules.limits
        self._sojourn.target = rules.shed
        self.order.resize(self._caps, rules.largest)

    @property
    def running(self) -> int:
        """Asks that hold a slot."""
        return self.order.running

    @property
    def slots(self) -> int:
        """How many asks may run. May be set at any time; what runs is never stopped."""
        return self._caps.slots

    @slots.setter
    def slots(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"a line needs at least one slot, not {slots}")
        if slots != self._caps.slots:
            self._caps = self._rules.caps(slots)
            self.order.resize(self._caps, self._rules.largest)

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
    ) -> QueuedAsk:
        """Wait in line. Nothing starts before `eligible_at`, the instant that the pace gave.

        `size` is the request's bytes, `prompt_tokens` a low estimate, `output_cap` the most output tokens that may
        come. `retake` is what `recall` gave: this is a retry of the ask with this fingerprint, and it stands where
        that stood. Raises TooManyWaiting or QueueFull, and has changed nothing then.
        """
        if retake is not None and retake.queued is not None:
            self.leave(retake.queued, now)
        limit = self._load.exceeded(client, size)
        if limit is not None:
            raise self._load.refusal(limit, self._retry_after(client, limit, now))
        self._numbers += 1
        queued = QueuedAsk(client, self._numbers, eligible_at, now, prompt_tokens, output_cap, size, fingerprint)
        queued.expected = self._expected(prompt_tokens, output_cap)
        if retake is not None:
            queued.number, queued.eligible_at, queued.joined_at = retake.number, retake.eligible_at, retake.joined_at
        if fingerprint is not None:
            self._left.pop((client, fingerprint), None)
        self._load.join(queued, now)
        self._ripen(now)
        if queued.eligible_at <= now:
            self.order.enqueue(queued)
        else:
            self._await_instant(queued)
        return queued

    def told(self, client: ClientKey) -> tuple[Standing, ...]:
        """What whoever holds the client's asks should keep, for `stand`. Only the newest counts."""
        return self.order.told(client)

    def adopt(self, queued: QueuedAsk, now: float) -> None:
        """Take over an ask, waiting or running, from a line that is gone. Its number, age and instant stay, and nothing
        is refused. Adopt all, in any order, then let them `stand`, and go on."""
        self._numbers = max(self._numbers, queued.number)
        if queued.stage is Stage.RUNNING:
            self._load.load(queued.client.address, now).running += 1
            self.order.adopt(queued)
        else:
            queued.expected = queued.expected or self._expected(queued.prompt_tokens, queued.output_cap)
            self._load.join(queued, now)
            self._await_instant(queued)

    def hand_over(self, queued: QueuedAsk, line: Line, now: float) -> None:
        """A waiting ask waits in another line from now on. It arrives there as it is, and nothing is refused."""
        if queued.stage is not Stage.WAITING:
            raise ValueError(f"only a waiting ask can be handed over: {queued}")
        self._load.leave(queued)
        self._load.forget(queued.client.address)
        if queued.leaf is None:
            self._early = [entry for entry in self._early if entry[-1] is not queued]
            heapify(self._early)
        else:
            self.order.withdraw(queued)
            queued.leaf = None
        line.adopt(queued, now)

    def stand(self, told: Mapping[ClientKey, tuple[Standing, ...]], now: float) -> None:
        """Put clients where they stood when last `told`, with those of their asks that have waited since. All others
        arrive now, or when their instant comes. See *Replay* in `group` for what this keeps, and loses if told late."""
        standing = {client for client, levels in told.items() if levels and levels[-1].waits}
        for entry in sorted(self._early):
            queued = entry[-1]
            if queued.stage is Stage.WAITING and queued.eligible_at <= now and queued.client in standing:
                self.order.adopt(queued)
        self._early = [entry for entry in self._early if entry[-1].leaf is None]
        heapify(self._early)
        self.order.stand(told)

    def recall(self, client: ClientKey, fingerprint: bytes, now: float) -> Left | None:
        """The place of the same ask of the same client: still in line, or left less than `hold` seconds ago."""
        for queued in self.asks(client):
            if queued.fingerprint == fingerprint and queued.client == client:
                return Left(queued.number, queued.eligible_at, queued.joined_at, now, queued)
        left = self._left.get((client, fingerprint))
        return left if left is not None and now <= left.until else None

    def keep(self, client: ClientKey, fingerprint: bytes, left: Left) -> None:
        """Keep a place that was left in a line that is gone."""
        self._numbers = max(self._numbers, left.number)
        self._left.setdefault((client, fingerprint), left)

    def leave(self, queued: QueuedAsk, now: float) -> None:
        """The client of a waiting ask has gone, or is refused."""
        if queued.stage is not Stage.WAITING:
            raise ValueError(f"only a waiting ask can be left: {queued}")
        self._load.leave(queued)
        self._load.forget(queued.client.address)
        if queued.leaf is not None:
            self.order.withdraw(queued)
        queued.stage = Stage.GONE
        if queued.fingerprint is not None:
            self._keep(queued, queued.fingerprint, now)

    def next(self, now: float) -> QueuedAsk | None:
        """Grant a slot, if one is free and somebody may have it. Call it until it gives None."""
        self._ripen(now)
        if self.order.running >= self._caps.slots:
            return None
        queued = self.order.dequeue()
        if queued is None:
            if self._caps.slots - self.order.running > self._caps.headroom:
                self._sojourn.idle(now)
            return None
        load = self._load.leave(queued)
        self._sojourn.observe(now - max(queued.eligible_at, queued.joined_at, load.moved), now)
        load.running += 1
        load.moved = now
        if queued.predicted is not None:
            asked_at, predicted = queued.predicted
            if asked_at + predicted > queued.eligible_at:
                self._biases[queued.fresh].learn(predicted, now - asked_at)
        self._granted += 1
        queued.stage = Stage.RUNNING
        queued.granted_at = now
        return queued

    def eligible_after(self, now: float) -> float | None:
        """The instant at which `next` is worth calling again although nothing else happened; None if there is none."""
        self._ripen(now)
        return self._early[0][0] if self._early else None

    def charge(self, queued: QueuedAsk, output_tokens: int, now: float) -> None:
        """Count output tokens as they are produced, also when nobody reads them any more."""
        if queued.stage is not Stage.RUNNING:
            raise ValueError(f"only a running ask can be charged: {queued}")
        if queued.first_token_at is None:
            queued.first_token_at = now
        queued.output_tokens += output_tokens
        self.order.charge(queued, output_tokens * self._rules.weights.output)

    def settle(self, queued: QueuedAsk, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> None:
        """Replace what was charged by what the engine counted. An attempt that failed settles with what it had read
        and produced, which may be nothing. The slot is still held; call it once."""
        if queued.stage is not Stage.RUNNING:
            raise ValueError(f"only a running ask can be settled: {queued}")
        weights = self._rules.weights
        due = weights.input(prompt_tokens, cached_tokens) + weights.output * completion_tokens
        self.order.charge(queued, due - queued.charged)
        queued.prompt_tokens = prompt_tokens - cached_tokens
        queued.output_tokens = completion_tokens

    def release(self, queued: QueuedAsk, now: float) -> None:
        """The slot is free: the stream has ended and the engine's connection is closed."""
        if queued.stage is not Stage.RUNNING:
            raise ValueError(f"only a running ask holds a slot: {queued}")
        self.order.release(queued)
        queued.stage = Stage.GONE
        load = self._load.clients[queued.client.address]
        load.running -= 1
        load.moved = now
        self._load.forget(queued.client.address)
        first = queued.first_token_at
        if first is not None and queued.granted_at is not None:
            self._speed.learn(queued.prompt_tokens, first - queued.granted_at, queued.output_tokens, now - first)

    def forecast(self, queued: QueuedAsk, now: float) -> Forecast:
        """Where a waiting ask is and how long it will wait."""
        levels = self.order.ahead(queued)
        measured = self._speed.measured
        wait = predict(levels, measured.answer_seconds if measured else None)
        if wait is not None:
            if queued.predicted is None:
                queued.predicted = now, wait
            wait = max(wait * self._biases[queued.fresh].factor, queued.eligible_at - now)
        # The client's own asks whose instant comes first are in no order yet, and still ahead of this one.
        own = sum(1 for other in self.asks(queued.client) if other.leaf is None and other.number < queued.number)
        return Forecast(levels[-1].asks + own + 1, wait)

    def pulse(self, *, full: bool) -> float:
        """Seconds from one start of a client's asks to the next while they fill the slots that it gets, now that so
        many share them. Before anything is measured, 0 unless its queue is `full`."""
        measured = self._speed.measured
        seconds = measured.answer_seconds if measured else _UNMEASURED * full
        return seconds / min(self._caps.client, self._caps.slots / max(1, len(self._load.clients)))

    def asks(self, client: ClientKey) -> tuple[QueuedAsk, ...]:
        """The waiting places of a client's address, in order of joining."""
        load = self._load.clients.get(client.address)
        return tuple(load.waiting) if load else ()

    def clients(self) -> tuple[tuple[str, int, int], ...]:
        """Who is in the line: address, asks that wait, asks that run. An address is for nobody to see as it is."""
        return tuple((address, len(load.waiting), load.running) for address, load in self._load.clients.items())

    def shed(self, now: float) -> list[QueuedAsk]:
        """Under overload (see `policy.overload`): places that have left the line with this and must be told so."""
        victims = []
        for _ in range(self._sojourn.excess(self._load.waiting, now)):
            queued = self.order.heaviest()
            if queued is None:
                break
            self.leave(queued, now)
            victims.append(queued)
        self._shed += len(victims)
        return victims

    def statistics(self) -> LineStatistics:
        return LineStatistics(
            slots=self._caps.slots,
            running=self.order.running,
            waiting=self._load.waiting,
            early=sum(1 for entry in self._early if entry[-1].stage is Stage.WAITING),
            bytes=self._load.bytes,
            clients=len(self._load.clients),
            kept=len(self._left),
            granted=self._granted,
            shed=self._shed,
            refused=dict(self._load.refused),
            measured=self._speed.measured,
        )

    def __repr__(self) -> str:
        return f"<Line [{self.order.running}/{self._caps.slots} slots, {self._load.waiting} waiting]>"

    def _await_instant(self, queued: QueuedAsk) -> None:
        self._instants += 1
        heappush(self._early, (queued.eligible_at, queued.number, self._instants, queued))
        if len(self._early) > 2 * self._load.waiting + 32:
            self._early = [entry for entry in self._early if entry[-1].stage is Stage.WAITING]
            heapify(self._early)

    def _ripen(self, now: float) -> None:
        """Let asks enter whose instant has come."""
        while self._early and self._early[0][0] <= now:
            queued = heappop(self._early)[-1]
            if queued.stage is Stage.WAITING:
                self.order.enqueue(queued)

    def _keep(self, queued: QueuedAsk, fingerprint: bytes, now: float) -> None:
        """Keep a place for its retry; no more of them than may wait."""
        key = queued.client, fingerprint
        self._left.pop(key, None)
        self._left[key] = Left(queued.number, queued.eligible_at, queued.joined_at, now + self._rules.hold)
        while self._left:
            oldest = next(iter(self._left))
            if self._left[oldest].until >= now and len(self._left) <= self._rules.limits.line:
                break
            del self._left[oldest]

    def _expected(self, prompt_tokens: int, output_cap: int | None) -> float:
        """What an ask is likely to cost."""
        measured = self._speed.measured
        output = measured.output_tokens if measured else self._rules.largest.output_tokens / 8
        weights = self._rules.weights
        likely = output if output_cap is None else min(output, output_cap)
        return max(1.0, weights.input(prompt_tokens) + weights.output * likely)

    def _retry_after(self, client: ClientKey, limit: Limit, now: float) -> float:
        """Seconds until there is likely to be room again."""
        measured = self._speed.measured
        if limit is Limit.CLIENT:
            wait = self.forecast(self.asks(client)[0], now).wait or (_UNMEASURED if measured is None else None)
        elif measured is not None:
            wait = self._load.waiting / 10 * measured.answer_seconds / self._caps.slots
        else:
            wait = None
        return max(1.0, wait or 1.0)
