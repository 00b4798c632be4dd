"""The body budget: how many bytes of large request bodies are held in memory, of one client, of one block and in all.

Counts only: knows no clock, no socket and nobody who waits. The theory: a connection costs kilobytes, a large body
megabytes, so what bounds the former does not bound the latter. A body takes its room before its first byte is read and
has it until its request is over. Whoever holds nothing may always take something, so that no setting locks anybody out.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from standpipe.policy.identity import ClientKey

_CLIENTS_PER_BLOCK = 4
"""A block may hold as much as so many of its clients, as with connections."""


class Scarce(StrEnum):
    """Which budget has no room."""

    CLIENT = "client"
    BLOCK = "block"
    TOTAL = "total"


class BodyBudget:
    """What is held, against what may be."""

    def __init__(self, total: int, client: int) -> None:
        """Bytes of all bodies, and of those of one client. Both may be changed."""
        self.total = total
        self.client = client
        self.held = 0
        self._clients: Counter[str] = Counter()
        self._blocks: Counter[str] = Counter()

    def scarce(self, client: ClientKey, size: int) -> Scarce | None:
        """The budget that has no room for so many bytes; None where all have."""
        held = self._clients[client.address]
        if held and held + size > self.client:
            return Scarce.CLIENT
        held = self._blocks[client.block]
        if held and held + size > self.client * _CLIENTS_PER_BLOCK:
            return Scarce.BLOCK
        if self.held and self.held + size > self.total:
            return Scarce.TOTAL
        return None

    def most(self, budget: Scarce) -> int:
        """How many bytes a budget has in all."""
        return {
            Scarce.CLIENT: self.client,
            Scarce.BLOCK: self.client * _CLIENTS_PER_BLOCK,
            Scarce.TOTAL: self.total,
        }[budget]

    def of(self, client: ClientKey) -> int:
        """Bytes that a client holds."""
        return self._clients[client.address]

    def charge(self, client: ClientKey, size: int) -> None:
        """Hold so many bytes more, or fewer, for this client."""
        self.held += size
        for counts, name in ((self._clients, client.address), (self._blocks, client.block)):
            counts[name] += size
            if not counts[name]:
                del counts[name]

    def __repr__(self) -> str:
        return f"<BodyBudget {self.held} of {self.total} bytes>"
