"""The alarm for the mistake that breaks public services: a reverse proxy in front, and nobody told us.

Then every stranger has the proxy's address, they all share one pace and one place in line, and one of them can hold
everybody up. It shows in two ways: most asks come from one address, or forwarding headers arrive though no proxy is
trusted. Both also happen to honest set-ups now and then, so the alarm looks at windows of asks and only warns.
"""

from __future__ import annotations

from enum import StrEnum

from standpipe.policy.identity import Identity, Suspicion


class ProxyWarning(StrEnum):
    """What a window of asks showed."""

    ONE_ADDRESS = "one_address"
    """Most asks came from one address."""
    UNTRUSTED_PROXY = "untrusted_proxy"
    """Most asks carried forwarding headers from a peer that is not trusted."""
    SILENT_PROXY = "silent_proxy"
    """Most asks came through a trusted proxy that did not say for whom, in the header that is read."""


_SUSPICIONS: dict[Suspicion, ProxyWarning] = {
    Suspicion.UNTRUSTED: ProxyWarning.UNTRUSTED_PROXY,
    Suspicion.UNUSABLE: ProxyWarning.SILENT_PROXY,
}


class Alarm:
    """Watches identities in windows of `window` asks; `share` of them is most."""

    __slots__ = ("_addresses", "_asks", "_counts", "_share", "_window", "warnings")

    def __init__(self, window: int = 200, share: float = 0.8) -> None:
        self._window = window
        self._share = share
        self._asks = 0
        self._addresses: dict[str, int] = {}
        self._counts: dict[ProxyWarning, int] = {}
        self.warnings: frozenset[ProxyWarning] = frozenset()
        """What the last whole window showed."""

    def observe(self, identity: Identity) -> frozenset[ProxyWarning]:
        """Take one ask's identity. Returns what is newly wrong with it: empty but at the end of a window."""
        self._asks += 1
        address = identity.key.address
        self._addresses[address] = self._addresses.get(address, 0) + 1
        if identity.suspicion is not None:
            warning = _SUSPICIONS[identity.suspicion]
            self._counts[warning] = self._counts.get(warning, 0) + 1
        return self._close() if self._asks >= self._window else frozenset()

    def _close(self) -> frozenset[ProxyWarning]:
        most = self._share * self._asks
        found = {warning for warning, count in self._counts.items() if count >= most}
        if max(self._addresses.values()) >= most:
            found.add(ProxyWarning.ONE_ADDRESS)
        new = frozenset(found - self.warnings)
        self.warnings = frozenset(found)
        self._asks = 0
        self._addresses.clear()
        self._counts.clear()
        return new
