"""What an operator may order while the server runs, over its own socket (`control`). A command is a line in `commands`.

Each takes the order's arguments and who gave it, and refuses in a sentence that says what to do. It changes only what
runs: the settings file stays as it is, so all of this lasts until a restart.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from standpipe.app.roster import Roster
from standpipe.configuration import engine_table
from standpipe.control.listener import Command, Listener, open_socket
from standpipe.control.orders import Refused, folder
from standpipe.edge.listen import ListenError, address_of
from standpipe.engine_tables import EngineTable
from standpipe.engines.fleet import Fleet
from standpipe.engines.member import Member
from standpipe.observe.log import Logger
from standpipe.settings import SettingsError


def commands(fleet: Fleet, roster: Roster) -> Mapping[str, Command]:
    """All of them, by name."""
    engines = EngineCommands(fleet, roster)
    return {
        "engines list": engines.list,
        "engines add": engines.add,
        "engines drain": engines.told(roster.drain),
        "engines resume": engines.told(roster.resume),
        "engines remove": engines.told(roster.remove),
    }


def open_control(fleet: Fleet, roster: Roster, public: socket.socket, log: Logger) -> Listener | None:
    """The control socket of the server that listens on `public`. Where there can be none, it goes on without."""
    where = address_of(public)
    label = where.rpartition(":")[2] if isinstance(public.getsockname(), tuple) else Path(where).stem
    try:
        sock, path = open_socket(folder(os.environ, Path.home()), label)
    except (ListenError, RuntimeError) as error:  # RuntimeError: nobody's home is known
        log.warning("no control socket: `standpipe engines` will not find this server", reason=str(error))
        return None
    log.info("control socket open", path=str(path))
    return Listener(sock, path, commands(fleet, roster), lambda bug: log.error("bug", error=bug))


class EngineCommands:
    """What concerns engines. All give the engines as they are afterwards."""

    def __init__(self, fleet: Fleet, roster: Roster) -> None:
        self._fleet = fleet
        self._roster = roster

    async def list(self, _arguments: dict[str, Any], _by: str) -> Any:
        """Every engine as it is now."""
        now = asyncio.get_running_loop().time()
        return [_shown(member, self._roster.url(member), now) for member in self._fleet.members]

    async def add(self, arguments: dict[str, Any], by: str) -> Any:
        """`engine`: a URL, as `--engine` takes it, or a table."""
        one = arguments.get("engine")
        try:
            if isinstance(one, dict):
                one = engine_table(one, "the engine", "this command")
            if not isinstance(one, str | EngineTable):
                raise Refused("say which engine: its URL, or url=... and other keys of its table")
            await self._roster.add(one, by)
        except SettingsError as error:
            raise Refused(str(error)) from error
        return await self.list(arguments, by)

    def told(self, say: Callable[[str, str], None]) -> Command:
        """A command that says something of the engine with this `name`."""

        async def command(arguments: dict[str, Any], by: str) -> Any:
            name = arguments.get("name")
            if not isinstance(name, str):
                raise Refused("say the engine's name; `standpipe engines` lists them")
            async with self._roster.lock:
                try:
                    say(name, by)
                except SettingsError as error:
                    raise Refused(str(error)) from error
            return await self.list(arguments, by)

        return command


def _shown(member: Member, url: str, now: float) -> dict[str, Any]:
    """One engine, for the operator."""
    engine = member.statistics(now)
    state = "leaving" if member.leaving else "draining" if engine.draining else "up" if engine.up else "down"
    return {
        "name": engine.name,
        "url": url,
        "state": state,
        "reason": None if engine.up else engine.reason,
        "busy": engine.busy,
        "slots": engine.slots,
        "models": engine.models,
        "held_off_seconds": round(engine.retry_in, 1),
        "priority": engine.priority,
    }
