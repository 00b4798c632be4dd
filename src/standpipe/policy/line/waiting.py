"""Who waits: one ask's stay in the line, how much may wait, and what a client is told that finds no room.

When a refused one shall come back is in
`Appointments`. Counts only; who is next is decided in `fair`. 429 says that the client's own limit, or its network's,
is reached; 503 that ours is.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from standpipe.chat.errors import LONGEST_RETRY, SHORTEST_RETRY, LineFull, PaceExceeded
from standpipe.policy.identity import ClientKey
from standpipe.policy.line.rules import QueueLimits


class Stage(StrEnum):
    """Where an ask is in its one-way life."""

    WAITING = "waiting"
    RUNNING = "running"
    GONE = "gone"


class QueuedAsk(Struct, eq=False, weakref=True):
    """One ask's stay, from joining until its slot is free again: the handle that the line gives out and takes back.

    Callers read it; only the line and its order write it. Times are seconds on the caller's clock; tokens are tokens;
    `size` is bytes of the request. `prompt_tokens` is the estimate that is charged when the slot is taken. `output_cap`
    is the most output tokens that may come, None for the operator's cap. `fingerprint` is the caller's digest of the
    ask, by which a retry finds its place again.
    """

    client: ClientKey
    number: int
    """In order of joining; a retry keeps the number of the ask whose place it takes."""
    eligible_at: float
    joined_at: float
    prompt_tokens: int
    output_cap: int | None = None
    size: int = 0
    fingerprint: bytes | None = None
    stage: Stage = Stage.WAITING
    granted_at: float | None = None
    first_token_at: float | None = None
    output_tokens: int = 0
    """Charged so far."""
    expected: float = 0.0
    """Weighted tokens that it is expected to cost, for forecasts only."""
    charged: float = 0.0
    """Weighted tokens charged so far."""
    predicted: tuple[float, float] | None = None
    """When its wait was first predicted, and how many seconds of it."""
    fresh: bool = False
    """It came fresh: it goes before those who stand."""
    on_headroom: bool = False
    """It runs on a slot that was kept for those who come fresh."""
    leaf: Any = None
    """The order's own: where it keeps this ask. None while its instant has not come."""

    @property
    def waited(self) -> float | None:
        """Seconds from joining to the slot; None before it."""
        return None if self.granted_at is None else self.granted_at - self.joined_at

    def __repr__(self) -> str:
        return f"<QueuedAsk {self.number} {self.stage}>"


class Limit(StrEnum):
    """Which limit was reached."""

    CLIENT = "client"
    BLOCK = "block"
    LINE = "line"
    BYTES = "bytes"


class TooManyWaiting(PaceExceeded):
    """429: as many asks of this client, or of its network, wait as may."""

    def __init__(self, limit: Limit, most: int, retry_after: float) -> None:
        whose = "your address" if limit is Limit.CLIENT else "your network"
        super().__init__(
            f"{most} requests from {whose} are already queued, which is the maximum. Retry once one has started.",
            retry_after=retry_after,
        )
        self.limit = limit


class QueueFull(LineFull):
    """503: as much waits here as may wait."""

    def __init__(self, limit: Limit, retry_after: float) -> None:
        super().__init__("The queue is full. Please try again later.", retry_after=retry_after)
        self.limit = limit


class ClientLoad:
    """One client's address in the line: its waiting asks, how many run, and when one of them last moved."""

    __slots__ = ("moved", "running", "waiting")

    def __init__(self, now: float) -> None:
        self.waiting: list[QueuedAsk] = []
        self.running = 0
        self.moved = now
        """When an ask of it was last given a slot or freed one: since then its next ask waits for others."""


class QueueLoad:
    """All that waits, held against the limits."""

    __slots__ = ("_blocks", "bytes", "clients", "limits", "refused", "waiting")

    def __init__(self, limits: QueueLimits) -> None:
        self.limits = limits
        self._blocks: dict[str, int] = {}
        self.clients: dict[str, ClientLoad] = {}
        self.waiting = 0
        self.bytes = 0
        self.refused: dict[Limit, int] = dict.fromkeys(Limit, 0)

    def exceeded(self, client: ClientKey, size: int) -> Limit | None:
        """The limit that one more ask of `size` bytes would break, counted as refused; None if there is room."""
        limits = self.limits
        load = self.clients.get(client.address)
        if load is not None and len(load.waiting) >= limits.client:
            limit = Limit.CLIENT
        elif self._blocks.get(client.block, 0) >= limits.block:
            limit = Limit.BLOCK
        elif self.waiting >= limits.line:
            limit = Limit.LINE
        elif self.bytes + size > limits.bytes:
            limit = Limit.BYTES
        else:
            return None
        self.refused[limit] += 1
        return limit

    def refusal(self, limit: Limit, retry_after: float) -> TooManyWaiting | QueueFull:
        """What to tell a client that found no room."""
        if limit is Limit.CLIENT:
            return TooManyWaiting(limit, self.limits.client, retry_after)
        if limit is Limit.BLOCK:
            return TooManyWaiting(limit, self.limits.block, retry_after)
        return QueueFull(limit, retry_after)

    def join(self, queued: QueuedAsk, now: float) -> None:
        """An ask waits from now on."""
        self.waiting += 1
        self.bytes += queued.size
        client = queued.client
        load = self.clients.get(client.address) or self.load(client.address, now)
        load.waiting.append(queued)
        self._blocks[client.block] = self._blocks.get(client.block, 0) + 1

    def load(self, address: str, now: float) -> ClientLoad:
        """That of one client, new if it has none yet."""
        load = self.clients.get(address)
        if load is None:
            load = self.clients[address] = ClientLoad(now)
        return load

    def leave(self, queued: QueuedAsk) -> ClientLoad:
        """An ask waits no more, because it runs or because it has gone."""
        self.waiting -= 1
        self.bytes -= queued.size
        client = queued.client
        load = self.clients[client.address]
        load.waiting.remove(queued)
        left = self._blocks[client.block] - 1
        if left:
            self._blocks[client.block] = left
        else:
            del self._blocks[client.block]
        return load

    def forget(self, address: str) -> None:
        """Drop a client that has nothing here any more."""
        load = self.clients[address]
        if not load.waiting and not load.running:
            del self.clients[address]


_KEPT = 4096
"""Clients with appointments that are remembered. To forget one costs it no more than the order of its retries."""
_LATE = 2.0
"""Seconds that a retry may come after its time: `Retry-After` is whole seconds, and the way is long."""


class Appointments:
    """When refused asks were told to come back: one after the other, as fast as there will be room for them.

    A client that sends many at once is refused many at once. Told the same time they would come back at the same time,
    and all but the first be refused again, until their SDK gives up. So each is told an instant of its own, one `gap`
    after the last. Nothing is reserved: whoever comes first is taken.
    """

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def give(self, client: ClientKey, now: float, *, room: float, gap: float, chance: float) -> float:
        """Seconds until a refused ask shall come back, from `SHORTEST_RETRY` to `LONGEST_RETRY`.

        `room` is how many seconds it takes until there is room for one more, `gap` how many from then on for each
        other. `chance`, from 0 to 1, keeps clients that were refused together from coming back together. Where the
        time is longer than can be told, it spreads them over the last ten seconds of it.
        """
        first = now + max(room, SHORTEST_RETRY)
        last = self._last.pop(client.address, None)
        instant = first + chance * gap / 2 if last is None else max(first, last + gap)
        told = max(instant - now, SHORTEST_RETRY)
        if told > LONGEST_RETRY:
            instant = min(instant, now + LONGEST_RETRY)
            told = LONGEST_RETRY - 10.0 * chance
        self._last[client.address] = instant
        while len(self._last) > _KEPT or self._last[next(iter(self._last))] + _LATE < now:
            del self._last[next(iter(self._last))]
        return told

    def expects(self, client: ClientKey, now: float) -> bool:
        """Whether refused asks of this client may still come back as they were told."""
        last = self._last.get(client.address)
        return last is not None and last + _LATE >= now
