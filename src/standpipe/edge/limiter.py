"""Census: who has how many connections open, and whether one more may come in.

Counts only; owns no socket. The theory: a cap that is reached should be told (503 for our own capacity, 429 for the
client's), but telling costs a connection, too. So a quarter above each cap is set aside for telling, and whoever
comes beyond that is cut without a word. A trusted proxy speaks for many, and counts for nobody until it says for whom.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from standpipe.edge.config import Limits
from standpipe.policy.address import parse
from standpipe.policy.identity import UNIX, UNKNOWN, ClientKey, Trust, client_key


class Entry(StrEnum):
    """What becomes of somebody who knocks."""

    WELCOME = "welcome"
    FULL = "full"
    """To be told that we have no room."""
    CROWDED = "crowded"
    """To be told that this client, or its block, has too many connections."""
    CUT = "cut"
    """Not even that."""


class Visit:
    """One connection's place in the census. `leave` it in the end; more often does no harm."""

    __slots__ = ("_census", "_inside", "counted", "entry", "key", "peer", "trusted")

    def __init__(self, census: Census, peer: str | None) -> None:
        self._census = census
        self._inside = True
        self.peer = peer
        """The other end's address, or the one that a trusted proxy vouches for; None on a UNIX socket."""
        self.key, self.trusted = census.identify(peer)
        self.entry = Entry.WELCOME
        self.counted = False
        """Whether its client and block are charged with it."""

    def vouched(self, peer: str) -> None:
        """A trusted proxy names its client: count it, and judge anew."""
        self.peer = peer
        self.key, _ = self._census.identify(peer)
        self.entry = self._census.judge(self)

    def leave(self) -> None:
        """Make room."""
        if self._inside:
            self._inside = False
            self._census.forget(self)

    def __repr__(self) -> str:
        return f"<Visit {self.entry}>"  # no address: this may get into a log


class Census:
    """All connections of one server."""

    def __init__(self, limits: Limits, trust: Trust) -> None:
        self._limits = limits
        self._trust = trust
        self.total = 0
        """Connections that are open."""
        self._clients: Counter[str] = Counter()
        self._blocks: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """Connections refused since the start, by the cap's name."""

    def enter(self, peer: str | None) -> Visit:
        """Somebody knocks. What is CUT has left again."""
        visit = Visit(self, peer)
        self.total += 1
        visit.entry = self._room(self.total, self._limits.connections, Entry.FULL)
        if visit.entry is not Entry.WELCOME:
            self.refused["connections"] += 1
        elif not visit.trusted and peer is not None:
            visit.entry = self.judge(visit)
        if visit.entry is Entry.CUT:
            visit.leave()
        return visit

    def judge(self, visit: Visit) -> Entry:
        """Charge a visit to its client and block."""
        visit.counted = True
        limits, key = self._limits, visit.key
        self._clients[key.address] += 1
        self._blocks[key.block] += 1
        entry = self._room(self._clients[key.address], limits.connections_per_client, Entry.CROWDED)
        if entry is not Entry.WELCOME:
            self.refused["connections_per_client"] += 1
            return entry
        entry = self._room(self._blocks[key.block], limits.connections_per_block, Entry.CROWDED)
        if entry is not Entry.WELCOME:
            self.refused["connections_per_block"] += 1
        return entry

    def forget(self, visit: Visit) -> None:
        """Undo `enter`."""
        self.total -= 1
        if not visit.counted:
            return
        for counts, name in ((self._clients, visit.key.address), (self._blocks, visit.key.block)):
            counts[name] -= 1
            if not counts[name]:
                del counts[name]

    def identify(self, peer: str | None) -> tuple[ClientKey, bool]:
        """A peer's key, and whether it is a proxy that speaks for others."""
        if peer is None:
            return UNIX, self._trust.unix
        address = parse(peer)
        return (UNKNOWN, False) if address is None else (client_key(address), self._trust.includes(address))

    @staticmethod
    def _room(count: int, cap: int, refusal: Entry) -> Entry:
        if count <= cap:
            return Entry.WELCOME
        return refusal if count <= cap + max(1, cap // 4) else Entry.CUT

    @property
    def clients(self) -> int:
        """How many have a connection."""
        return len(self._clients)

    def __repr__(self) -> str:
        return f"<Census {self.total} connections of {len(self._clients)} clients>"
