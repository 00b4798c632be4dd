"""History: the last hour in numbers of a fixed size: a ring of sixty minutes, whatever the traffic.

Nobody can be recognised in what comes out. Clients are told apart by the daily hash that a record carries, `CLIENTS` of
them a minute at most, for one purpose: the fairness index. It is Jain's index (sum x)^2 / (n sum x^2) over the tokens
per second that each client got while it had an ask here and all slots were taken, minute by minute, and then the mean
of the minutes in which two clients or more were in that situation; 1 is perfectly even, 1/n is one client taking all.
Slots that are free are nobody's loss, and who asks for little gets little: neither counts as unfair. (R. Jain, D. Chiu,
W. Hawe: A Quantitative Measure of Fairness and Discrimination, DEC-TR-301, 1984.)

Waits are kept as a histogram whose bounds grow by a quarter, so a quantile is right within that. Time is an argument,
in seconds of any clock that never goes back.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from msgspec import Struct

from standpipe.observe.hooks import Record

MINUTES = 60
CLIENTS = 256
_MINUTE = 60.0
_BOUNDS = tuple(0.01 * 1.25**i for i in range(56))
"""From 10 ms to about 36 minutes."""
_LEAST_DEMAND = 10
"""Seconds of a minute that a client must have wanted something, to be compared with others."""


class Hour(Struct, frozen=True):
    """A snapshot of the last hour. Lists have one number for each minute, the oldest first, the running one last.

    `wait_*` are seconds until a slot, of asks that got one. `fairness` is None where nobody had to compete.
    """

    requests: int
    answered: int
    rejected_rate_limit: int
    """429: the client's own limit."""
    rejected_capacity: int
    """503: the server was full, or no engine was up."""
    failed: int
    """5xx else: the engine, or we."""
    invalid: int
    """4xx else: the request itself was wrong."""
    disconnected: int
    """The client left before the end."""
    tokens: int
    requests_per_minute: float
    tokens_per_second: float
    wait_median: float | None
    wait_p95: float | None
    fairness: float | None
    minute_requests: tuple[int, ...]
    minute_tokens: tuple[float, ...]
    """Tokens per second."""
    minute_rejected: tuple[int, ...]
    minute_wait: tuple[float | None, ...]
    """The 95th percentile of waits."""
    minute_queue: tuple[int, ...]
    """The most requests that waited at a time."""


class _Minute:
    """One minute of the ring. Bit `s` of a mask stands for its second `s`."""

    __slots__ = ("busy", "clients", "line", "number", "outcomes", "tokens", "waits")

    def __init__(self, number: int) -> None:
        self.number = number
        self.outcomes: dict[str, int] = {}
        self.tokens = 0.0
        self.waits = [0] * (len(_BOUNDS) + 1)
        self.line = 0
        self.busy = 0
        self.clients: dict[str, tuple[int, float]] = {}

    @property
    def asks(self) -> int:
        return sum(self.outcomes.values())


class History:
    """The ring. Feed it records and samples, ask it for the hour."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._ring: dict[int, _Minute] = {}

    def record(self, record: Record, now: float) -> None:
        """An ask is over."""
        minute = self._minute(now)
        outcome = _outcome(record)
        minute.outcomes[outcome] = minute.outcomes.get(outcome, 0) + 1
        if record.attempts:
            minute.waits[bisect_right(_BOUNDS, record.waited)] += 1
        self._spread(record, now)

    def sample(self, now: float, *, waiting: int, running: int, slots: int) -> None:
        """How it is at this instant. Once a second is what the fairness index expects."""
        minute = self._minute(now)
        minute.line = max(minute.line, waiting)
        if waiting and running >= slots:
            minute.busy |= 1 << int(now % _MINUTE)

    def hour(self, now: float) -> Hour:
        """The last hour, as it stands."""
        self._minute(now)
        last = int(now // _MINUTE)
        ring = [self._ring.get(number) or _Minute(number) for number in range(last - MINUTES + 1, last + 1)]
        outcomes = {name: sum(minute.outcomes.get(name, 0) for minute in ring) for name in _OUTCOMES}
        waits = [sum(counts) for counts in zip(*(minute.waits for minute in ring), strict=True)]
        return Hour(
            requests=sum(outcomes.values()),
            **outcomes,
            tokens=round(sum(minute.tokens for minute in ring)),
            requests_per_minute=round(self._rate((minute.asks for minute in ring[-2:]), now), 1),
            tokens_per_second=round(self._rate((minute.tokens for minute in ring[-2:]), now) / _MINUTE, 1),
            wait_median=_quantile(waits, 0.5),
            wait_p95=_quantile(waits, 0.95),
            fairness=_fairness(ring),
            minute_requests=tuple(minute.asks for minute in ring),
            minute_tokens=tuple(round(minute.tokens / _MINUTE, 1) for minute in ring),
            minute_rejected=tuple(
                minute.outcomes.get("rejected_rate_limit", 0) + minute.outcomes.get("rejected_capacity", 0)
                for minute in ring
            ),
            minute_wait=tuple(_quantile(minute.waits, 0.95) for minute in ring),
            minute_queue=tuple(minute.line for minute in ring),
        )

    def clients(self, now: float, minutes: int = 5) -> dict[str, float]:
        """Tokens of each client's ended asks in the last minutes, the running one included, by the hash of a record."""
        found: dict[str, float] = {}
        last = int(now // _MINUTE)
        for number in range(last - minutes + 1, last + 1):
            if (minute := self._ring.get(number)) is not None:
                for client, (_, tokens) in minute.clients.items():
                    found[client] = found.get(client, 0.0) + tokens
        return found

    def _minute(self, now: float) -> _Minute:
        """The minute of an instant; minutes beyond the hour are forgotten when a new one begins."""
        number = int(now // _MINUTE)
        found = self._ring.get(number)
        if found is None:
            found = self._ring[number] = _Minute(number)
            for old in [old for old in self._ring if old <= number - MINUTES]:
                del self._ring[old]
        return found

    def _rate(self, counts: Iterable[float], now: float) -> float:
        """Per minute, now: the running minute, and as much of the one before as is missing from it."""
        before, running = counts
        part = now % _MINUTE / _MINUTE
        known = min(1.0, max((now - self._since) / _MINUTE, 1 / _MINUTE))
        return (running + before * (1 - part)) / known

    def _spread(self, record: Record, now: float) -> None:
        """Put an ask's tokens, and its client's demand, into the minutes where they belong."""
        begun = max(now - record.duration, now - (MINUTES - 1) * _MINUTE)
        tokens = record.completion_tokens or 0
        first = now if record.first_token is None else max(begun, now - record.duration + record.first_token)
        for minute, begin, end in self._minutes(begun, now):
            overlap = max(0.0, end - max(begin, first))
            part = overlap / (now - first) if now > first else float(end == now)
            minute.tokens += tokens * part
            if record.client != "-" and (record.client in minute.clients or len(minute.clients) < CLIENTS):
                mask, had = minute.clients.get(record.client, (0, 0.0))
                minute.clients[record.client] = mask | _mask(begin, end), had + tokens * part

    def _minutes(self, begin: float, end: float) -> Iterator[tuple[_Minute, float, float]]:
        """The minutes of a stretch of time within the hour, and the part of it that lies in each."""
        for number in range(int(begin // _MINUTE), int(end // _MINUTE) + 1):
            minute = self._ring.get(number) or self._ring.setdefault(number, _Minute(number))
            yield minute, max(begin, number * _MINUTE), min(end, (number + 1) * _MINUTE)

    def __repr__(self) -> str:
        return f"<History {len(self._ring)} minutes>"


_OUTCOMES = ("answered", "rejected_rate_limit", "rejected_capacity", "failed", "invalid", "disconnected")


def _outcome(record: Record) -> str:
    match record.status:
        case 499:
            return "disconnected"
        case 429:
            return "rejected_rate_limit"
        case 503:
            return "rejected_capacity"
        case status if status >= 500:
            return "failed"
        case status if status >= 400:
            return "invalid"
    return "answered"


def _mask(begin: float, end: float) -> int:
    """The seconds of one minute from `begin` to `end`, the last one included."""
    first = int(begin % _MINUTE)
    last = min(59, first + math.ceil(end - begin))
    return (1 << (last + 1)) - (1 << first)


def _quantile(counts: list[int], part: float) -> float | None:
    """A quantile of a histogram, by geometric interpolation within its bucket; None when it is empty."""
    total = sum(counts)
    if not total:
        return None
    rank = part * total
    for place, count in enumerate(counts):
        if count and rank <= count:
            if place == 0:
                return 0.0
            low = _BOUNDS[place - 1]
            return round(float(low * 1.25 ** (rank / count)), 3)
        rank -= count
    return None


def _fairness(ring: list[_Minute]) -> float | None:
    indices = [index for minute in ring if (index := _jain(minute)) is not None]
    return round(sum(indices) / len(indices), 3) if indices else None


def _jain(minute: _Minute) -> float | None:
    """The index of one minute; None when fewer than two clients competed in it."""
    rates = []
    for mask, tokens in minute.clients.values():
        seconds = (mask & minute.busy).bit_count()
        if seconds >= _LEAST_DEMAND:
            rates.append(tokens / mask.bit_count())
    squares = sum(rate * rate for rate in rates)
    return sum(rates) ** 2 / (len(rates) * squares) if len(rates) >= 2 and squares else None
