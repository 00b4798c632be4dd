"""The port: the keeper accepts every connection, judges it by the limits, and passes its descriptor to a worker.

So the limits per client, per block and in all hold exactly whatever the number of workers, each gets its share of the
connections, and those that nobody has accepted yet outlive any process. Where the kernel balances instead
(SO_REUSEPORT), a worker that ends takes its backlog along, and limits would have to be shared memory.

A connection is a *visit* here, numbered by whoever accepts it. A worker keeps its visits when the keeper ends, and
tells the next keeper of them before that accepts anybody. To take a connection away for a neighbour (`limiter`) its
worker must be asked; the newcomer is held until it has answered. A proxy's header (`proxy_protocol`) is read here,
because only then is it known whom the connection counts for; what is no header is left for the worker to refuse.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from math import inf

from msgspec import Struct

from standpipe.edge import proxy_protocol
from standpipe.edge.acceptor import Acceptor
from standpipe.edge.config import EdgeConfig
from standpipe.edge.limiter import Asked, ConnectionLimiter, Lease, Verdict
from standpipe.edge.server import EdgeStatistics
from standpipe.policy.identity import Trust
from standpipe.workers.channel import Channel

PATIENCE = 0.3
"""Seconds that a new keeper waits for its workers to tell their visits before it accepts anybody."""
_KEPT = 1.0
"""Seconds in which a connection that did not give way is not asked again."""
_FRESH = 2.5
"""Seconds after which a worker that has said nothing comes last."""
_HELD = 256
"""Newcomers that may wait for somebody to give way."""
_HEADER = 1024
"""Bytes that are looked at for a proxy's header."""
_PART = 0.01
"""Seconds to wait for the rest of a header, which proxies send in one piece."""


class Visit(Struct, frozen=True, tag="v", array_like=True):
    """A connection, whose socket comes with this. `trusted`: it begins with a proxy's header."""

    number: int
    peer: str | None
    verdict: Verdict
    trusted: bool


class GiveWay(Struct, frozen=True, tag="g", array_like=True):
    """Close this one, if no whole request has come."""

    number: int


class Drain(Struct, frozen=True, tag="d", array_like=True):
    """No more visits will come: finish what has begun, and leave."""


class Open(Struct, frozen=True, tag="o", array_like=True):
    """These visits a worker has; `last`: these are all. The first word of a worker."""

    visits: list[tuple[int, str | None]]
    last: bool


class Closed(Struct, frozen=True, tag="c", array_like=True):
    """These visits are over."""

    numbers: list[int]


class Kept(Struct, frozen=True, tag="k", array_like=True):
    """It does not give way."""

    number: int


class Leaving(Struct, frozen=True, tag="l", array_like=True):
    """The worker takes no more visits; those that it has go on."""


class Counts(Struct, frozen=True, tag="n", array_like=True):
    """A worker's counts, as in `EdgeStatistics`: all but the first since its start. `pid` is whose they are."""

    phases: Mapping[str, int]
    requests: int
    rejected: Mapping[int, int]
    overdue: Mapping[str, int]
    pid: int = 0


FromKeeper = Visit | GiveWay | Drain
FromWorker = Open | Closed | Kept | Leaving | Counts


class Counted(Struct, frozen=True, array_like=True):
    """What was counted since the first keeper's start: `gone` by workers that have ended, `here` by those that are
    there, and the rest by the port."""

    gone: Counts
    refused: Mapping[str, int]
    displaced: int
    here: list[Counts] = []


_NOTHING = Counts({}, 0, {}, {})


class _Worker:
    """One worker, as the port sees it."""

    def __init__(self, port: Port, sock: socket.socket) -> None:
        self._port = port
        self.visits: dict[int, Lease] = {}
        self.told = False
        """It has told what visits it has."""
        self.leaving = False
        self.counts = _NOTHING
        self.heard = port.now()
        """When it last said anything. It tells its counts every second."""
        self.given = 0
        """When it was given one last: the port's count of visits."""
        self.asked: dict[int, float] = {}
        """Visits that were asked to give way, and until when they are not asked again."""
        self.channel: Channel[FromWorker, FromKeeper] = Channel(sock, FromWorker, self._hear, self._gone)

    def _hear(self, message: FromWorker, _: socket.socket | None) -> None:
        port = self._port
        self.heard = port.now()
        match message:
            case Open(visits, last):
                for number, peer in visits:
                    self._adopt(number, port.limiter.adopt(peer))
                self.told = last
                port.begin()
            case Closed(numbers):
                for number in numbers:
                    port.limiter.displaced += self.asked.pop(number, None) is not None
                    if (lease := self.visits.pop(number, None)) is not None:
                        lease.release()
                port.judge_again()
            case Kept(number):
                self.asked[number] = port.now() + _KEPT
                port.judge_again()
            case Leaving():
                self.leaving = True
            case Counts():
                self.counts = message
                port.here_again(message.pid)

    def _adopt(self, number: int, lease: Lease) -> None:
        self.visits[number] = lease

        def give_way() -> bool | None:
            until = self.asked.get(number, 0.0)
            if until > self._port.now():
                return None if until == inf else False
            self.asked[number] = inf
            self.channel.send(GiveWay(number))
            return None

        lease.give_way = give_way

    def take(self, sock: socket.socket, lease: Lease, *, trusted: bool) -> bool:
        """Pass it a connection. False if it takes none now."""
        number = self._port.count()
        if not self.channel.give(Visit(number, lease.peer, lease.verdict, trusted), sock):
            return False
        self.given = number
        self._adopt(number, lease)
        return True

    def _gone(self) -> None:
        for lease in self.visits.values():
            lease.release()
        self.visits.clear()
        self._port.lost(self)


class Port:
    """All listening sockets, and the workers behind them."""

    def __init__(self, config: EdgeConfig, trust: Trust, *, proxied: bool = False) -> None:
        """`proxied`: trusted proxies begin every connection with a PROXY protocol header."""
        self.limiter = ConnectionLimiter(config, trust)
        self._proxied = proxied
        self._loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self._loop.time
        self._acceptor = Acceptor(self._admit)
        self._workers: list[_Worker] = []
        self._gone = _NOTHING
        """Counts of workers that have gone."""
        self._former: dict[int, Counts] = {}
        """Counts of a former keeper's workers that have not come to this one yet, and perhaps never will."""
        self.emptied = asyncio.Event()
        """No worker is here."""
        self.emptied.set()
        self._wanted = 0
        self._begun = False
        self._number = secrets.randbits(40) << 20  # no number of a former keeper's comes again
        self._held: deque[tuple[socket.socket, str | None]] = deque()
        """Newcomers for whom somebody is asked to give way."""
        self._stranded: deque[tuple[socket.socket, Lease, bool]] = deque()
        """Connections that no worker takes now."""
        self._reading: set[asyncio.Task[None]] = set()
        self._draining = False

    def start(self, sockets: Sequence[socket.socket], workers: int) -> None:
        """Accept on these, which are ours to close, as soon as so many workers have told their visits, or soon."""
        self._wanted = workers
        self._acceptor.hold()
        self._acceptor.start(sockets)
        self._loop.call_later(PATIENCE, self.begin, True)

    def begin(self, anyway: bool = False) -> None:
        """Let people in if the workers are there; with `anyway`, if any is."""
        told = sum(worker.told and not worker.leaving for worker in self._workers)
        self._begun = self._begun or told >= self._wanted or anyway
        if self._begun and told and not self._draining:
            self._settle()
            self._acceptor.go_on()

    def attach(self, sock: socket.socket) -> None:
        """A worker has come."""
        self.emptied.clear()
        self._workers.append(_Worker(self, sock))

    def configure(self, config: EdgeConfig, trust: Trust) -> None:
        """As `Server.configure`."""
        self.limiter.config, self.limiter.trust = config, trust

    def reload_tls(self) -> bool:
        """The workers do TLS."""
        return False

    def count(self) -> int:
        """The next visit's number."""
        self._number += 1
        return self._number

    def _admit(self, sock: socket.socket, peer: str | None) -> None:
        try:
            lease = self.limiter.lease(peer)
        except Asked:
            if len(self._held) < _HELD:
                self._held.append((sock, peer))
            else:
                sock.close()
            return
        if lease.verdict is Verdict.CUT:
            sock.close()
        elif self._proxied and lease.trusted:
            task = self._loop.create_task(self._read_header(sock, lease))
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
        else:
            self._pass(sock, lease, trusted=lease.trusted)

    async def _read_header(self, sock: socket.socket, lease: Lease) -> None:
        """Find out for whom a proxy speaks. What is no header, or does not come, is the worker's to judge."""
        trusted = True
        try:
            async with asyncio.timeout(self.limiter.config.first_byte_timeout):
                vouched = await self._header(sock)
            sock.recv(vouched.size)
            trusted = False
            while vouched.address is not None:
                try:
                    lease.vouched(vouched.address)
                    break
                except Asked:
                    await asyncio.sleep(_PART)
        except (TimeoutError, proxy_protocol.Malformed):
            pass
        except (OSError, EOFError):
            sock.close()
            lease.release()
            return
        if lease.verdict is Verdict.CUT:
            sock.close()
            lease.release()
        else:
            self._pass(sock, lease, trusted=trusted)

    async def _header(self, sock: socket.socket) -> proxy_protocol.Vouched:
        """Raises OSError, EOFError or Malformed."""
        while True:
            readable = asyncio.Event()
            self._loop.add_reader(sock, readable.set)
            try:
                await readable.wait()
            finally:
                self._loop.remove_reader(sock)
            data = sock.recv(_HEADER, socket.MSG_PEEK)
            if not data:
                raise EOFError
            if (vouched := proxy_protocol.parse(data)) is not None:
                return vouched
            await asyncio.sleep(_PART)

    def _pass(self, sock: socket.socket, lease: Lease, *, trusted: bool) -> None:
        """To the worker with the fewest visits, and of those to the one that was given none for longest."""
        here = [worker for worker in self._workers if worker.told and not worker.leaving]
        able = [worker for worker in here if not worker.channel.slow]
        fresh = self.now() - _FRESH  # whoever hangs has the fewest visits, because nobody is served there
        for worker in sorted(able, key=lambda one: (one.heard < fresh, len(one.visits), one.given)):
            if worker.take(sock, lease, trusted=trusted):
                return
        self._stranded.append((sock, lease, trusted))
        self._acceptor.hold()
        if here:
            self._loop.call_later(_PART, self.begin)

    def _settle(self) -> None:
        """Try those again that no worker took."""
        stranded, self._stranded = self._stranded, deque()
        for sock, lease, trusted in stranded:
            self._pass(sock, lease, trusted=trusted)

    def judge_again(self) -> None:
        """Somebody gave way, or does not."""
        held, self._held = self._held, deque()
        for sock, peer in held:
            self._admit(sock, peer)

    def here_again(self, pid: int) -> None:
        """A worker has come, and tells what it has counted since its start."""
        self._former.pop(pid, None)

    def lost(self, worker: _Worker) -> None:
        """A worker has gone, and its connections with it. What it has counted stays."""
        self._workers.remove(worker)
        self._gone = _sum(self._gone, worker.counts)
        if not self._workers:
            self.emptied.set()
        if not any(one.told and not one.leaving for one in self._workers):
            self._acceptor.hold()
        self.judge_again()

    def drain(self) -> None:
        """Pass on who is at the door already, accept nobody from now on, and let the workers finish."""
        self._draining = True
        self._acceptor.close()
        for worker in self._workers:
            worker.channel.send(Drain())

    def close(self) -> None:
        """Let go of everything; the workers' connections stay with them."""
        self._draining = True
        self._acceptor.let_go()
        for task in self._reading:
            task.cancel()
        for sock, _ in self._held:
            sock.close()
        for sock, _, _ in self._stranded:
            sock.close()
        for worker in self._workers:
            worker.channel.close()

    @property
    def counted(self) -> Counted:
        """What no worker knows. May be set, to go on from where a former keeper ended."""
        here = [*self._former.values(), *(worker.counts for worker in self._workers)]
        return Counted(self._gone, dict(self.limiter.refused), self.limiter.displaced, here)

    @counted.setter
    def counted(self, former: Counted) -> None:
        self._gone = former.gone
        self._former = {counts.pid: counts for counts in former.here}
        self.limiter.refused.update(former.refused)
        self.limiter.displaced += former.displaced

    def statistics(self) -> EdgeStatistics:
        """As `Server.statistics`, of all workers together."""
        limiter, sums = self.limiter, self._gone
        phases: Counter[str] = Counter()
        for counts in self._former.values():
            sums = _sum(sums, counts)
        for worker in self._workers:
            sums = _sum(sums, worker.counts)
            phases.update(worker.counts.phases)
        return EdgeStatistics(
            connections=limiter.total,
            phases=dict(phases),
            clients=limiter.clients,
            requests=sums.requests,
            refused=dict(limiter.refused),
            displaced=limiter.displaced,
            rejected=sums.rejected,
            overdue=sums.overdue,
        )

    @property
    def workers(self) -> tuple[int, ...]:
        """How many visits each worker has."""
        return tuple(len(worker.visits) for worker in self._workers)

    def __repr__(self) -> str:
        return f"<Port {self.workers}, {self.limiter}>"


def _sum(one: Counts, other: Counts) -> Counts:
    """What both have counted since their start."""
    return Counts(
        {},
        one.requests + other.requests,
        dict(Counter(one.rejected) + Counter(other.rejected)),
        dict(Counter(one.overdue) + Counter(other.overdue)),
    )
