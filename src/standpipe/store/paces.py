"""The store of a single Standpipe: a dict. Clients whose instant has passed are forgotten, so that it stays small."""

from __future__ import annotations

from msgspec import Struct

from standpipe.policy import pace
from standpipe.policy.identity import ClientKey
from standpipe.policy.pace import Peek, Rate, Refuse, Verdict

_SWEEP_AT_LEAST = 1024
"""Entries. Below this there is nothing to win by forgetting."""


class Statistics(Struct, frozen=True):
    """How many clients are remembered."""

    clients: int


class MemoryStore:
    """Implements `store.base.Store`."""

    def __init__(self) -> None:
        self._tats: dict[str, int] = {}
        self._sweep_at = _SWEEP_AT_LEAST

    async def reserve(self, client: ClientKey, now: int, rate: Rate) -> Verdict:
        verdict = pace.reserve(self._tats.get(client.address, 0), now, rate)
        if not isinstance(verdict, Refuse):
            self._tats[client.address] = verdict.tat
            if len(self._tats) >= self._sweep_at:
                self._sweep(now)
        return verdict

    async def cancel(self, client: ClientKey, until: int, rate: Rate) -> None:
        tat = self._tats.get(client.address)
        if tat is not None:
            self._tats[client.address] = pace.cancel(tat, until, rate)

    async def peek(self, client: ClientKey, now: int, rate: Rate) -> Peek:
        return pace.peek(self._tats.get(client.address, 0), now, rate)

    def _sweep(self, now: int) -> None:
        """Forget everybody who may start at once anyway. Amortised: the next sweep waits until the rest doubles."""
        self._tats = {address: tat for address, tat in self._tats.items() if tat > now}
        self._sweep_at = max(_SWEEP_AT_LEAST, 2 * len(self._tats))

    def statistics(self) -> Statistics:
        return Statistics(len(self._tats))

    def __repr__(self) -> str:
        return f"<MemoryStore {len(self._tats)} clients>"
