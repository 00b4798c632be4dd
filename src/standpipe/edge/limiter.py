"""Connection limits: how many connections there may be in all, of one client and of one block of addresses.

Counts only; owns no socket. The theory: a cap that is reached should be explained (503 for our own capacity, 429 for
the client's), but explaining costs a connection, too. So a quarter above each cap is set aside for explaining, and
whatever comes beyond that is cut without a word. A trusted proxy speaks for many clients, and counts for none until it
says for whom.

Neighbours share their block's connections, so one must not use them up by holding them: when a block is full, a
newcomer takes the place of a connection whose request has not come whole, of the client in the block that has most, as
long as that one has more than the newcomer (max-min fairness). Nobody is cut whose whole request has come and was not
answered. Whoever has had its last answer keeps no newcomer out, and goes when even the quarter above the cap is full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from itertools import islice

from standpipe.edge.config import EdgeConfig
from standpipe.policy.address import parse
from standpipe.policy.identity import UNIX, UNKNOWN, ClientKey, Trust, client_key


class Verdict(StrEnum):
    """What becomes of a new connection."""

    ADMIT = "admit"
    FULL = "full"
    """To be refused: the server has no room."""
    CROWDED = "crowded"
    """To be refused: this client, or its block, has too many connections."""
    CUT = "cut"
    """Not even refused in words."""


_LOOKED_AT = 8
"""Most connections that are closed at once to make room."""


def _with_refused(cap: int) -> int:
    """How many connections there may be, with those that are only told that there are too many."""
    return cap + max(1, cap // 4)


class Asked(Exception):
    """Another connection has been asked to give way: judge the newcomer again when it has answered."""


class Lease:
    """One connection's share of the limits. `release` it in the end; more often does no harm."""

    __slots__ = ("_limiter", "_open", "charged", "give_way", "key", "peer", "trusted", "verdict")

    def __init__(self, limiter: ConnectionLimiter, peer: str | None) -> None:
        self._limiter = limiter
        self._open = True
        self.peer = peer
        """The other end's address, or the one that a trusted proxy vouches for; None on a UNIX socket."""
        self.key, self.trusted = limiter.identify(peer)
        self.verdict = Verdict.ADMIT
        self.charged = False
        """Whether it counts for its client and block."""
        self.give_way: Callable[[], bool | None] | None = None
        """Closes the connection at once if no whole request has come, and tells whether it did; None where that will
        be known in a moment."""

    def vouched(self, peer: str) -> None:
        """A trusted proxy names its client: charge that one. A refusal that stands already stays. Raises Asked."""
        self.peer = peer
        self.key, _ = self._limiter.identify(peer)
        if self.verdict is Verdict.ADMIT:
            self.verdict = self._limiter.charge(self)

    def part(self) -> None:
        """It has had its last answer, and is open only so that this can be read."""
        if self._open:
            self._limiter.parting[self] = None

    def release(self) -> None:
        """Make room."""
        if self._open:
            self._open = False
            self.give_way = None
            self._limiter.released(self)

    def __repr__(self) -> str:
        return f"<Lease {self.verdict}>"  # no address: this may get into a log


class ConnectionLimiter:
    """All connections of one server."""

    def __init__(self, config: EdgeConfig, trust: Trust) -> None:
        self.config = config
        self.trust = trust
        self.total = 0
        """Connections that are open."""
        self.parting: dict[Lease, None] = {}
        """Those that have had their last answer, the oldest first."""
        self._clients: Counter[str] = Counter()
        self._blocks: dict[str, dict[Lease, None]] = {}
        """The connections of each block, the oldest first."""
        self.refused: Counter[str] = Counter()
        """Connections refused since the start, by the cap's name."""
        self.displaced = 0
        """Connections closed since the start to make room for a neighbour."""

    def lease(self, peer: str | None) -> Lease:
        """Judge a new connection. One that is CUT is released already. Raises Asked, and holds nothing then."""
        lease = Lease(self, peer)
        self.total += 1
        cap = self.config.connections
        fits = self.total - len(self.parting) <= cap and self._let_part(_with_refused(cap))
        lease.verdict = self._judge("connections", cap if fits else self.total, cap, Verdict.FULL)
        if lease.verdict is Verdict.ADMIT and not lease.trusted and peer is not None:
            try:
                lease.verdict = self.charge(lease)
            except Asked:
                lease.release()
                raise
        if lease.verdict is Verdict.CUT:
            lease.release()
        return lease

    def _let_part(self, most: int) -> bool:
        """Close who has had its last answer until so many are left; whether they are."""
        for lease in list(islice(self.parting, _LOOKED_AT)) if self.total > most else ():
            if self.total > most and lease.give_way is not None and lease.give_way():
                self.displaced += 1
                lease.release()
        return self.total <= most

    def adopt(self, peer: str | None) -> Lease:
        """A connection that was judged elsewhere: it counts, whatever the limits say."""
        lease = Lease(self, peer)
        self.total += 1
        if not lease.trusted and peer is not None:
            self._count(lease)
        return lease

    def charge(self, lease: Lease) -> Verdict:
        """Count a connection for its client and block. Raises Asked, and has not counted it then."""
        config, key = self.config, lease.key
        block = self._count(lease)
        cap = config.connections_per_client
        verdict = self._judge("connections_per_client", self._clients[key.address], cap, Verdict.CROWDED)
        if verdict is Verdict.ADMIT:
            cap = config.connections_per_block
            try:
                while len(block) > cap and self._make_room(lease, block):
                    pass
            except Asked:
                self._uncount(lease)
                raise
            verdict = self._judge("connections_per_block", len(block), cap, Verdict.CROWDED)
        return verdict

    def _count(self, lease: Lease) -> dict[Lease, None]:
        lease.charged = True
        self._clients[lease.key.address] += 1
        block = self._blocks.setdefault(lease.key.block, {})
        block[lease] = None
        return block

    def _uncount(self, lease: Lease) -> None:
        lease.charged = False
        address, block = lease.key.address, self._blocks[lease.key.block]
        self._clients[address] -= 1
        if not self._clients[address]:
            del self._clients[address]
        del block[lease]
        if not block:
            del self._blocks[lease.key.block]

    def _make_room(self, newcomer: Lease, block: dict[Lease, None]) -> bool:
        """Close a connection without a whole request, of whoever has most of this block and more than the newcomer."""
        heaviest_first = sorted(block, key=lambda lease: -self._clients[lease.key.address])  # stable: then the oldest
        for lease in heaviest_first:
            if self._clients[lease.key.address] <= self._clients[newcomer.key.address]:
                break
            if lease.give_way is None:
                continue
            gives = lease.give_way()
            if gives is None:
                raise Asked
            if gives:
                self.displaced += 1
                lease.release()
                return True
        return False

    def released(self, lease: Lease) -> None:
        """Undo `lease` and `charge`."""
        self.total -= 1
        self.parting.pop(lease, None)
        if lease.charged:
            self._uncount(lease)

    def identify(self, peer: str | None) -> tuple[ClientKey, bool]:
        """A peer's key, and whether it is a proxy that speaks for others."""
        if peer is None:
            return UNIX, self.trust.unix
        address = parse(peer)
        return (UNKNOWN, False) if address is None else (client_key(address), self.trust.includes(address))

    def _judge(self, name: str, count: int, cap: int, refusal: Verdict) -> Verdict:
        if count <= cap:
            return Verdict.ADMIT
        self.refused[name] += 1
        return refusal if count <= _with_refused(cap) else Verdict.CUT

    @property
    def clients(self) -> int:
        """How many clients have a connection."""
        return len(self._clients)

    def __repr__(self) -> str:
        return f"<ConnectionLimiter {self.total} connections of {len(self._clients)} clients>"
