"""`standpipe serve --workers N`: what the keeper and a worker do. `standpipe.workers` starts them and ends them.

Both are forks of the supervisor, so what was read and opened there, they have: the settings, the sockets, the place
where they meet. Each opens the engines by itself; only the keeper looks after them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from standpipe.app.app import App
from standpipe.app.center import Center
from standpipe.app.commands import open_control
from standpipe.app.doubts import doubts
from standpipe.app.engines import open_engines
from standpipe.app.outpost import Outpost
from standpipe.app.reload import reload_at
from standpipe.app.runtime import (
    FAILURES,
    Signals,
    Sockets,
    beside,
    calm_collector,
    enough_descriptors,
    first,
    hear_all,
    loop_factory,
    open_sockets,
    told_why,
    unexpected,
)
from standpipe.app.servers import admin_server, certificate, limits, public_server, trust
from standpipe.edge.acceptor import Acceptor
from standpipe.edge.listen import ListenError, local_only
from standpipe.engines.llama.llama import Llama
from standpipe.keeper.keeper import Keeper
from standpipe.keeper.link import Link
from standpipe.observe import log as logs
from standpipe.observe.log import Logger
from standpipe.observe.outlet import Outlet
from standpipe.settings import Settings, SettingsError
from standpipe.terminal import banner, weights
from standpipe.workers.lifeline import Lifeline
from standpipe.workers.meeting import Meeting
from standpipe.workers.port import Counted, Port
from standpipe.workers.slate import Slate
from standpipe.workers.supervisor import Part, Role, Supervisor
from standpipe.workers.visits import Visits

_REMEMBERED = 1.0
"""Seconds after which what was counted is written down again."""
_UNTIL_TOLD = 1.0
"""Seconds that a worker waits for the keeper's word before it drains: until then visits may come."""
_AFTER_WAITING = 600.0
"""Seconds that an answer may take in a worker that is replaced, after the longest wait for it."""
_EMBEDDED = (
    "--workers needs engines that are servers of their own, and this is an embedded one; start it by itself "
    "(`standpipe serve` with it, then `--engine http://...`), or use one process"
)


class Ground(Struct):
    """What all processes stand on."""

    settings: Settings
    """As last found right: a child that is started while the file is wrong goes by them."""
    read: Callable[[], Settings]
    sockets: Sockets
    meeting: Meeting
    slate: Slate
    workers: int
    form: str
    """Of the log: human or json. A child cannot see who reads it."""


def how_many(wanted: str, cores: int) -> int:
    """The number of workers of a setting: `auto` leaves a core to the keeper."""
    return max(1, cores - 1) if wanted == "auto" else int(wanted)


def serve_workers(settings: Settings, read: Callable[[], Settings], log: Logger) -> int:
    """Serve with several processes until told to stop. Gives the exit status. Raises SettingsError or ListenError."""
    if sys.platform != "linux":
        raise SettingsError("workers works on Linux only: connections are passed between processes there")
    out = Outlet(sys.stderr)
    form = "human" if logs.for_people(settings.log_format, out) else "json"
    workers = how_many(settings.workers, len(os.sched_getaffinity(0)))
    enough_descriptors(settings, log)
    sockets = open_sockets(settings)
    try:
        meeting = Meeting()
    except OSError as error:
        raise ListenError(f"cannot open the workers' own sockets: {error}") from error
    ground = Ground(settings, read, sockets, meeting, Slate(), workers, form)
    try:
        supervisor = Supervisor(
            partial(_play, ground),
            workers,
            grace=lambda: ground.settings.grace,
            tell=log.say,
            write=out.write,
            check=partial(_check, ground, log),
            on_stop=partial(_close, sockets.public),  # who comes now is refused, not left to wait for nobody
        )
        status = supervisor.run()
        log.info("stopped")
        return status
    finally:
        meeting.close()
        _close([*sockets.public, *sockets.admin])
        out.close()


def _close(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _check(ground: Ground, log: Logger) -> bool:
    """Whether what is read now could be loaded; if not, nobody loads any of it."""
    try:
        settings = ground.read()
        trust(settings)
        if (tls := certificate(settings)) is not None:
            tls.context()
    except (SettingsError, ListenError) as error:
        log.warning("settings not reloaded: the former ones stay", reason=str(error))
        return False
    ground.settings = settings
    return True


def _play(ground: Ground, part: Part) -> int:
    """A child's life. Gives its exit status."""
    settings = ground.settings
    log = logs.build(ground.form, settings.log_level, sys.stderr)
    hear_all(log)
    play = _keep if part.role is Role.KEEPER else _work
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(play(ground, settings, part, log))
    except FAILURES as error:
        return told_why(error)
    finally:
        log.close()
    return 0


async def _keep(ground: Ground, settings: Settings, part: Part, log: Logger) -> None:
    """The keeper: the line, the engines' slots, the port, and what the operator asks."""
    signals = _begin(log)
    lifeline = Lifeline(part.lifeline, ground.meeting.close)
    tell = log.say if part.first else _say_nothing
    opening = asyncio.ensure_future(open_engines(settings, weights.bar, tell))
    if not await first(opening, signals.drain):
        return
    opened = opening.result()
    if any(isinstance(engine, Llama) for engine in opened.engines):
        for engine in opened.engines:
            await engine.close()
        raise SettingsError(_EMBEDDED)
    center = Center(settings, opened.engines, log)
    async with center, center.keeper(ground.workers) as keeper:
        port = Port(limits(settings), trust(settings), proxied=settings.proxy_protocol)
        admin = admin_server(center.admin)
        admin.start(ground.sockets.admin)
        center.edge = port.statistics
        remembering = _remember(ground.slate, center, port)
        _meet(ground.meeting, keeper, port)
        hung_up, replaced = asyncio.Event(), asyncio.Event()
        signals.on = {
            signal.SIGHUP: hung_up.set, signal.SIGUSR1: center.dump, signal.SIGUSR2: replaced.set,
        }  # fmt: skip
        control = open_control(center.fleet, center.roster, ground.sockets.public[0], log)
        orders = [] if control is None else [control.listen()]
        reloading = reload_at(hung_up, ground.read, center, center.roster, port, log)
        async with beside(reloading, remembering, *orders):
            calm_collector()
            port.start(ground.sockets.public, ground.workers)
            if part.first:
                for sentence in doubts(settings):
                    log.warning(sentence)
                model, where = center.fleet.resolve(None), ground.sockets.public[0]
                Outlet(sys.stdout).write(banner.text(settings, model, where, opened.reasons, ground.workers))
                log.info("serving", address=banner.address(settings, where))
            lifeline.ready()
            stopping = asyncio.ensure_future(signals.drain.wait())
            if await first(stopping, replaced):
                log.info("draining", grace=settings.grace)
                keeper.drain()
                port.drain()
                await first(asyncio.ensure_future(port.emptied.wait()), signals.leave)
            else:
                keeper.hand_over()
            port.close()
            await admin.abort()
    lifeline.close()


class _Remembered(Struct, array_like=True):
    """What must not be forgotten when a keeper ends: what was counted, so that no counter falls."""

    metrics: list[tuple[str, list[tuple[str, str]], float]]
    port: Counted


def _remember(slate: Slate, center: Center, port: Port) -> Coroutine[Any, Any, None]:
    """Go on counting where a former keeper ended. Gives what must run from now on."""
    if written := slate.read():
        former = msgspec.msgpack.decode(written, type=_Remembered)
        center.metrics.former = {(name, tuple(labels)): value for name, labels, value in former.metrics}
        port.counted = former.port

    def write() -> None:
        metrics = [(name, list(labels), value) for (name, labels), value in center.metrics.counted().items()]
        slate.write(msgspec.msgpack.encode(_Remembered(metrics, port.counted)))

    async def go_on() -> None:
        while True:
            await asyncio.sleep(_REMEMBERED)
            write()

    center.metrics.on_page = write
    return go_on()


def _meet(meeting: Meeting, keeper: Keeper, port: Port) -> None:
    """Let workers come."""
    loop = asyncio.get_running_loop()
    coming: set[asyncio.Task[None]] = set()

    def ask(sock: socket.socket, _peer: str | None) -> None:
        task = loop.create_task(keeper.attach(sock))
        coming.add(task)
        task.add_done_callback(coming.discard)

    Acceptor(ask).start([meeting.asks])
    Acceptor(lambda sock, _peer: port.attach(sock)).start([meeting.visits])


def part_of(settings: Settings, workers: int) -> Settings:
    """The settings of one of so many workers. Connections are spread over all, so each has its part of the memory."""
    return replace(
        settings,
        body_memory=settings.body_memory // workers,
        body_memory_per_client=settings.body_memory_per_client // workers,
    )


async def _work(ground: Ground, settings: Settings, part: Part, log: Logger) -> None:
    """A worker: HTTP, formats and engines."""
    settings = part_of(settings, ground.workers)
    signals = _begin(log)
    lifeline = Lifeline(part.lifeline, ground.meeting.close)
    quiet = logs.build(ground.form, "error", sys.stderr)  # the keeper says it for all
    address, local = banner.address(settings, ground.sockets.public[0]), local_only(ground.sockets.public)
    _close([*ground.sockets.public, *ground.sockets.admin])  # the keeper has them

    def read() -> Settings:
        return part_of(ground.read(), ground.workers)

    async with Link(ground.meeting.asks_at, log) as link:
        welcome = asyncio.ensure_future(link.welcome())
        if not await first(welcome, signals.drain):  # the keeper may be gone already
            return
        welcome.result()
        opened = await open_engines(settings, weights.bar, _say_nothing)
        outpost = Outpost(settings, opened.engines, log, link)
        async with App(settings, outpost, log, address=address, local=local) as app:
            server = public_server(settings, app.guard)
            server.start([], certificate(settings))
            told, hung_up, replaced = asyncio.Event(), asyncio.Event(), asyncio.Event()
            visits = Visits(server.take, told.set, server.statistics, os.getpid())
            visits.reach(ground.meeting.visits_at)
            signals.on = {signal.SIGHUP: hung_up.set, signal.SIGUSR2: replaced.set}
            async with beside(reload_at(hung_up, read, app, None, server, quiet)):
                calm_collector()
                lifeline.ready()
                grace = await _until_ended(settings, signals, told, replaced, visits)
                draining = asyncio.ensure_future(server.drain(grace))
                if not await first(draining, signals.leave):
                    await server.abort()
            visits.close()
    lifeline.close()


async def _until_ended(
    settings: Settings, signals: Signals, told: asyncio.Event, replaced: asyncio.Event, visits: Visits
) -> float:
    """Serve until something ends that. Gives the seconds that those have who are still being served."""
    stopping = asyncio.ensure_future(signals.drain.wait())
    leaving = asyncio.ensure_future(replaced.wait())
    hearing = asyncio.ensure_future(told.wait())
    await asyncio.wait((stopping, leaving, hearing), return_when=asyncio.FIRST_COMPLETED)
    if leaving.done() and not stopping.done() and not hearing.done():
        stopping.cancel()
        hearing.cancel()
        visits.leave()
        return settings.wait_limit + _AFTER_WAITING
    leaving.cancel()
    if not hearing.done():
        await asyncio.wait((hearing,), timeout=_UNTIL_TOLD)
        hearing.cancel()
    stopping.cancel()
    return settings.grace


def _begin(log: Logger) -> Signals:
    asyncio.get_running_loop().set_exception_handler(partial(unexpected, log))
    return Signals()


def _say_nothing(_level: str, _sentence: str) -> None:
    """The keeper says it for all."""
