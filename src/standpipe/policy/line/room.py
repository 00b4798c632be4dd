"""Room: how many asks, and how many of their bytes, may wait; and what one is told who finds none left.

Counts only. 429 says that the client's own quota, or its network's, is used up; 503 that ours is.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from standpipe.chat.errors import LineFull, PaceExceeded


class Bound(StrEnum):
    """Which bound was hit."""

    CLIENT = "client"
    BLOCK = "block"
    LINE = "line"
    BYTES = "bytes"


class Room(Struct, frozen=True):
    """How much may wait. `bytes` counts the requests' bodies."""

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
