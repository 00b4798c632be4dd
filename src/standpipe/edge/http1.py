"""The seam on our own protocol: the default shell. What all its connections share, and the sweep.

The theory of the sweep: a timer per connection, moved at every request, costs more than all else that a connection
does, and memory as well. Deadlines here are seconds and may be a little late, so one timer walks over all connections
now and then and looks at those whose time has come.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from msgspec import Struct

from standpipe.edge.limiter import Visit
from standpipe.edge.config import Limits
from standpipe.edge.connection import Connection, allowances
from standpipe.edge.reply import Calendar
from standpipe.edge.seam import Handler, Refuse

_SCANNED = 256
"""Connections that are looked over in one turn of the loop: some 40 microseconds."""
_AT_ONCE = 4
"""Late ones that are dealt with in one turn; each costs as much as a short answer. With 32, five hundred late ones a
second doubled a polite client's 99th percentile."""


class Statistics(Struct, frozen=True):
    """`phases` counts open connections by phase. The rest counts since the start: requests given to a handler,
    refusals by status, and connections cut by the name of their deadline."""

    connections: int
    phases: dict[str, int]
    asks: int
    rejected: dict[int, int]
    overdue: dict[str, int]


class Http1Shell:
    """One handler behind any number of connections."""

    def __init__(self, handler: Handler, refuse: Refuse, limits: Limits, *, proxied: bool = False) -> None:
        """`proxied`: every trusted peer begins with a PROXY protocol header."""
        self.handler = handler
        self.refuse = refuse
        self.limits = limits
        self.allowances = allowances(limits)
        self.proxied = proxied
        self.calendar = Calendar()
        self.draining = False
        self.asks = 0
        self.rejected: Counter[int] = Counter()
        self.overdue: Counter[str] = Counter()
        self._connections: set[Connection] = set()
        # Late by a quarter of the shortest deadline at most, and never by more than a second.
        self._tick = min(4.0, limits.first_byte, limits.head, limits.idle, limits.write_stall, limits.linger) / 4
        self._sweeping: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def protocol(self, visit: Visit) -> Connection:
        """A protocol for one accepted connection, which makes its visit leave in the end."""
        return Connection(self, visit)

    def begin_drain(self) -> None:
        """No connection gets another request once its present one is answered; idle ones close now."""
        self.draining = True
        for connection in tuple(self._connections):
            connection.drain()

    def abort(self) -> None:
        """Cut every connection, which cancels every handler."""
        self.draining = True
        for connection in tuple(self._connections):
            connection.abort()

    async def emptied(self) -> None:
        """Until no connection is open and no handler runs."""
        await self._empty.wait()

    def enter(self, connection: Connection) -> None:
        """A connection has opened."""
        self._connections.add(connection)
        self._empty.clear()
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self._tick, self._sweep)

    def leave(self, connection: Connection) -> None:
        """A connection has closed, and its handler has returned."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def _sweep(self) -> None:
        """Find who is late."""
        self._sweeping = None
        if self._connections:
            self._look(list(self._connections))

    def _look(self, unseen: list[Connection]) -> None:
        """Look some over in each turn of the loop: those who came together are late together."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        late = 0
        for _ in range(min(_SCANNED, len(unseen))):
            connection = unseen.pop()
            if connection.deadline <= now:
                connection.look(now)
                late += 1
                if late == _AT_ONCE:
                    break
        if unseen:
            self._sweeping = loop.call_later(0, self._look, unseen)
        else:
            self._sweeping = loop.call_later(self._tick, self._sweep)

    def statistics(self) -> Statistics:
        """Counts, as they are now."""
        return Statistics(
            connections=len(self._connections),
            phases=dict(Counter(connection.phase.value for connection in self._connections)),
            asks=self.asks,
            rejected=dict(self.rejected),
            overdue=dict(self.overdue),
        )

    def __repr__(self) -> str:
        return f"<Http1Shell {len(self._connections)} connections{', draining' if self.draining else ''}>"
