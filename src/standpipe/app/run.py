"""`standpipe serve`: the loop, the sockets, the signals, and an orderly end.

The first Ctrl-C or SIGTERM drains: after `drain_delay`, no new client is let in, queued requests are told to come back,
running streams may finish within `grace`. A second one ends at once. SIGHUP reloads the settings and the TLS
certificate, SIGUSR1 writes to the log what goes on inside.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

from standpipe.app.app import App
from standpipe.app.center import Center
from standpipe.app.commands import open_control
from standpipe.app.doubts import doubts
from standpipe.app.engines import open_engines
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
    occupy,
    open_sockets,
    told_why,
    unexpected,
)
from standpipe.app.servers import admin_server, certificate, public_server
from standpipe.configuration import unknown_variables
from standpipe.edge.listen import local_only
from standpipe.observe import log as logs
from standpipe.observe.log import Logger
from standpipe.observe.outlet import Outlet
from standpipe.settings import Settings
from standpipe.terminal import banner, weights


def serve(read: Callable[[], Settings]) -> int:
    """Serve until told to stop. Gives the process's exit status: 0, or 1 or 2 when it could not start.

    `read` gives the settings, now and at every SIGHUP. Raises SettingsError.
    """
    settings = read()
    occupy()
    log = logs.build(settings.log_format, settings.log_level, sys.stderr)
    hear_all(log)
    for sentence in unknown_variables(os.environ):
        log.warning(sentence)
    try:
        if settings.workers != "1":
            from standpipe.app.processes import serve_workers  # noqa: PLC0415 - one process pays nothing for many

            return serve_workers(settings, read, log)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_serve(settings, read, log))
    except FAILURES as error:
        return told_why(error)
    finally:
        log.close()


async def _serve(settings: Settings, read: Callable[[], Settings], log: Logger) -> int:
    signals = Signals()
    asyncio.get_running_loop().set_exception_handler(partial(unexpected, log))
    enough_descriptors(settings, log)
    doors = open_sockets(settings)
    try:
        opening = asyncio.ensure_future(open_engines(settings, weights.bar, log.say))
        if not await first(opening, signals.drain):
            return 0
        opened = opening.result()
        for sentence in doubts(settings):
            log.warning(sentence)
        address = banner.address(settings, doors.public[0])
        local = local_only(doors.public)
        center = Center(settings, opened.engines, log)
        async with App(settings, center, log, address=address, local=local) as app:
            await _answer(app, center, read, doors, signals, log, opened.reasons)
    finally:
        for sock in (*doors.public, *doors.admin):
            sock.close()
        signals.end()
    return 0


async def _answer(
    app: App,
    center: Center,
    read: Callable[[], Settings],
    doors: Sockets,
    signals: Signals,
    log: Logger,
    reasons: tuple[str, ...],
) -> None:
    """Open the doors, and close them again when a signal comes."""
    settings = app.settings
    server, admin = public_server(settings, app.guard), admin_server(center.admin)
    server.start(doors.public, certificate(settings))
    admin.start(doors.admin)
    center.edge = server.statistics
    hung_up = asyncio.Event()
    if hasattr(signal, "SIGHUP"):  # not on Windows
        signals.on = {signal.SIGHUP: hung_up.set, signal.SIGUSR1: center.dump}
    control = open_control(center.fleet, center.roster, doors.public[0], log)
    orders = [] if control is None else [control.listen()]
    async with beside(reload_at(hung_up, read, app, center.roster, server, log), *orders):
        calm_collector()
        Outlet(sys.stdout).write(banner.text(settings, app.pool.fleet.resolve(None), doors.public[0], reasons))
        log.info("serving", address=banner.address(settings, doors.public[0]))
        await signals.drain.wait()
        if delay := app.settings.drain_delay:
            log.info("not ready any more", delay=delay)
            center.leaving = True
            await first(asyncio.ensure_future(asyncio.sleep(delay)), signals.leave)
        grace = app.settings.grace
        log.info("draining", grace=grace)
        center.admission.drain()
        draining = asyncio.ensure_future(server.drain(grace))
        if not await first(draining, signals.leave):
            await server.abort()
        await admin.abort()
    log.info("stopped")
