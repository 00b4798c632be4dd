"""`standpipe serve`: the loop, the sockets, the signals, and an orderly end.

The first Ctrl-C or SIGTERM drains: no new client is let in, queued requests are told to come back, running streams may
finish within `grace`. A second one ends at once. SIGHUP reloads the settings and the TLS certificate, SIGUSR1
writes to the log what goes on inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from standpipe.app.app import App
from standpipe.app.doubts import doubts
from standpipe.app.engines import open_engines
from standpipe.app.reload import reload
from standpipe.configuration import unknown_variables
from standpipe.edge.config import EdgeConfig
from standpipe.edge.listen import ListenError, Tls, inherited, local_only, open_tcp, open_unix, raise_descriptors
from standpipe.edge.server import Server
from standpipe.engines.llama.llama import LlamaFailed
from standpipe.models.catalog import ModelUnavailable
from standpipe.observe import dump
from standpipe.observe import log as logs
from standpipe.observe.log import Logger
from standpipe.observe.outlet import Outlet
from standpipe.policy.identity import Trust
from standpipe.settings import Settings, SettingsError
from standpipe.terminal import banner, weights

_OTHER_DESCRIPTORS = 512
"""What a process needs besides connections: files, pipes, listening sockets."""
_LONGEST_WARNING = 500
"""Characters of what a library says."""
_STOP = (signal.SIGINT, signal.SIGTERM)
_CALLS = (signal.SIGHUP, signal.SIGUSR1)
_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}


def serve(read: Callable[[], Settings]) -> int:
    """Serve until told to stop. Gives the process's exit status: 0, or 1 or 2 when it could not start.

    `read` gives the settings, now and at every SIGHUP. Raises SettingsError.
    """
    settings = read()
    _occupy()
    log = logs.build(settings.log_format, settings.log_level, sys.stderr)
    logging.getLogger().addHandler(_Libraries(log))
    sys.unraisablehook = partial(_unraisable, log)
    for sentence in unknown_variables(os.environ):
        log.warning(sentence)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(settings, read, log))
    except (SettingsError, ModelUnavailable, LlamaFailed, ListenError) as error:
        Outlet(sys.stderr).write(f"standpipe: {error}\n")  # there is no server to log for
        return 2 if isinstance(error, SettingsError) else 1
    finally:
        log.close()


class _Libraries(logging.Handler):
    """What libraries log, in our log: standard error, where it went otherwise, may block."""

    def __init__(self, log: Logger) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.warning("a library warns", library=record.name, text=record.getMessage()[:_LONGEST_WARNING])


def _unraisable(log: Logger, what: sys.UnraisableHookArgs) -> None:
    """An exception where none can be raised, in a destructor for one: a bug like any other."""
    log.error("bug", message=what.err_msg, error=what.exc_value)


def _occupy() -> None:
    """Let no socket get the number of a standard stream that was closed before we began: libraries write to those."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop where there is one, else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        return None
    return uvloop.new_event_loop


class _Signals:
    """Ctrl-C and SIGTERM as two events: the first asks to drain, the second to leave at once. SIGHUP and SIGUSR1 as
    calls of what is in `on`, which do nothing until there is something to do."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.leave = asyncio.Event()
        self.on: dict[int, Callable[[], None]] = {}
        loop = asyncio.get_running_loop()
        for number in _STOP:
            loop.add_signal_handler(number, self._stop)
        for number in _CALLS:
            loop.add_signal_handler(number, self._call, number)

    def _stop(self) -> None:
        (self.leave if self.drain.is_set() else self.drain).set()

    def _call(self, number: int) -> None:
        if number in self.on:
            self.on[number]()

    def end(self) -> None:
        """From now on there is nothing left to stop: a late signal must not spoil the exit status."""
        loop = asyncio.get_running_loop()
        for number in (*_STOP, *_CALLS):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


async def _serve(settings: Settings, read: Callable[[], Settings], log: Logger) -> int:
    signals = _Signals()
    asyncio.get_running_loop().set_exception_handler(partial(_unexpected, log))
    _raise_descriptors(settings, log)
    doors = _doors(settings)
    try:
        opening = asyncio.ensure_future(open_engines(settings, weights.bar, partial(_say, log)))
        if not await _first(opening, signals.drain):
            return 0
        opened = opening.result()
        for sentence in doubts(settings):
            log.warning(sentence)
        address = banner.address(settings, doors.public[0])
        local = local_only(doors.public)
        async with App(settings, opened.engines, log, address=address, local=local) as app:
            await _answer(app, read, doors, signals, log, opened.reasons)
    finally:
        for sock in (*doors.public, *doors.admin):
            sock.close()
        signals.end()
    return 0


async def _first(work: asyncio.Future[Any], stop: asyncio.Event) -> bool:
    """Wait for the work, or for the event: then the work is cancelled and the answer is false."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not work.done():
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
    return not work.cancelled()


async def _answer(
    app: App,
    read: Callable[[], Settings],
    doors: _Doors,
    signals: _Signals,
    log: Logger,
    reasons: tuple[str, ...],
) -> None:
    """Open the doors, and close them again when a signal comes."""
    settings = app.settings
    server, admin = _servers(settings, app)
    tls = Tls(Path(settings.tls_cert), Path(settings.tls_key)) if settings.tls_cert else None
    server.start(doors.public, tls)
    admin.start(doors.admin)
    app.edge = server.statistics
    signals.on = {signal.SIGHUP: partial(reload, read, app, server, log), signal.SIGUSR1: partial(_dump, app, log)}
    _calm_collector()
    Outlet(sys.stdout).write(banner.text(settings, app.pool.fleet.resolve(None), doors.public[0], reasons))
    log.info("serving", address=banner.address(settings, doors.public[0]))
    await signals.drain.wait()
    grace = app.settings.grace
    log.info("draining", grace=grace)
    app.admission.drain()
    draining = asyncio.ensure_future(server.drain(grace))
    if not await _first(draining, signals.leave):
        await server.abort()
    await admin.abort()
    log.info("stopped")


def _calm_collector() -> None:
    """What stands now stays: the garbage collector need not look at it again and again. What an ask leaves behind is
    free of cycles but for few, so it may wait for more than the 700 new objects that Python waits for."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def _servers(settings: Settings, app: App) -> tuple[Server, Server]:
    config = EdgeConfig(**settings.values(EdgeConfig))
    trust = Trust.parse(settings.trusted_proxies, settings.client_header)
    public = Server(app.guard, app.guard.refuse, config, trust, proxied=settings.proxy_protocol)
    return public, Server(app.admin, app.admin.refuse, EdgeConfig(), Trust())


class _Doors(NamedTuple):
    """Listening sockets. Both kinds are open before anybody is let in by either: who cannot have both has neither."""

    public: list[socket.socket]
    admin: list[socket.socket]


def _doors(settings: Settings) -> _Doors:
    """Public: passed sockets, if any; else the one UNIX socket; else host and port. Raises ListenError."""
    admin = open_tcp(settings.admin_host, settings.admin_port) if settings.admin_port else []
    try:
        return _Doors(_public(settings), admin)
    except ListenError:
        for sock in admin:
            sock.close()
        raise


def _public(settings: Settings) -> list[socket.socket]:
    if passed := inherited(os.environ, os.getpid()):
        for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)  # they are ours now, and no child's
        return passed
    if settings.unix_socket:
        return [open_unix(Path(settings.unix_socket))]
    return open_tcp(settings.host, settings.port, reuse_port=settings.reuse_port)


def _raise_descriptors(settings: Settings, log: Logger) -> None:
    """One for each client, for a quarter more who are being told that there is no room, and for each running ask's
    connection to an engine."""
    wanted = settings.connections * 5 // 4 + settings.streams + _OTHER_DESCRIPTORS
    granted = raise_descriptors(wanted)
    if granted < wanted:
        log.warning(
            "the system allows fewer open files than `connections` and `streams` need (ulimit -n)",
            granted=granted,
            wanted=wanted,
        )


def _unexpected(log: Logger, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody caught: a bug, or a socket that the system would not give."""
    message, error = context.get("message"), context.get("exception")
    if isinstance(error, OSError) and error.errno in _NO_DESCRIPTOR:
        log.error("out of file descriptors", message=message, reason=error.strerror)
    else:
        log.error("bug", message=message, error=error)


def _say(log: Logger, level: str, sentence: str) -> None:
    getattr(log, level)(sentence)


def _dump(app: App, log: Logger) -> None:
    edge = None if app.edge is None else app.edge()
    for what, fields in dump.lines(app.board.for_operator(), app.fleet.statistics().engines, edge):
        log.info(what, **fields)
