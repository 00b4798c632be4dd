"""What a store is: where numbers live that asks of one client share.

Every operation is one atomic decision of `policy`, so that a store shared by several Standpipes can make it in one
step. Times are integer microseconds. A store must be able to lose everything without anything becoming unsafe.
"""

from __future__ import annotations

from typing import Protocol

from standpipe.policy.identity import ClientKey
from standpipe.policy.pace import Peek, Rate, Verdict


class Store(Protocol):
    """Shared numbers."""

    async def reserve(self, client: ClientKey, now: int, rate: Rate) -> Verdict:
        """Take the client's next free instant."""
        ...

    async def cancel(self, client: ClientKey, until: int, rate: Rate) -> None:
        """Give an instant back that was reserved and not used, if nobody reserved after it."""
        ...

    async def peek(self, client: ClientKey, now: int, rate: Rate) -> Peek:
        """Look without reserving."""
        ...
