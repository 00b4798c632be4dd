"""The status: how this server is now and was in the last hour, as JSON, as server-sent events, as a page and Markdown.

All who watch get the same bytes, made once a second. A stream ends by itself after a while (browsers come back by
themselves) and when the server drains, and only so many are served at a time, because each is a connection that is held
for nothing but numbers. What is said, and in which words, stands in `observe.about`.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable

import msgspec
from msgspec.structs import asdict

from standpipe import __version__
from standpipe.chat.errors import LineFull
from standpipe.dialects.bounds import IMAGES
from standpipe.engines.fleet import Fleet
from standpipe.observe.about import (
    ROWS,
    WARNINGS,
    About,
    ClientLoad,
    EngineCounts,
    EngineState,
    OperatorStatus,
    Queue,
    RateLimit,
    RequestLimits,
    Status,
    texts,
)
from standpipe.observe.history import MINUTES, History
from standpipe.observe.hooks import Record
from standpipe.observe.metrics import CONTENT_TYPE, Metrics
from standpipe.policy.alarm import Alarm
from standpipe.serve.exchange import Exchange
from standpipe.serve.front import Route, Routes
from standpipe.serve.ticket import Admits, LocalAdmission
from standpipe.settings import Settings

TICK = 2.0
"""Seconds between two events of a stream."""
LONGEST = 600.0
"""Seconds that a stream lasts."""
WATCHERS = 64
"""Streams at a time."""
_SAMPLE = 1.0
_BUSIEST = 50
"""Clients that an operator is shown at a time."""
_NO_STORE = ((b"cache-control", b"no-store"),)


class Board:
    """Answers everybody who looks. Where the numbers come from is for whoever derives from it."""

    def __init__(self, settings: Settings, admission: Admits) -> None:
        self.settings = settings
        self._admits = admission
        self._bytes_made: tuple[float, bytes] = (0.0, b"")
        self._watchers = 0

    def about(self) -> About:
        """What GET /api says."""
        raise NotImplementedError

    def status(self) -> Status:
        """What GET /api/status says."""
        raise NotImplementedError

    def _bytes(self) -> bytes:
        """The same for everybody who asks within a second."""
        now = asyncio.get_running_loop().time()
        made, data = self._bytes_made
        if not data or now - made >= 1.0:
            data = msgspec.json.encode(self.status())
            self._bytes_made = now, data
        return data

    async def get_about(self, exchange: Exchange) -> None:
        """GET /api: 200 as long as this process answers at all; `status` says whether an engine does."""
        exchange.send(200, msgspec.json.encode(self.about()), headers=_NO_STORE)

    async def get_status(self, exchange: Exchange) -> None:
        """GET /api/status."""
        exchange.send(200, self._bytes(), headers=_NO_STORE)

    async def get_events(self, exchange: Exchange) -> None:
        """GET /api/status/events: the same again and again."""
        if self._watchers >= WATCHERS:
            raise LineFull("Too many live status streams are open. Poll GET /api/status instead.", retry_after=30.0)
        self._watchers += 1
        loop = asyncio.get_running_loop()
        until = loop.time() + LONGEST
        try:
            exchange.start(200, ((b"content-type", b"text/event-stream"), *_NO_STORE, (b"x-accel-buffering", b"no")))
            while loop.time() < until and not self._admits.draining:
                exchange.reply.write(b"data: %b\n\n" % self._bytes())
                await asyncio.sleep(TICK)
            exchange.reply.end()
        finally:
            self._watchers -= 1

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._watchers} watch>"


class StatusBoard(Board):
    """Collects the last hour. `hash_client` is the log's."""

    def __init__(
        self,
        settings: Settings,
        fleet: Fleet,
        admission: LocalAdmission,
        alarm: Alarm,
        hash_client: Callable[[str], str],
    ) -> None:
        super().__init__(settings, admission)
        self._fleet = fleet
        self._admission = admission
        self._alarm = alarm
        self._hash_client = hash_client
        self._history = History(0.0)
        self._begun = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin to collect."""
        self._begun = asyncio.get_running_loop().time()
        self._history = History(self._begun)
        self._sample()

    def close(self) -> None:
        """Stop collecting. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def record(self, record: Record) -> None:
        """The hook."""
        self._history.record(record, asyncio.get_running_loop().time())

    def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        line = self._admission.statistics()
        self._history.sample(loop.time(), waiting=line.waiting, running=line.running, slots=line.slots)
        self._timer = loop.call_later(_SAMPLE, self._sample)

    def engines(self) -> tuple[EngineState, ...]:
        """Every engine as it is now."""
        return tuple(
            EngineState(
                engine.name,
                engine.up,
                engine.slots,
                engine.busy,
                engine.models,
                engine.handling,
                engine.context_tokens,
                None if engine.up else engine.reason,
                engine.draining,
                engine.sees,
            )
            for engine in self._fleet.statistics().engines
        )

    def engine_counts(self) -> tuple[EngineCounts, ...]:
        """What was counted of every engine."""
        return tuple(
            EngineCounts(
                engine.name, engine.attempts, engine.outcomes, engine.first_token, engine.retry_in, engine.left_alone
            )
            for engine in self._fleet.statistics().engines
        )

    def about(self) -> About:
        health, line, settings = self._fleet.health(), self._admission.statistics(), self.settings
        contexts = [engine.context_tokens for engine in self._fleet.statistics().engines if engine.context_tokens]
        return About(
            status="ok" if health.up else "down",
            name=settings.name,
            version=__version__,
            model=self._fleet.resolve(None),
            engines=self.engines(),
            rate_limit=RateLimit(settings.pace_interval, settings.pace_waiting),
            queue=Queue(line.waiting, line.running, line.slots),
            limits=RequestLimits(
                settings.max_tokens,
                settings.body_limit,
                min(contexts, default=None),
                IMAGES if self._fleet.sees(None) else None,
            ),
            reason=health.reason,
            warnings=tuple(sorted(WARNINGS[warning] for warning in self._alarm.warnings)),
        )

    def status(self) -> Status:
        now = asyncio.get_running_loop().time()
        return Status(**asdict(self.about()), uptime_seconds=round(now - self._begun), hour=self._history.hour(now))

    def for_operator(self) -> OperatorStatus:
        """The status, and who is in the queue, by the daily hashes of the log."""
        now = asyncio.get_running_loop().time()
        clients = {client: [0, 0, tokens] for client, tokens in self._history.clients(now).items()}
        for address, waiting, running in self._admission.lines.clients():
            load = clients.setdefault(self._hash_client(address), [0, 0, 0.0])
            load[0] += waiting
            load[1] += running
        busiest = sorted(clients.items(), key=lambda item: item[1], reverse=True)[:_BUSIEST]
        loads = (
            ClientLoad(client, int(waiting), int(running), round(tokens))
            for client, (waiting, running, tokens) in busiest
        )
        return OperatorStatus(**asdict(self.status()), clients=tuple(loads), clients_known=len(clients))

    async def get_top(self, exchange: Exchange) -> None:
        """GET /top of the admin listener."""
        exchange.send(200, msgspec.json.encode(self.for_operator()), headers=_NO_STORE)


def places(status: Status) -> dict[str, str]:
    """What stands in the status page before any script runs. Scripts find each number by its key and its form."""
    numbers = texts(status)
    rows = "".join(
        f'<tr><td>{html.escape(row.label)}</td><td data-value="{row.key}" data-form="{row.form}">'
        f"{html.escape(numbers[row.key])}</td></tr>"
        for row in ROWS
    )
    engines = "".join(
        f'<li><span class="dot" data-{_up(engine)}></span> <span>{html.escape(engine.name)}</span> '
        f"<small>{html.escape(_load(engine))}</small></li>"
        for engine in status.engines
    )
    return {
        **numbers,
        "dot": f"data-{'up' if status.status == 'ok' else 'down'}",
        "headline": _headline(status),
        "reason": status.reason or f"The model is {status.model}.",
        "rows": rows,
        "engines": engines,
    }


def to_markdown(status: Status) -> str:
    """A status for programs that read."""
    numbers = texts(status)
    return "\n".join(
        [
            f"# {_headline(status)}",
            "",
            "| metric | value |",
            "|---|---|",
            f"| Model | {status.model} |",
            *(f"| {row.label} | {numbers[row.key]} |" for row in ROWS),
            "",
            *(
                f"- {engine.name}: {_up(engine)}, {engine.busy} of {engine.slots} slots busy{_note(engine)}"
                for engine in status.engines
            ),
            "",
            f"The last {MINUTES} minutes, minute by minute, are at /api/status as JSON.",
            "",
        ]
    )


def _headline(status: Status) -> str:
    return f"{status.name} is {'up' if status.status == 'ok' else 'down'}"


def _load(engine: EngineState) -> str:
    """As the page's script writes it."""
    return (f"{engine.busy} of {engine.slots} slots busy" if engine.up else "down") + _note(engine)


def _note(engine: EngineState) -> str:
    return f". {engine.reason}" if engine.reason else ", draining" if engine.draining else ""


def _up(engine: EngineState) -> str:
    return "up" if engine.up else "down"


def operators(up: Callable[[], bool], admission: LocalAdmission, metrics: Metrics, board: StatusBoard) -> Routes:
    """What the admin listener answers: /healthz while the process does, /readyz while requests are answered, and
    /metrics and /top to look at. `up` tells whether they can be."""

    async def alive(exchange: Exchange) -> None:
        exchange.send(200, b"ok\n", b"text/plain")

    async def ready(exchange: Exchange) -> None:
        well = up() and not admission.draining
        exchange.send(200 if well else 503, b"ready\n" if well else b"not ready\n", b"text/plain")

    async def page(exchange: Exchange) -> None:
        exchange.send(200, metrics.page(), CONTENT_TYPE)

    handlers = {"/healthz": alive, "/readyz": ready, "/metrics": page, "/top": board.get_top}
    return Routes({path: Route({"GET": handler}) for path, handler in handlers.items()})
