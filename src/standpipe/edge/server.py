"""The HTTP server: lets connections in within the limits, ends those that are late, and closes in good order.

Knows sockets, TLS and caps; what is said on a connection is `connection`'s business. A drain (graceful shutdown) lets
in whoever the kernel had already taken in, so that a restart with a shared or passed socket loses nobody.

The theory of the sweep: a timer per connection, moved at every request, costs more than all else that a connection
does, and memory as well. Deadlines here are seconds and may be a little late, so one timer walks over all connections
now and then and looks at those whose time has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct

from standpipe.edge.acceptor import Acceptor
from standpipe.edge.config import EdgeConfig
from standpipe.edge.connection import Connection, Shared
from standpipe.edge.limiter import ConnectionLimiter, Lease, Verdict
from standpipe.edge.listen import Tls
from standpipe.edge.seam import Handler, Refuse
from standpipe.policy.identity import Trust

_SCANNED_AT_ONCE = 256
"""Connections that the sweep scans in one turn of the loop: some 40 microseconds."""
_LATE_AT_ONCE = 4
"""Late ones that are dealt with in one turn; each costs as much as a short answer. With 32, five hundred late ones a
second doubled a polite client's 99th percentile."""
_PARTING = 1.0
"""Seconds that cancelled handlers have to return."""


class EdgeStatistics(Struct, frozen=True):
    """Connections that are open, in all and by phase, and the clients they belong to. Since the start: requests given
    to the handler, connections refused by cap, connections closed to make room for a neighbour's, requests rejected
    before the handler saw them by status, and connections cut by the name of their deadline."""

    connections: int
    phases: Mapping[str, int]
    clients: int
    requests: int
    refused: Mapping[str, int]
    displaced: int
    rejected: Mapping[int, int]
    overdue: Mapping[str, int]


class Server:
    """One handler behind any number of listening sockets."""

    def __init__(
        self, handler: Handler, refuse: Refuse, config: EdgeConfig, trust: Trust, *, proxied: bool = False
    ) -> None:
        """`trust` names the proxies that speak for many, and so count for nobody. `proxied`: each of them begins every
        connection with a PROXY protocol header."""
        self.limiter = ConnectionLimiter(config, trust)
        self._shared = Shared(handler, refuse, config, proxied=proxied)
        self._acceptor = Acceptor(self._admit)
        self._tls: Tls | None = None
        self._context: ssl.SSLContext | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._aborted = False
        self._sweeping: asyncio.TimerHandle | None = None
        self.configure(config, trust)

    def configure(self, config: EdgeConfig, trust: Trust) -> None:
        """Go by these from now on; connections that are open stay open."""
        self._config = config
        self._shared.configure(config)
        self.limiter.config, self.limiter.trust = config, trust
        shortest = min(config.first_byte_timeout, config.header_timeout, config.idle_timeout, config.write_timeout)
        # Late by a quarter of the shortest deadline at most, and never by more than a second.
        self._tick = min(4.0, shortest, config.linger) / 4

    def start(self, sockets: Sequence[socket.socket], tls: Tls | None = None) -> None:
        """Accept on these sockets from now on; they are ours to close. Raises ListenError for a bad certificate."""
        self._tls = tls
        self.reload_tls()
        self._acceptor.start(sockets)

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
        return self._acceptor.addresses

    def _admit(self, sock: socket.socket, peer: str | None) -> None:
        lease = self.limiter.lease(peer)
        if lease.verdict is Verdict.CUT:
            sock.close()
        else:
            self.take(sock, lease)

    def take(self, sock: socket.socket, lease: Lease) -> None:
        """Serve one accepted connection, which releases its lease in the end."""
        task = self._loop.create_task(self._open(sock, lease))
        lease.give_way = task.cancel
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, sock: socket.socket, lease: Lease) -> None:
        """Give one accepted socket a transport and a protocol."""
        secure = self._context is not None
        try:
            await self._loop.connect_accepted_socket(
                lambda: self.protocol(lease),
                sock,
                ssl=self._context,
                ssl_handshake_timeout=self._config.header_timeout if secure else None,
                ssl_shutdown_timeout=self._config.linger if secure else None,
            )
        except OSError:  # it left, or its handshake failed or took too long: nobody is there to be told
            lease.release()
        except asyncio.CancelledError:
            lease.release()
            raise

    def protocol(self, lease: Lease) -> Connection:
        """A protocol for one accepted connection, which releases its lease in the end."""
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._tick, self._sweep)
        return Connection(self._shared, lease)

    def begin_drain(self) -> None:
        """Take in who is at the door already, then accept nobody, and let running answers finish."""
        self._acceptor.close()
        self._shared.draining = True  # no connection gets another request once its present one is answered
        for connection in tuple(self._shared.open):
            connection.drain()

    async def drain(self, grace: float) -> bool:
        """Drain for `grace` seconds at most, then cut whoever is left. True if nobody had to be cut."""
        self.begin_drain()
        try:
            async with asyncio.timeout(grace):
                await self._opened()
                await self._shared.emptied.wait()
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
        for connection in tuple(self._shared.open):
            connection.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PARTING):
                await self._shared.emptied.wait()

    def _sweep(self) -> None:
        """Find the connections that are late. Without any connection there is no timer."""
        self._sweeping = None
        if self._shared.open or self._opening:
            self._look(list(self._shared.open))

    def _look(self, unseen: list[Connection]) -> None:
        """Look some over in each turn of the loop: those that came together are late together."""
        now = self._loop.time()
        late = 0
        for _ in range(min(_SCANNED_AT_ONCE, len(unseen))):
            connection = unseen.pop()
            if connection.deadline <= now:
                connection.look(now)
                late += 1
                if late == _LATE_AT_ONCE:
                    break
        if unseen:
            self._sweeping = self._loop.call_later(0, self._look, unseen)
        else:
            self._sweeping = self._loop.call_later(self._tick, self._sweep)

    def statistics(self) -> EdgeStatistics:
        """Counts, as they are now."""
        shared, limiter = self._shared, self.limiter
        return EdgeStatistics(
            connections=limiter.total,
            phases=dict(Counter(connection.phase.value for connection in shared.open)),
            clients=limiter.clients,
            requests=shared.requests,
            refused=dict(limiter.refused),
            displaced=limiter.displaced,
            rejected=dict(shared.rejected),
            overdue=dict(shared.overdue),
        )

    async def _opened(self) -> None:
        if self._opening:
            await asyncio.wait(tuple(self._opening))

    def __repr__(self) -> str:
        return f"<Server on {', '.join(self.addresses) or 'nothing'}, {self.limiter}>"
