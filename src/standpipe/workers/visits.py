"""Visits: in a worker, the connections that the keeper passes to it.

They are this process's alone: when the keeper ends, they go on, and the next keeper is told of them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

from standpipe.edge.limiter import Lease
from standpipe.edge.server import EdgeStatistics
from standpipe.workers.channel import Channel
from standpipe.workers.port import Closed, Counts, Drain, FromKeeper, FromWorker, GiveWay, Kept, Leaving, Open, Visit

_AGAIN = 0.05
"""Seconds between two tries to reach a keeper."""
_COUNTED = 1.0
"""Seconds between two messages about counts."""
_TOLD_AT_ONCE = 400
"""Visits in one message to a new keeper: each takes 60 bytes at most."""


class PassedLease(Lease):
    """A connection's lease, whose limits are counted in the keeper."""

    __slots__ = ("_over",)

    def __init__(self, visit: Visit, over: Callable[[], None]) -> None:
        self._over = over
        self._open = True
        self.peer = visit.peer
        self.trusted = visit.trusted
        self.verdict = visit.verdict
        self.charged = False
        self.give_way = None

    def vouched(self, peer: str) -> None:
        self.peer = peer

    def part(self) -> None:
        """The keeper is not told: it would come late for a moment's parting."""

    def release(self) -> None:
        if self._open:
            self._open = False
            self.give_way = None
            self._over()


class Visits:
    """All connections of one worker. `take` is given each, with its lease; `on_drain` is called when no more come."""

    def __init__(
        self,
        take: Callable[[socket.socket, Lease], None],
        on_drain: Callable[[], None],
        count: Callable[[], EdgeStatistics] | None = None,
        pid: int = 0,
    ) -> None:
        """`count` gives the server's counts, of which the keeper is told every second; `pid` is whose they are."""
        self._take = take
        self._on_drain = on_drain
        self._count = count
        self._pid = pid
        self._counting: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._channel: Channel[FromKeeper, FromWorker] | None = None
        self._open: dict[int, PassedLease] = {}
        self._over: list[int] = []
        """Visits that are over, of which the keeper is told once a turn."""
        self.leaving = False

    def reach(self, path: Path) -> None:
        """Connect to the keeper that listens there, and to the next one whenever it has gone."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        try:
            sock.connect(str(path))
        except OSError:  # its backlog is full
            sock.close()
            self._loop.call_later(_AGAIN, self.reach, path)
        else:
            self.attach(sock, lambda: self.reach(path))

    def attach(self, sock: socket.socket, on_end: Callable[[], None]) -> None:
        """The way to the keeper, from now on; `on_end` is called when it has gone."""
        if self._channel is not None:
            self._channel.close()
        channel = self._channel = Channel(sock, FromKeeper, self._hear, on_end)
        self._over.clear()
        told = [(number, lease.peer) for number, lease in self._open.items()]
        for first in range(0, max(1, len(told)), _TOLD_AT_ONCE):
            part = told[first : first + _TOLD_AT_ONCE]
            channel.send(Open(part, last=first + _TOLD_AT_ONCE >= len(told)))
        if self.leaving:
            channel.send(Leaving())
        self._tell_counts()

    def _tell_counts(self) -> None:
        if self._counting is not None:
            self._counting.cancel()
        if self._count is not None and self._channel is not None:
            counts = self._count()
            self._channel.send(Counts(counts.phases, counts.requests, counts.rejected, counts.overdue, self._pid))
            self._counting = self._loop.call_later(_COUNTED, self._tell_counts)

    def leave(self) -> None:
        """Take no more visits. Those that are open go on."""
        self.leaving = True
        if self._channel is not None:
            self._channel.send(Leaving())

    def _hear(self, message: FromKeeper, sock: socket.socket | None) -> None:
        match message:
            case Visit(number) if sock is not None:
                sock.setblocking(False)
                lease = self._open[number] = PassedLease(message, lambda: self._end(number))
                self._take(sock, lease)
            case Visit(number):  # the system had no descriptor left for it
                self._end(number)
            case GiveWay(number):
                lease_asked = self._open.get(number)
                if lease_asked is None:
                    return  # it is over, and the keeper about to hear of it
                if lease_asked.give_way is not None and lease_asked.give_way():
                    lease_asked.release()
                elif self._channel is not None:
                    self._channel.send(Kept(number))
            case Drain():
                self._on_drain()

    def _end(self, number: int) -> None:
        self._open.pop(number, None)
        if not self._over:
            self._loop.call_soon(self._tell)
        self._over.append(number)

    def _tell(self) -> None:
        over, self._over = self._over, []
        if over and self._channel is not None:
            self._channel.send(Closed(over))

    def close(self) -> None:
        """Let go of the way to the keeper."""
        self._tell_counts()
        if self._counting is not None:
            self._counting.cancel()
        if self._channel is not None:
            self._channel.close()

    def __len__(self) -> int:
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Visits {len(self._open)}>"
