"""The ASGI shell under uvicorn: `--edge asgi`.

Uses uvicorn's protocol class and nothing else of it: `Server` accepts, caps and drains for this shell as for our own.
What uvicorn has no words for stays undone here: deadlines for a head or a first byte, caps on heads before they are
read, refusals to whoever is over a cap (they are cut).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from standpipe.asgi import AsgiShell
from standpipe.edge.census import Entry, Visit
from standpipe.edge.config import Limits, Patience
from standpipe.edge.reply import Calendar
from standpipe.edge.seam import Handler, Refuse

_POLL = 0.01
"""Seconds between two looks at whether uvicorn's protocols have all closed: they do not tell."""


class _State(ServerState):
    """What uvicorn's protocols share. Their server renews the date every second; here it is made when it is read."""

    def __init__(self) -> None:
        self._calendar = Calendar()
        super().__init__()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"date", self._calendar.date())]

    @default_headers.setter
    def default_headers(self, _: list[tuple[bytes, bytes]]) -> None:
        """The base sets it once, to nothing."""


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with the two words that ASGI lacks and an end to its patience with stalled readers."""

    def __init__(self, shell: UvicornShell, visit: Visit) -> None:
        super().__init__(config=shell.config, server_state=shell.state, app_state={})
        self._shell = shell
        self._visit = visit
        self._patience: Patience | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if self._visit.entry is not Entry.WELCOME:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._visit.leave()
        if self._stall is not None:
            self._stall.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        words: dict[str, Any] = {"standpipe.close": self.transport.close, "standpipe.abort": self.transport.abort}
        self.scope["extensions"] = words

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._shell.draining:
            self.cycle.keep_alive = False

    def pause_writing(self) -> None:
        super().pause_writing()
        self._patience = Patience(
            self.loop.time(), window=self._shell.limits.write_stall, passed=-self.transport.get_write_buffer_size()
        )
        self._stall = self.loop.call_at(self._patience.due, self._look)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    def _look(self) -> None:
        # uvicorn writes nothing more while it is paused, so what the reader takes is what the buffer loses.
        assert self._patience is not None
        if self._patience.lost(self.loop.time(), -self.transport.get_write_buffer_size()):
            self.transport.abort()
        else:
            self._stall = self.loop.call_at(self._patience.due, self._look)

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # it would wait for ever for this reader
        else:
            super().timeout_keep_alive_handler()


class UvicornShell:
    """Serves connections by uvicorn's protocol, each request through `AsgiShell`. uvicorn counts nothing."""

    rejected: Mapping[int, int] = {}
    overdue: Mapping[str, int] = {}

    def __init__(self, handler: Handler, refuse: Refuse, limits: Limits) -> None:
        self.limits = limits
        self.asgi = AsgiShell(handler, refuse, limits)
        self.state = _State()
        # Without a log configuration, and silent: what goes wrong in a handler is reported by the shell itself.
        self.config = Config(
            self.asgi, interface="asgi3", lifespan="off", ws="none", log_config=None, log_level="critical",
            access_log=False, proxy_headers=False, server_header=False,
        )  # fmt: skip
        self.config.timeout_keep_alive = limits.idle  # type: ignore[assignment]  # a timer takes any number
        self.config.load()
        self.draining = False

    def protocol(self, visit: Visit) -> asyncio.Protocol:
        """A protocol for one accepted connection."""
        return _Protocol(self, visit)

    def begin_drain(self) -> None:
        """No connection gets another request once its present one is answered; idle ones close now."""
        self.draining = True
        for connection in tuple(self.state.connections):
            connection.shutdown()

    def abort(self) -> None:
        """Cut every connection, which cancels every handler."""
        for connection in tuple(self.state.connections):
            connection.transport.abort()

    async def emptied(self) -> None:
        """Until no connection is open and no handler runs."""
        while self.state.connections or self.state.tasks:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(_POLL)

    def __repr__(self) -> str:
        return f"<UvicornShell {len(self.state.connections)} connections>"
