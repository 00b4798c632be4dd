"""The outpost: what a worker has in the place of a centre. It looks the same, and asks the keeper (`keeper`).

The engines are here, because attempts are made here; what is known of them is told by the keeper, which alone looks
after them. Must not know routes, pages or sockets.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Self

import msgspec
from msgspec.structs import astuple

from standpipe.app.center import blobs, fallbacks, rate
from standpipe.app.engines import connect, read_engine
from standpipe.chat.errors import EngineFailed
from standpipe.engine_tables import EngineTable
from standpipe.engines.engine import Card, Engine
from standpipe.engines.fleet import Fleet
from standpipe.engines.member import Member
from standpipe.keeper import messages
from standpipe.keeper.claim import told_of
from standpipe.keeper.errand import key_of
from standpipe.keeper.link import Link
from standpipe.keeper.remote import RemoteAdmission, RemoteChoice
from standpipe.observe.about import WARNINGS, About, Status
from standpipe.observe.hooks import Hook, Record
from standpipe.observe.log import ClientHash, Logger
from standpipe.policy.alarm import Alarm
from standpipe.policy.identity import ClientKey, Identity
from standpipe.policy.retry import ATTEMPTS
from standpipe.settings import Settings
from standpipe.site.status import Board
from standpipe.store.blobs import Blobs, Quota

_LISTING = 10.0
"""Seconds that an engine may take to list its models."""


class Outpost:
    """As `center.Parts`. Its link has been welcomed, and lives longer than it. `attempts` is for tests."""

    def __init__(
        self,
        settings: Settings,
        engines: Sequence[Engine],
        log: Logger,
        link: Link,
        *,
        attempts: int = ATTEMPTS,
    ) -> None:
        """Raises SettingsError."""
        assert link.secrets is not None
        assert link.status is not None
        self._log = log
        self._link = link
        self._alarm = Alarm()
        self._warned = self._alarm.warnings
        self._listing: set[asyncio.Task[None]] = set()
        self._settings = settings
        self._roster: dict[str, str | EngineTable] = dict(_roster(link.status.roster))
        self._packed = link.status.roster
        self.fleet = Fleet(engines, settings.model or None)
        self.fleet.strict, self.fleet.fallbacks = settings.strict_models, fallbacks(settings)
        self.admission = RemoteAdmission(link, self.fleet, rate=rate(settings), wait_limit=settings.wait_limit)
        self.choice = RemoteChoice(self.admission, attempts=attempts, prefers=settings.affinity_slack > 0)
        self.held, self.kept = blobs(settings, partial(Copied, link))
        self.hash_client = ClientHash(time.monotonic, secrets.token_bytes)
        self.secret = link.secrets.tap
        self.board = FarBoard(settings, self.admission, link.status)
        self.hooks: Sequence[Hook] = (self._record,)

    def _record(self, record: Record) -> None:
        self._link.record(astuple(record))

    def observe(self, identity: Identity) -> None:
        for warning in self._alarm.observe(identity):
            self._log.warning(WARNINGS[warning], warning=str(warning))
        if self._alarm.warnings is not self._warned:
            self._warned = self._alarm.warnings
            self._link.warnings = tuple(self._warned)

    def apply(self, settings: Settings) -> None:
        others = fallbacks(settings)
        # From here on nothing can fail.
        self._settings = self.board.settings = settings
        self.fleet.strict, self.fleet.fallbacks = settings.strict_models, others
        self.admission.rate, self.admission.wait_limit = rate(settings), settings.wait_limit

    async def __aenter__(self) -> Self:
        assert self._link.status is not None
        self._hear(self._link.status)
        self._link.on_status, self._link.on_kept = self._hear, self._copy
        return self

    async def __aexit__(self, *_: object) -> None:
        self._link.on_status = lambda _: None
        self._link.on_kept = lambda _: None
        for task in self._listing:
            task.cancel()
        if self._listing:
            await asyncio.wait(self._listing)
        await self.fleet.close()

    def _copy(self, message: messages.Stored) -> None:
        """Another worker keeps something, holds it longer, or forgets it."""
        store = self.held if message.store == "held" else self.kept
        if store is not None:
            client, now = key_of(message.client), asyncio.get_running_loop().time()
            if isinstance(message, messages.Put):
                Blobs.put(store, message.name, client, message.value, now)
            elif isinstance(message, messages.Renew):
                for name in message.names:
                    Blobs.renew(store, name, client, now)
            else:
                Blobs.delete(store, message.name, client, now)

    def _hear(self, status: messages.Status) -> None:
        """What the keeper tells every second."""
        if status.roster != self._packed:
            self._packed = status.roster
            self._follow(dict(_roster(status.roster)))
        told = {engine.name: engine for engine in status.engines}
        for member in self.fleet.members:
            if (engine := told.get(member.engine.name)) is not None:
                self._believe(member, engine)
        self.fleet.believe(status.default, status.embedder)
        self.hash_client.adopt(status.clients, status.clients_left)
        self.board.heard = status

    def _follow(self, roster: dict[str, str | EngineTable]) -> None:
        """Open, change and let go of engines as the keeper did, which has found nothing wrong with them."""
        here = {member.engine.name: member for member in self.fleet.members}
        for name, given in roster.items():
            if name in here and self._roster.get(name) == given:
                continue
            engine, _ = connect(read_engine(given, name), self._settings, lambda _level, _sentence: None)
            engine.name = name
            if name in here:
                self.fleet.change(here[name], Member(engine))
            else:
                self.fleet.join(Member(engine))
        for name in here.keys() & self._roster.keys() - roster.keys():
            self.fleet.leave(here[name])
        self._roster = roster

    def _believe(self, member: Member, told: messages.EngineTold) -> None:
        was = member.models, member.up, member.restarts
        cards = {name: Card(window, chats, sees) for name, window, chats, sees in told.models}
        member.believe(cards, told.down, told.reason, told.restarts)
        member.draining = told.draining
        if member.up and (member.models, member.up, member.restarts) != was:
            task = asyncio.get_running_loop().create_task(_listed(member))
            self._listing.add(task)
            task.add_done_callback(self._listing.discard)


async def _listed(member: Member) -> None:
    """Let an engine learn by itself what it has to know of its models, so that it can be asked for them."""
    with suppress(EngineFailed, TimeoutError):
        async with asyncio.timeout(_LISTING):
            await member.engine.models()


class Copied(Blobs):
    """What is kept at one worker is kept at all of them, so that its client finds it at any; but for one that starts
    later, which begins with nothing."""

    def __init__(self, link: Link, store: str, quota: Quota) -> None:
        super().__init__(quota)
        self._link = link
        self._store = store
        self._renewed: dict[ClientKey, dict[str, None]] = {}

    def put(self, key: str, owner: ClientKey, value: bytes, now: float) -> bool:
        kept = super().put(key, owner, value, now)
        if kept:
            self._link.send_once(messages.Put(self._store, key, told_of(owner), value))
        return kept

    def delete(self, key: str, owner: ClientKey, now: float) -> bool:
        deleted = super().delete(key, owner, now)
        if deleted:
            self._link.send_once(messages.Delete(self._store, key, told_of(owner)))
        return deleted

    def renew(self, key: str, owner: ClientKey, now: float) -> bytes | None:
        found = super().renew(key, owner, now)
        if found is not None:
            if not self._renewed:
                asyncio.get_running_loop().call_soon(self._tell_renewed)
            self._renewed.setdefault(owner, {})[key] = None
        return found

    def _tell_renewed(self) -> None:
        """Tell once what a request has renewed, which refers to each answer by many items."""
        renewed, self._renewed = self._renewed, {}
        for owner, keys in renewed.items():
            self._link.send_once(messages.Renew(self._store, list(keys), told_of(owner)))


class FarBoard(Board):
    """Shows what the keeper tells."""

    def __init__(self, settings: Settings, admission: RemoteAdmission, heard: messages.Status) -> None:
        super().__init__(settings, admission)
        self.heard = heard
        self._read: tuple[bytes, Status] | None = None

    def about(self) -> About:
        status = self.status()
        return About(**{name: getattr(status, name) for name in About.__struct_fields__})

    def status(self) -> Status:
        face = self.heard.face
        if self._read is None or self._read[0] is not face:
            self._read = face, _decode(face)
        return self._read[1]


_roster = msgspec.msgpack.Decoder(list[tuple[str, str | EngineTable]]).decode
_decode = msgspec.msgpack.Decoder(Status).decode
