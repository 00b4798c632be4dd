"""The front door: accepts connections for a shell, whichever it is, and closes again in good order.

Knows sockets, TLS and caps, and nothing of HTTP. It accepts by itself instead of leaving that to the loop, because
only so can somebody be counted, and cut, before a transport or a TLS handshake is spent on them. A drain accepts
whatever the kernel had already taken in, so that a restart with a shared or passed socket loses nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from standpipe.edge.limiter import Census, Entry, Visit
from standpipe.edge.config import Limits
from standpipe.edge.listen import BACKLOG, Tls, address_of
from standpipe.policy.identity import Trust

_AT_ONCE = 8
"""Connections that are accepted in one turn of the loop, so that a flood of them leaves time for everything else."""
_BREATH = 0.5
"""Seconds to wait when the system has no descriptor left for another connection."""
_PARTING = 1.0
"""Seconds that cancelled handlers have to return."""
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Statistics(Struct, frozen=True):
    """Connections that are open, and the clients they belong to; since the start, connections refused by cap, requests
    that were rejected before a handler saw them, by status, and connections cut, by the name of their deadline."""

    connections: int
    clients: int
    refused: Mapping[str, int]
    rejected: Mapping[int, int]
    overdue: Mapping[str, int]


class Shell(Protocol):
    """What serves the connections."""

    @property
    def rejected(self) -> Mapping[int, int]:
        """Requests turned away before a handler saw them since the start, by status."""
        ...

    @property
    def overdue(self) -> Mapping[str, int]:
        """Connections cut for being late since the start, by the deadline's name."""
        ...

    def protocol(self, visit: Visit) -> asyncio.Protocol:
        """A protocol for one accepted connection, which makes its visit leave in the end."""
        ...

    def begin_drain(self) -> None:
        """No connection gets another request once its present one is answered; idle ones close now."""
        ...

    def abort(self) -> None:
        """Cut every connection, which cancels every handler."""
        ...

    async def emptied(self) -> None:
        """Until no connection is open and no handler runs."""
        ...


class Server:
    """One shell behind any number of listening sockets."""

    def __init__(self, shell: Shell, limits: Limits, trust: Trust) -> None:
        """`trust` names the proxies that speak for many, and so count for nobody."""
        self.census = Census(limits, trust)
        self._shell = shell
        self._limits = limits
        self._listening: list[socket.socket] = []
        self._tls: Tls | None = None
        self._context: ssl.SSLContext | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._aborted = False

    def start(self, sockets: Sequence[socket.socket], tls: Tls | None = None) -> None:
        """Accept on these sockets from now on; they are ours to close. Raises ListenError for a bad certificate."""
        self._tls = tls
        self.reload_tls()
        for sock in sockets:
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.listen(BACKLOG)
            self._listening.append(sock)
            self._loop.add_reader(sock, self._accept, sock)

    def reload_tls(self) -> bool:
        """Read the certificate anew, for new connections; False if there is none. Raises ListenError, and then the
        former one stays."""
        if self._tls is None:
            return False
        self._context = self._tls.context()
        return True

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens."""
        return tuple(address_of(sock) for sock in self._listening)

    def _accept(self, listening: socket.socket, most: int = _AT_ONCE) -> None:
        for _ in range(most):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._rest(listening, error)
                return
            visit = self.census.enter(address[0] if isinstance(address, tuple) else None)
            if visit.entry is Entry.CUT:
                sock.close()
                continue
            sock.setblocking(False)
            task = self._loop.create_task(self._open(sock, visit))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, sock: socket.socket, visit: Visit) -> None:
        """Give one accepted socket a transport and a protocol."""
        secure = self._context is not None
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._shell.protocol(visit),
                sock,
                ssl=self._context,
                ssl_handshake_timeout=self._limits.head if secure else None,
                ssl_shutdown_timeout=self._limits.linger if secure else None,
            )
        except OSError:  # it left, or its handshake failed or took too long: nobody is there to be told
            visit.leave()
        except asyncio.CancelledError:
            visit.leave()
            raise

    def _rest(self, listening: socket.socket, error: OSError) -> None:
        """No descriptor is left: say so, and try again in a moment instead of at once and for ever."""
        self._loop.call_exception_handler({"message": "cannot accept connections", "exception": error})
        self._loop.remove_reader(listening)
        self._loop.call_later(_BREATH, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._listening:
            self._loop.add_reader(listening, self._accept, listening)

    def begin_drain(self) -> None:
        """Take in who is at the door already, then accept nobody, and let running answers finish."""
        for sock in self._listening:
            self._loop.remove_reader(sock)
            self._accept(sock, BACKLOG + 1)  # as many as the kernel may hold: closing would reset them
            sock.close()
        self._listening.clear()
        self._shell.begin_drain()

    async def drain(self, grace: float) -> bool:
        """Drain for `grace` seconds at most, then cut whoever is left. True if nobody had to be cut."""
        self.begin_drain()
        try:
            async with asyncio.timeout(grace):
                await self._opened()
                await self._shell.emptied()
        except TimeoutError:
            await self.abort()
        return not self._aborted

    async def abort(self) -> None:
        """Leave at once, also in the middle of a drain: cut everybody. A handler that does not return for all that is
        left behind."""
        self._aborted = True
        self.begin_drain()
        for task in self._opening:
            task.cancel()
        await self._opened()
        self._shell.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PARTING):
                await self._shell.emptied()

    def statistics(self) -> Statistics:
        """Counts, as they are now."""
        census = self.census
        return Statistics(
            census.total, census.clients, dict(census.refused), dict(self._shell.rejected), dict(self._shell.overdue)
        )

    async def _opened(self) -> None:
        if self._opening:
            await asyncio.wait(tuple(self._opening))

    def __repr__(self) -> str:
        return f"<Server on {', '.join(self.addresses) or 'nothing'}, {self.census}>"
