"""The public status: how this tap is and was in the last hour, as JSON, as server-sent events, as Markdown.

All who watch get the same bytes, made once a tick. A stream that watches ends by itself after a while (browsers come
back by themselves) and when the house drains, and only so many are served at a time, because each is a connection that
is held for nothing but numbers.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable
from typing import Any

import msgspec

from standpipe.chat.errors import LineFull
from standpipe.observe.history import MINUTES, Hour, Status
from standpipe.observe.hooks import Record
from standpipe.policy.line import LineStatistics
from standpipe.serve.exchange import Exchange

TICK = 2.0
"""Seconds between two events of a stream."""
LONGEST = 600.0
"""Seconds that a stream lasts."""
WATCHERS = 64
"""Streams at a time."""
_SAMPLE = 1.0
_NO_STORE = ((b"cache-control", b"no-store"),)


class StatusBoard:
    """Collects, and answers whoever looks.

    Args:
        about: what GET /api tells.
        line: the line's numbers at this instant.
        draining: whether the house shuts down.
    """

    def __init__(
        self, about: Callable[[], dict[str, Any]], line: Callable[[], LineStatistics], draining: Callable[[], bool]
    ) -> None:
        self._about = about
        self._line = line
        self._draining = draining
        self._status: Status | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._begun = 0.0
        self._seen: tuple[float, bytes] = (0.0, b"")
        self._watchers = 0

    def open(self) -> None:
        """Begin to collect."""
        loop = asyncio.get_running_loop()
        self._begun = loop.time()
        self._status = Status(self._begun)
        self._sample()

    def close(self) -> None:
        """Stop collecting. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def record(self, record: Record) -> None:
        """The hook."""
        if self._status is not None:
            self._status.record(record, asyncio.get_running_loop().time())

    def _sample(self) -> None:
        assert self._status is not None
        loop = asyncio.get_running_loop()
        line = self._line()
        self._status.sample(loop.time(), waiting=line.waiting, running=line.running, slots=line.slots)
        self._timer = loop.call_later(_SAMPLE, self._sample)

    def hour(self) -> Hour:
        """The last hour."""
        now = asyncio.get_running_loop().time()
        return (self._status or Status(now)).hour(now)

    def now(self) -> dict[str, Any]:
        """Everything that is told."""
        return {
            **self._about(),
            "uptime_seconds": round(asyncio.get_running_loop().time() - self._begun),
            "hour": self.hour(),
        }

    def clients(self) -> dict[str, float]:
        """Tokens of each client lately, by its hash. For the operator only."""
        now = asyncio.get_running_loop().time()
        return {} if self._status is None else self._status.clients(now)

    def _bytes(self) -> bytes:
        """The same for everybody who asks within a second."""
        now = asyncio.get_running_loop().time()
        made, data = self._seen
        if not data or now - made >= 1.0:
            data = msgspec.json.encode(self.now())
            self._seen = now, data
        return data

    async def whole(self, exchange: Exchange) -> None:
        """The handler of GET /api/status."""
        exchange.send(200, self._bytes(), headers=_NO_STORE)

    async def events(self, exchange: Exchange) -> None:
        """The handler of GET /api/status/events: the same again and again."""
        if self._watchers >= WATCHERS:
            raise LineFull("Too many watch already. GET /api/status gives the same once.", retry_after=30.0)
        self._watchers += 1
        loop = asyncio.get_running_loop()
        until = loop.time() + LONGEST
        try:
            exchange.start(200, ((b"content-type", b"text/event-stream"), *_NO_STORE, (b"x-accel-buffering", b"no")))
            while loop.time() < until and not self._draining():
                exchange.reply.write(b"data: %b\n\n" % self._bytes())
                await asyncio.sleep(TICK)
            exchange.reply.end()
        finally:
            self._watchers -= 1

    def __repr__(self) -> str:
        return f"<StatusBoard {self._watchers} watch>"


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:g}{unit}"


def rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    """The numbers of a status as people read them: what, and how much."""
    hour: Hour = told["hour"]
    line = told["line"]
    return [
        ("model", told["model"]),
        ("asks that run, of the slots", f"{line['running']} of {line['slots']}"),
        ("asks that wait in line", f"{line['waiting']}"),
        ("asks per minute, now", _number(hour.asks_per_minute)),
        ("tokens per second, now", _number(hour.tokens_per_second)),
        ("asks in the last hour", f"{hour.asks:,}"),
        ("of these answered", f"{hour.answered:,}"),
        ("refused for the client's own pace (429)", f"{hour.refused_pace:,}"),
        ("refused for want of capacity (503)", f"{hour.refused_capacity:,}"),
        ("failed", f"{hour.failed:,}"),
        ("median wait", _number(hour.wait_median, " s")),
        ("95 of 100 waited at most", _number(hour.wait_p95, " s")),
        ("fairness index (1 is perfectly even)", _number(hour.fairness)),
    ]


def places(told: dict[str, Any]) -> dict[str, str]:
    """What stands in the status page before any script runs."""
    hour: Hour = told["hour"]
    up = told["status"] == "ok"
    engines = (
        f'<li><span class="dot" data-{"up" if engine["up"] else "down"}></span> '
        f"<span>{html.escape(engine['name'])}</span> "
        f"<small>{engine['busy']} of {engine['slots']} slots busy</small></li>"
        for engine in told["engines"]
    )
    return {
        "dot": "data-up" if up else "data-down",
        "headline": f"{told['name']} is {'up' if up else 'down'}",
        "reason": told.get("reason") or f"The model is {told['model']}.",
        "asks_per_minute": _number(hour.asks_per_minute),
        "tokens_per_second": _number(hour.tokens_per_second),
        "waiting": str(told["line"]["waiting"]),
        "wait_median": _number(hour.wait_median, " s"),
        "rows": "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows(told)
        ),
        "engines": "".join(engines),
    }


def to_markdown(told: dict[str, Any]) -> str:
    """A status for programs that read."""
    up = "up" if told["status"] == "ok" else "down"
    engines = [
        f"- {engine['name']}: {'up' if engine['up'] else 'down'}, {engine['busy']} of {engine['slots']} slots busy"
        for engine in told["engines"]
    ]
    lines = [
        f"# {told['name']} is {up}",
        "",
        "| what | how much |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows(told)),
        "",
        *engines,
        "",
        f"The last {MINUTES} minutes, minute by minute, are at /api/status as JSON.",
        "",
    ]
    return "\n".join(lines)
