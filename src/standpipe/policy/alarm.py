"""The alarm for the mistake that breaks public services: a proxy in front, and nobody told us.

Then every stranger has the proxy's address, they all share one pace and one place in line, and one of them can hold
everybody up. It shows in two ways: most asks come from one address, or forwarding headers arrive though no proxy is
trusted. Both also happen to honest set-ups now and then, so the alarm looks at windows of asks and only warns.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from standpipe.policy.identity import Identity, Suspicion


class Oddity(StrEnum):
    """What a window of asks showed."""

    ONE_ADDRESS = "one_address"
    """Most asks came from one address."""
    UNTRUSTED_PROXY = "untrusted_proxy"
    """Most asks carried forwarding headers from a peer that is not trusted."""
    SILENT_PROXY = "silent_proxy"
    """Most asks came through a trusted proxy that did not say for whom, or contradicted itself."""


_SUSPICIONS: dict[Suspicion, Oddity] = {
    Suspicion.UNTRUSTED: Oddity.UNTRUSTED_PROXY,
    Suspicion.UNUSABLE: Oddity.SILENT_PROXY,
    Suspicion.CONTRADICTION: Oddity.SILENT_PROXY,
}


class AlarmStatistics(Struct, frozen=True):
    """`oddities` holds since the last whole window; `asks` counts the window under way."""

    oddities: frozenset[Oddity]
    asks: int


class Alarm:
    """Watches identities in windows of `window` asks; `share` of them is most."""

    __slots__ = ("_addresses", "_asks", "_odd", "_oddities", "_share", "_window")

    def __init__(self, window: int = 200, share: float = 0.8) -> None:
        self._window = window
        self._share = share
        self._asks = 0
        self._addresses: dict[str, int] = {}
        self._odd: dict[Oddity, int] = {}
        self._oddities: frozenset[Oddity] = frozenset()

    def observe(self, identity: Identity) -> frozenset[Oddity]:
        """Take one ask's identity. Returns what has newly turned odd with it: empty but at the end of a window."""
        self._asks += 1
        address = identity.key.address
        self._addresses[address] = self._addresses.get(address, 0) + 1
        if identity.suspicion is not None:
            oddity = _SUSPICIONS[identity.suspicion]
            self._odd[oddity] = self._odd.get(oddity, 0) + 1
        return self._close() if self._asks >= self._window else frozenset()

    def _close(self) -> frozenset[Oddity]:
        most = self._share * self._asks
        found = {oddity for oddity, count in self._odd.items() if count >= most}
        if max(self._addresses.values()) >= most:
            found.add(Oddity.ONE_ADDRESS)
        new = frozenset(found - self._oddities)
        self._oddities = frozenset(found)
        self._asks = 0
        self._addresses.clear()
        self._odd.clear()
        return new

    def statistics(self) -> AlarmStatistics:
        return AlarmStatistics(self._oddities, self._asks)

    def __repr__(self) -> str:
        return f"<Alarm {', '.join(sorted(self._oddities)) or 'quiet'}>"
