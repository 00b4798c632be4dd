"""The keeper: the one line, and all who work for it.

It has what decides (`Admission`, `FleetChoice`), and workers connect to it (`desk`). Now and then it tells them how
everything is, and where their clients stand. A new keeper is empty and may come after one that was lost: until every
worker that is expected has told what is open, at most for `RECOVERY` seconds, it only listens. Then it lets those asks
stand where they stood, and goes on. Must not know HTTP, nor how processes are started.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Self

from standpipe.engines.choice import FleetChoice
from standpipe.keeper import messages
from standpipe.keeper.desk import Desk
from standpipe.keeper.errand import Hall, left_place
from standpipe.keeper.frames import Broken
from standpipe.observe.hooks import Hook
from standpipe.observe.log import ClientHash, Logger
from standpipe.policy.identity import ClientKey
from standpipe.policy.pace import MICROSECONDS
from standpipe.serve.admission import Admission

RECOVERY = 0.3
"""Seconds for which a new keeper waits for workers that may hold asks of another one."""
_STATUS = 1.0
_TELL = 0.25
SILENCE = 10.0
"""Seconds without a word after which a worker hangs: it says something every second."""


class Presence(StrEnum):
    """What has become of a worker."""

    CAME = "came"
    LEFT = "left"
    HANGS = "hangs"


class Keeper:
    """See the module; use it as an async context manager.

    Args:
        admission: the line, with all that lets in.
        choice: who chooses engines.
        log: where it is told what is odd.
        hash_client: names clients in the log; workers use its key.
        face: gives a packed `observe.about.Status`, for workers to show.
        roster: gives the engines as workers shall open them, packed.
        hooks: are given the record of every ask of every worker.
        workers: how many workers are expected; 0 where that is not known.
    """

    def __init__(
        self,
        admission: Admission,
        choice: FleetChoice,
        log: Logger,
        *,
        hash_client: ClientHash,
        face: Callable[[], bytes] = lambda: b"",
        roster: Callable[[], bytes] = lambda: b"",
        hooks: Sequence[Hook] = (),
        workers: int = 0,
    ) -> None:
        self.admission = admission
        self.choice = choice
        self.hall = Hall(admission, choice, log)
        self._log = log
        self.hooks = hooks
        self.desks: set[Desk] = set()
        self.on_worker: Callable[[int, Presence], None] = lambda _pid, _presence: None
        """Is told by its pid what has become of a worker. One that hangs is told of every second."""
        self.on_warnings: Callable[[frozenset[str]], None] = lambda _: None
        """Is told every second what workers warn of (`policy.alarm`)."""
        self.paced: set[ClientKey] = set()
        """Clients whose pace a fault has moved: all workers are told."""
        self.epoch = time.time_ns()
        """Tells this keeper from others; a later one has a larger one."""
        self.recovering = True
        self._hash_client = hash_client
        self._face = face
        self._roster = roster
        self._workers = workers
        self.tap = secrets.token_bytes(32)
        """What keys are derived from, in all processes of this tap."""
        self._adopted = False
        self._leaving: list[Desk] = []
        """Desks of connections that have ended, as far as they may still hold something."""
        self._left: list[messages.LeftPlace] = []
        self._servers: list[asyncio.Server] = []
        self._recovery: asyncio.TimerHandle | None = None
        admission.holding = True

    async def __aenter__(self) -> Self:
        self._recovery = asyncio.get_running_loop().call_later(RECOVERY, self._go_on)
        self.hall.run(self._watched(self._tell_status, _STATUS))
        self.hall.run(self._watched(self._tell_standings, _TELL))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._recovery is not None:
            self._recovery.cancel()
        for server in self._servers:
            server.close()
        for desk in list(self.desks):
            desk.abort()
        await asyncio.sleep(0)
        await self.hall.close()

    # Workers

    async def listen(self, path: Path) -> None:
        """Take workers that connect to this UNIX socket, in the place of whoever listened there before."""
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - a socket's name, on a local disk
        loop = asyncio.get_running_loop()
        mask = os.umask(0o077)
        try:
            self._servers.append(await loop.create_unix_server(lambda: Desk(self), str(path)))
        finally:
            os.umask(mask)

    async def attach(self, sock: socket.socket) -> None:
        """Take the worker at the other end of a connected socket, which is the keeper's from now on."""
        await asyncio.get_running_loop().connect_accepted_socket(lambda: Desk(self), sock)

    def came(self, desk: Desk, hello: messages.Hello) -> None:
        """A worker says who it is, and what it remembers."""
        for other in (*self.desks, *self._leaving):
            if other is not desk and other.pid == desk.pid:
                other.abort()
                other.clear()
        if hello.secrets is not None and not self._adopted and self.recovering:
            self._adopt(hello.secrets)
        now = asyncio.get_running_loop().time()
        instant = int(now * MICROSECONDS)
        for address, tat_in in hello.paces:
            self.admission.paces.learn(address, instant + tat_in, instant)
        self._left += hello.left
        if not self.recovering:
            self._keep_left(now)
        self.on_worker(desk.pid, Presence.CAME)

    def _adopt(self, others: messages.Secrets) -> None:
        self._adopted = True
        self.tap = others.tap
        self._hash_client.adopt(others.clients, others.clients_left)

    @property
    def secrets(self) -> messages.Secrets:
        """What all processes of this tap go by."""
        key, left = self._hash_client.key
        return messages.Secrets(tap=self.tap, clients=key, clients_left=left)

    def is_ready(self, desk: Desk) -> None:
        """A worker has told all that was open."""
        if not self.recovering:
            self._welcome(desk)
            self.hall.forget()  # too late to stand: its asks have arrived
            self.choice.seats.changed()
        elif self._workers and sum(desk.ready for desk in self.desks) >= self._workers:
            self._go_on()

    def _welcome(self, desk: Desk) -> None:
        desk.send(self._status())
        desk.send(messages.Welcome(messages.VERSION, self.epoch, self.secrets))

    def gone(self, desk: Desk) -> None:
        """A worker's connection has ended."""
        self.desks.discard(desk)
        self._leaving = [other for other in self._leaving if other.errands]
        self._leaving.append(desk)
        if desk.pid:
            self.on_worker(desk.pid, Presence.LEFT)

    # Recovery

    def _go_on(self) -> None:
        """All is told, or enough waited for: let those who stood stand, and begin to grant."""
        if not self.recovering:
            return
        now = asyncio.get_running_loop().time()
        desks = list(self.desks)
        for desk in desks:
            desk.adopt()
        self.hall.stand(now)
        self._keep_left(now)
        self.recovering = self.admission.holding = False
        for desk in desks:
            if desk.ready:
                self._welcome(desk)
            desk.catch_up()
        self.choice.seats.changed()

    def _keep_left(self, now: float) -> None:
        hold = self.admission.lines.rules.hold
        for place in self._left:
            journey, client, left = left_place(place, now, hold)
            if left.until > now:
                self.admission.lines.of(journey).keep(client, place.fingerprint, left)
        self._left.clear()

    # What is told

    def _status(self) -> messages.Status:
        now = asyncio.get_running_loop().time()
        fleet = self.choice.fleet
        default, embedder = fleet.found
        key, left = self._hash_client.key
        engines = []
        for member in fleet.members:
            down = member.standing.down_since
            cards = ((model, member.card(model)) for model in member.models)
            engines.append(
                messages.EngineTold(
                    name=member.engine.name,
                    down=None if down is None else now - down,
                    reason=member.reason,
                    draining=member.draining,
                    restarts=member.restarts,
                    models=[(model, card.window, card.chats, card.sees) for model, card in cards],
                )
            )
        return messages.Status(
            engines=engines,
            default=default,
            embedder=embedder,
            draining=self.admission.draining,
            face=self._face(),
            clients=key,
            clients_left=left,
            roster=self._roster(),
        )

    def _tell_status(self) -> None:
        now = asyncio.get_running_loop().time()
        paces = [(client.address, self.hall.tat_in(client, now)) for client in self.paced]
        self.paced.clear()
        self.on_warnings(frozenset().union(*(desk.warnings for desk in self.desks)))
        status = self._status()
        for desk in self.desks:
            if not desk.ready or self.recovering:
                continue
            desk.send(status)
            if paces:
                desk.send(messages.Paced(paces))
            if now - desk.heard > SILENCE:
                self._log.warning("a worker hangs", pid=desk.pid, seconds=round(now - desk.heard))
                self.on_worker(desk.pid, Presence.HANGS)

    def _tell_standings(self) -> None:
        if not self.recovering:
            for desk in self.desks:
                desk.tell()

    # The end

    def drain(self) -> None:
        """Let nobody in any more, and refuse who waits; those who run may finish."""
        self.admission.drain()
        for desk in self.desks:
            desk.send(messages.Drain())

    def hand_over(self) -> None:
        """Another keeper has taken over the path: workers go to it with everything. Grant nothing any more."""
        self.admission.holding = True
        for server in self._servers:
            server.close()
        for desk in list(self.desks):
            desk.send(messages.Again())
            desk.close()

    def cannot_understand(self, pid: int, broken: Broken) -> None:
        """A worker does not speak as it should, and is cut."""
        self._log.warning("a worker cannot be understood", pid=pid, reason=str(broken))

    async def _watched(self, work: Callable[[], None], every: float) -> None:
        """Do it again and again, whatever happens."""
        while True:
            await asyncio.sleep(every)
            try:
                work()
            except Exception as bug:  # noqa: BLE001 - one bad second must not be the last
                self.hall.bug(bug)

    def __repr__(self) -> str:
        return f"<Keeper of {len(self.desks)} workers, {self.admission.statistics()}>"
