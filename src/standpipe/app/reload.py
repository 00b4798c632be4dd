"""SIGHUP: the settings and the certificate are read again, and what can change while we run changes.

Settings that are wrong are refused whole, and the former ones stay. The log says what has changed, and what will only
count after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Protocol

from msgspec.structs import replace

from standpipe.app.doubts import doubts
from standpipe.app.roster import Roster
from standpipe.app.servers import limits, trust
from standpipe.edge.config import EdgeConfig
from standpipe.edge.listen import ListenError
from standpipe.observe.log import Logger
from standpipe.policy.identity import Trust
from standpipe.settings import STARTS, Settings, SettingsError


class Applies(Protocol):
    """What goes by settings: an app, or a keeper's centre."""

    settings: Settings

    def apply(self, settings: Settings) -> None:
        """As `App.apply`."""
        ...


class Edge(Protocol):
    """What lets connections in: a server, or a keeper's port."""

    def configure(self, config: EdgeConfig, trust: Trust) -> None:
        """As `Server.configure`."""
        ...

    def reload_tls(self) -> bool:
        """As `Server.reload_tls`."""
        ...


async def reload_at(
    hung_up: asyncio.Event, read: Callable[[], Settings], app: Applies, roster: Roster | None, server: Edge, log: Logger
) -> None:
    """Reload whenever the event is set, one after the other, for ever."""
    while True:
        await hung_up.wait()
        hung_up.clear()
        try:
            await reload(read, app, roster, server, log)
        except Exception as bug:  # noqa: BLE001 - the next one may go well
            log.error("bug", error=bug)  # noqa: TRY400 - our own log


async def reload(read: Callable[[], Settings], app: Applies, roster: Roster | None, server: Edge, log: Logger) -> None:
    """`read` gives the settings as they are now in the file; the rest is what they are for. Without a roster the
    engines are another process's to change."""
    try:
        async with nullcontext() if roster is None else roster.lock:
            await _reload_settings(read(), app, roster, server, log)
    except SettingsError as error:
        log.warning("settings not reloaded: the former ones stay", reason=str(error))
    try:
        if server.reload_tls():
            log.info("TLS certificate reloaded")
    except ListenError as error:
        log.warning("TLS certificate not reloaded: the former one stays", reason=str(error))


async def _reload_settings(wanted: Settings, app: Applies, roster: Roster | None, server: Edge, log: Logger) -> None:
    former = app.settings
    changed: dict[str, Any] = {
        name: getattr(wanted, name)
        for name in wanted.__struct_fields__
        if getattr(wanted, name) != getattr(former, name)
    }
    live = {name: value for name, value in changed.items() if name not in STARTS}
    waiting = changed.keys() - live.keys()
    settings = replace(former, **live)
    trusted = trust(settings)
    plan = None if roster is None else await roster.plan(settings)
    try:
        app.apply(settings)
    except SettingsError:
        if plan is not None:
            await plan.opened.aclose()
        raise
    if roster is not None and plan is not None:
        roster.carry_out(plan, settings)
    server.configure(limits(settings), trusted)
    for sentence in doubts(settings):
        log.warning(sentence)
    log.info("settings reloaded", changed=" ".join(live) or "nothing")
    if waiting:
        log.warning("these settings will only count after a restart", settings=" ".join(sorted(waiting)))
