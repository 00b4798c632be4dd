"""Connection limits: how many connections there may be in all, of one client and of one block of addresses.

Counts only; owns no socket. The theory: a cap that is reached should be explained (503 for our own capacity, 429 for
the client's), but explaining costs a connection, too. So a quarter above each cap is set aside for explaining, and
whatever comes beyond that is cut without a word. A trusted proxy speaks for many clients, and counts for none until it
says for whom.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

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


class Lease:
    """One connection's share of the limits. `release` it in the end; more often does no harm."""

    __slots__ = ("_limiter", "_open", "charged", "key", "peer", "trusted", "verdict")

    def __init__(self, limiter: ConnectionLimiter, peer: str | None) -> None:
        self._limiter = limiter
        self._open = True
        self.peer = peer
        """The other end's address, or the one that a trusted proxy vouches for; None on a UNIX socket."""
        self.key, self.trusted = limiter.identify(peer)
        self.verdict = Verdict.ADMIT
        self.charged = False
        """Whether it counts for its client and block."""

    def vouched(self, peer: str) -> None:
        """A trusted proxy names its client: charge that one. A refusal that stands already stays."""
        self.peer = peer
        self.key, _ = self._limiter.identify(peer)
        if self.verdict is Verdict.ADMIT:
            self.verdict = self._limiter.charge(self)

    def release(self) -> None:
        """Make room."""
        if self._open:
            self._open = False
            self._limiter.released(self)

    def __repr__(self) -> str:
        return f"<Lease {self.verdict}>"  # no address: this may get into a log


class ConnectionLimiter:
    """All connections of one server."""

    def __init__(self, config: EdgeConfig, trust: Trust) -> None:
        self._config = config
        self._trust = trust
        self.total = 0
        """Connections that are open."""
        self._clients: Counter[str] = Counter()
        self._blocks: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """Connections refused since the start, by the cap's name."""

    def lease(self, peer: str | None) -> Lease:
        """Judge a new connection. One that is CUT is released already."""
        lease = Lease(self, peer)
        self.total += 1
        lease.verdict = self._judge("connections", self.total, self._config.connections, Verdict.FULL)
        if lease.verdict is Verdict.ADMIT and not lease.trusted and peer is not None:
            lease.verdict = self.charge(lease)
        if lease.verdict is Verdict.CUT:
            lease.release()
        return lease

    def charge(self, lease: Lease) -> Verdict:
        """Count a connection for its client and block."""
        lease.charged = True
        config, key = self._config, lease.key
        self._clients[key.address] += 1
        self._blocks[key.block] += 1
        cap = config.connections_per_client
        verdict = self._judge("connections_per_client", self._clients[key.address], cap, Verdict.CROWDED)
        if verdict is Verdict.ADMIT:
            cap = config.connections_per_block
            verdict = self._judge("connections_per_block", self._blocks[key.block], cap, Verdict.CROWDED)
        return verdict

    def released(self, lease: Lease) -> None:
        """Undo `lease` and `charge`."""
        self.total -= 1
        if not lease.charged:
            return
        for counts, name in ((self._clients, lease.key.address), (self._blocks, lease.key.block)):
            counts[name] -= 1
            if not counts[name]:
                del counts[name]

    def identify(self, peer: str | None) -> tuple[ClientKey, bool]:
        """A peer's key, and whether it is a proxy that speaks for others."""
        if peer is None:
            return UNIX, self._trust.unix
        address = parse(peer)
        return (UNKNOWN, False) if address is None else (client_key(address), self._trust.includes(address))

    def _judge(self, name: str, count: int, cap: int, refusal: Verdict) -> Verdict:
        if count <= cap:
            return Verdict.ADMIT
        self.refused[name] += 1
        return refusal if count <= cap + max(1, cap // 4) else Verdict.CUT

    @property
    def clients(self) -> int:
        """How many clients have a connection."""
        return len(self._clients)

    def __repr__(self) -> str:
        return f"<ConnectionLimiter {self.total} connections of {len(self._clients)} clients>"
