"""Room: how many asks, and how many of their bytes, may wait; who waits; and what one is told who finds no room.

Counts only; who is next is the order's business. 429 says that the client's own quota, or its network's, is used up;
503 that ours is.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from standpipe.chat.errors import LineFull, PaceExceeded
from standpipe.policy.identity import ClientKey
from standpipe.policy.line.place import Place


class Bound(StrEnum):
    """Which bound was hit."""

    CLIENT = "client"
    BLOCK = "block"
    LINE = "line"
    BYTES = "bytes"


class Room(Struct, frozen=True):
    """How many asks may wait, of one client, of one block and in all. `bytes` counts the requests' bodies."""

    client: int = 8
    block: int = 64
    line: int = 2000
    bytes: int = 64 * 1024 * 1024


class TooManyWaiting(PaceExceeded):
    """429: as many asks of this client, or of its network, wait as may."""

    def __init__(self, bound: Bound, most: int, retry_after: float) -> None:
        whose = "your address" if bound is Bound.CLIENT else "your network"
        super().__init__(
            f"{most} asks from {whose} wait already, and no more may. Come back when one of them has started.",
            retry_after=retry_after,
        )
        self.bound = bound


class NoRoom(LineFull):
    """503: as much waits here as may wait."""

    def __init__(self, bound: Bound, retry_after: float) -> None:
        super().__init__("The line is full: as much waits as may wait here. Come back later.", retry_after=retry_after)
        self.bound = bound


class Present:
    """One client's address in the line: its waiting asks, how many run, and when one of them last moved."""

    __slots__ = ("moved", "running", "waiting")

    def __init__(self, now: float) -> None:
        self.waiting: list[Place] = []
        self.running = 0
        self.moved = now
        """When an ask of it was last given a slot or freed one: since then its next ask waits for others."""


class Occupancy:
    """Who is in the line, held against the room there is."""

    __slots__ = ("_blocks", "_room", "bytes", "clients", "refused", "waiting")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._blocks: dict[str, int] = {}
        self.clients: dict[str, Present] = {}
        self.waiting = 0
        self.bytes = 0
        self.refused: dict[Bound, int] = dict.fromkeys(Bound, 0)

    def exceeded(self, client: ClientKey, size: int) -> Bound | None:
        """The bound that one more ask of `size` bytes would break, counted as refused; None if there is room."""
        room = self._room
        present = self.clients.get(client.address)
        if present is not None and len(present.waiting) >= room.client:
            bound = Bound.CLIENT
        elif self._blocks.get(client.block, 0) >= room.block:
            bound = Bound.BLOCK
        elif self.waiting >= room.line:
            bound = Bound.LINE
        elif self.bytes + size > room.bytes:
            bound = Bound.BYTES
        else:
            return None
        self.refused[bound] += 1
        return bound

    def refusal(self, bound: Bound, retry_after: float) -> TooManyWaiting | NoRoom:
        """What to tell whoever found no room."""
        if bound is Bound.CLIENT:
            return TooManyWaiting(bound, self._room.client, retry_after)
        if bound is Bound.BLOCK:
            return TooManyWaiting(bound, self._room.block, retry_after)
        return NoRoom(bound, retry_after)

    def join(self, place: Place, now: float) -> None:
        """An ask waits from now on."""
        self.waiting += 1
        self.bytes += place.size
        client = place.client
        present = self.clients.get(client.address)
        if present is None:
            present = self.clients[client.address] = Present(now)
        present.waiting.append(place)
        self._blocks[client.block] = self._blocks.get(client.block, 0) + 1

    def leave(self, place: Place) -> Present:
        """An ask waits no more, because it runs or because it has gone."""
        self.waiting -= 1
        self.bytes -= place.size
        client = place.client
        present = self.clients[client.address]
        present.waiting.remove(place)
        left = self._blocks[client.block] - 1
        if left:
            self._blocks[client.block] = left
        else:
            del self._blocks[client.block]
        return present

    def forget(self, address: str) -> None:
        """Drop a client that has nothing here any more."""
        present = self.clients[address]
        if not present.waiting and not present.running:
            del self.clients[address]
