"""The centre: what decides, and what is known of all that happens, put together of settings and engines.

Where one process is all, the app has it; where there are several, the keeper's process (`keeper`), and workers have an
`Outpost` that looks the same. Must not know routes, pages or sockets.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Sequence
from hashlib import blake2s
from typing import TYPE_CHECKING, Protocol, Self

import msgspec

from standpipe.app.roster import Roster
from standpipe.edge.server import EdgeStatistics
from standpipe.engines.choice import Choice, FleetChoice
from standpipe.engines.engine import Engine
from standpipe.engines.fleet import Change, DefaultChange, Fleet
from standpipe.engines.member import EngineStatistics
from standpipe.engines.names import read_fallbacks
from standpipe.observe import dump
from standpipe.observe.about import WARNINGS
from standpipe.observe.hooks import Hook
from standpipe.observe.log import ClientHash, Logger
from standpipe.observe.metrics import Metrics, Now
from standpipe.policy.alarm import Alarm, ProxyWarning
from standpipe.policy.identity import Identity
from standpipe.policy.line import LargestAsk, Line, QueueLimits, Rules
from standpipe.policy.overload import ShedTarget
from standpipe.policy.pace import MICROSECONDS, Rate
from standpipe.policy.retry import ATTEMPTS
from standpipe.serve.door import Door, Origins
from standpipe.serve.front import Front, Routes
from standpipe.serve.ticket import Admits, LocalAdmission
from standpipe.settings import Settings, SettingsError
from standpipe.site.status import Board, StatusBoard, operators
from standpipe.store.blobs import Blobs, Quota
from standpipe.store.paces import Paces

if TYPE_CHECKING:
    from standpipe.keeper.keeper import Keeper

_HELD = 1024
"""Answers of one client whose items are held: a long session of an agent, which refers to all of its own."""
EXPIRE = 10.0
"""Seconds between two looks at what is stored."""


class Parts(Protocol):
    """What an app needs of a centre, wherever that is.

    `hooks` are given the record of every ask; `secret` is what keys are derived from.
    """

    @property
    def fleet(self) -> Fleet: ...

    @property
    def board(self) -> Board: ...

    @property
    def held(self) -> Blobs | None: ...

    @property
    def kept(self) -> Blobs | None: ...

    @property
    def hash_client(self) -> Callable[[str], str]: ...

    @property
    def hooks(self) -> Sequence[Hook]: ...

    @property
    def secret(self) -> bytes: ...

    @property
    def choice(self) -> Choice: ...

    @property
    def admission(self) -> Admits: ...

    def observe(self, identity: Identity) -> None:
        """Somebody asks: look whether the operator should know something of that."""
        ...

    def apply(self, settings: Settings) -> None:
        """Go by these settings from now on, but for those of `settings.STARTS`. Raises SettingsError, and has changed
        nothing then."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


class Center:
    """See the module; use it as an async context manager. `attempts` is for tests."""

    def __init__(self, settings: Settings, engines: Sequence[Engine], log: Logger, *, attempts: int = ATTEMPTS) -> None:
        """Raises SettingsError."""
        self.settings = settings
        self._log = log
        self._refreshing: asyncio.Task[None] | None = None
        self.fleet = Fleet(engines, settings.model or None)
        self.fleet.strict, self.fleet.fallbacks = settings.strict_models, fallbacks(settings)
        self.fleet.on_default = self._tell_default
        self.roster = Roster(self.fleet, settings, log)
        self.choice = FleetChoice(self.fleet, attempts=attempts, affinity_slack=settings.affinity_slack)
        self._alarm = Alarm()
        self.line = Line(rules(settings), min(self.fleet.slots, settings.streams))
        self.admission = LocalAdmission(
            self.line,
            self.choice.seats,
            Paces(),
            rate=rate(settings),
            wait_limit=settings.wait_limit,
            most=settings.streams,
        )
        self.secret = secrets.token_bytes(32)
        self.held, self.kept = blobs(settings)
        self.edge: Callable[[], EdgeStatistics] | None = None
        """Counts of the server in front, if it is one of ours."""
        self.metrics = Metrics(self._now)
        self.hash_client = ClientHash(time.monotonic, secrets.token_bytes)
        self.board = StatusBoard(settings, self.fleet, self.admission, self._alarm, self.hash_client)
        self.hooks: Sequence[Hook] = (self.metrics, self.board.record)
        self.leaving = False
        """Whether load balancers should look elsewhere, although all goes on as before."""
        told = operators(lambda: self.fleet.health().up and not self.leaving, self.admission, self.metrics, self.board)
        self.admin = front(told, _operators_door(settings), log)
        """What the operator asks, on a listener of its own."""

    def apply(self, settings: Settings) -> None:
        """As `Parts`. What waits and runs goes on."""
        others = fallbacks(settings)
        # From here on nothing can fail.
        self.settings = self.board.settings = settings
        self.fleet.strict, self.fleet.fallbacks = settings.strict_models, others
        self.admission.rate, self.admission.wait_limit = rate(settings), settings.wait_limit
        self.admission.lines.set_rules(rules(settings))
        self.admission.most = settings.streams
        self.admin.door = _operators_door(settings)
        self.admission.regroup()
        self.admission.dispatch()

    async def __aenter__(self) -> Self:
        await self.fleet.refresh()
        self.board.open()
        self._refreshing = asyncio.get_running_loop().create_task(self._look_after())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait((self._refreshing,))
        self.board.close()
        self.admission.close()
        self.choice.seats.close()
        await self.fleet.close()

    def keeper(self, workers: int = 0) -> Keeper:
        """The keeper of the line that is here, for this many workers that are expected; 0 where that is not known."""
        from standpipe.keeper.keeper import Keeper  # noqa: PLC0415 - only where there are workers

        keeper = Keeper(
            self.admission,
            self.choice,
            self._log,
            hash_client=self.hash_client,
            face=lambda: msgspec.msgpack.encode(self.board.status()),
            roster=lambda: msgspec.msgpack.encode(self.roster.given()),
            hooks=self.hooks,
            workers=workers,
        )
        keeper.on_warnings = self._warn
        return keeper

    def _warn(self, warnings: frozenset[str]) -> None:
        self._alarm.warnings = frozenset(map(ProxyWarning, warnings))

    def dump(self) -> None:
        """Write to the log what goes on inside."""
        edge = None if self.edge is None else self.edge()
        for what, fields in dump.lines(self.board.for_operator(), self.fleet.statistics().engines, edge):
            self._log.info(what, **fields)

    async def _look_after(self) -> None:
        """Keep an eye on the engines, and let go of what is over."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            for kept in (self.kept, self.held):
                if kept is not None:
                    group.create_task(self._expire(kept))

    async def _watch(self) -> None:
        while True:
            try:
                await self.fleet.watch(self._notice)
            except Exception as bug:  # noqa: BLE001 - asks must go on although we no longer look
                self._log.error("bug", error=bug)
            await asyncio.sleep(EXPIRE)

    def _notice(self, change: Change, engine: EngineStatistics) -> None:
        tell = self._log.info if change in {Change.UP, Change.TRUSTED} else self._log.warning
        reason = engine.fault if change is Change.EJECTED else engine.reason
        tell(change.value, engine=engine.name, **({"reason": reason} if reason else {}))

    def _tell_default(self, change: DefaultChange) -> None:
        if change.unlisted:
            self._log.warning("no engine lists the model of the settings", model=self.settings.model)
        if change.gone:
            self._log.warning("default model is gone", model=change.model, former=change.former)
        else:
            self._log.info("default model", model=change.model)

    async def _expire(self, kept: Blobs) -> None:
        while True:
            await asyncio.sleep(EXPIRE)
            kept.expire(asyncio.get_running_loop().time())

    def observe(self, identity: Identity) -> None:
        for warning in self._alarm.observe(identity):
            self._log.warning(WARNINGS[warning], warning=str(warning))

    def _now(self) -> Now:
        return Now(
            queue=self.admission.statistics(),
            engines=self.board.engines(),
            counts=self.board.engine_counts(),
            proxy_warnings=len(self._alarm.warnings),
            log_lines_dropped=self._log.dropped,
            edge=None if self.edge is None else self.edge(),
        )


def derived(secret: bytes, purpose: bytes) -> bytes:
    """A key of 32 bytes for one purpose."""
    return blake2s(purpose, key=secret).digest()


def front(routes: Routes, door: Door, log: Logger) -> Front:
    """What stands before handlers."""

    def on_bug(request_id: str, bug: BaseException) -> None:
        log.error("bug", id=request_id, error=bug)

    return Front(routes, door=door, new_id=_new_id, on_bug=on_bug)


def _new_id() -> str:
    """A request's id. Nobody gains anything by guessing one."""
    return f"{random.getrandbits(64):016x}"


def _operators_door(settings: Settings) -> Door:
    return Door(settings.admin_hosts, local=True, origins=Origins.OWN, setting="admin_hosts")


def blobs(
    settings: Settings, store: Callable[[str, Quota], Blobs] = lambda _, quota: Blobs(quota)
) -> tuple[Blobs | None, Blobs | None]:
    """Where items of answers are held, and where whole responses are kept; None where the operator wants none. `store`
    makes one of a name."""
    held = max(settings.hold_answers, settings.keep_responses)
    return (
        store("held", Quota(seconds=held, per_client=_HELD)) if held else None,
        store("kept", Quota(seconds=settings.keep_responses)) if settings.keep_responses else None,
    )


def fallbacks(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Which models answer in the stead of others. Raises SettingsError."""
    try:
        return read_fallbacks(settings.fallback)
    except ValueError as error:
        raise SettingsError(f"fallback: {error}") from error


def rules(settings: Settings) -> Rules:
    """What the line goes by."""
    return Rules(
        client_slots=settings.client_slots,
        largest=LargestAsk(output_tokens=settings.max_tokens),
        limits=QueueLimits(
            client=settings.queue_per_client,
            block=settings.queue_per_block,
            line=settings.queue_total,
        ),
        shed=ShedTarget(target=settings.wait_limit / 2),
    )


def rate(settings: Settings) -> Rate | None:
    """The pace; None when there is none."""
    if settings.pace_interval == 0:
        return None
    return Rate(int(settings.pace_interval * MICROSECONDS), settings.pace_waiting)
