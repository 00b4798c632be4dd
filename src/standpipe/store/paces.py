"""The rate limiter's memory: one timestamp per client. Clients that may start at once anyway are forgotten.

The arithmetic is `policy.pace`; times are integer microseconds on one clock that does not go back.
"""

from __future__ import annotations

from standpipe.policy import pace
from standpipe.policy.identity import ClientKey
from standpipe.policy.pace import Peek, Rate, Refuse, Verdict

_SWEEP_AT_LEAST = 1024
"""Clients. Below this there is nothing to win by forgetting."""


class Paces:
    """The pace of every client that has one under way."""

    def __init__(self) -> None:
        self._tats: dict[str, int] = {}
        self._sweep_at = _SWEEP_AT_LEAST

    def reserve(self, client: ClientKey, now: int, rate: Rate, count: int = 1) -> Verdict:
        """Take the client's next free instant, and those that follow, `count` in all."""
        verdict = pace.reserve(self._tats.get(client.address, 0), now, rate, count)
        if not isinstance(verdict, Refuse):
            self._tats[client.address] = verdict.tat
            if len(self._tats) >= self._sweep_at:
                self._sweep(now)
        return verdict

    def cancel(self, client: ClientKey, until: int, rate: Rate, count: int = 1) -> None:
        """Give back an instant that was reserved and not used, unless a later one was reserved after it."""
        tat = self._tats.get(client.address)
        if tat is not None:
            self._tats[client.address] = pace.cancel(tat, until, rate, count)

    def peek(self, client: ClientKey, now: int, rate: Rate) -> Peek:
        """Look without reserving."""
        return pace.peek(self._tats.get(client.address, 0), now, rate)

    def learn(self, address: str, tat: int, now: int) -> None:
        """A client's next free instant is this, as somebody else has counted, or later."""
        self._tats[address] = max(tat, self._tats.get(address, 0))
        if len(self._tats) >= self._sweep_at:
            self._sweep(now)

    def under_way(self, now: int) -> list[tuple[str, int]]:
        """Who may not start yet, by address, and for how many microseconds."""
        return [(address, tat - now) for address, tat in self._tats.items() if tat > now]

    def _sweep(self, now: int) -> None:
        """Forget the free. Amortised: the next sweep waits until those who remain have doubled."""
        self._tats = {address: tat for address, tat in self._tats.items() if tat > now}
        self._sweep_at = max(_SWEEP_AT_LEAST, 2 * len(self._tats))

    def __len__(self) -> int:
        return len(self._tats)
