"""Who asks: the address of a socket's peer, or of whom a trusted proxy vouches for, to a client's key.

A key is an IPv4 address or an IPv6 /64, because that is what one household or one machine holds; its block is the /24
or /48 around it, because that is what one can rent. Knows no HTTP: the caller passes a look-up of header lines.

One forwarding header counts, and only from a peer that is trusted: X-Forwarded-For, or the one that the operator names.
Proxies pass on what they do not know, so a second header that is read as well would be one that visitors write: what
`Forwarded`, `X-Real-IP` or any other says beside it is not looked at, neither followed nor compared. Nor is whichever
happens to be there followed: where the proxy writes another header than the one that is read, nobody is named, which is
seen at once (`alarm`), and never a visitor believed.

Hops are read from the right, over all lines of the header, because proxies append; those that are trusted are passed
over, and the first that is not is the client. A hop that cannot be read (`unknown`, an obfuscated id) is somebody we do
not know: the client is then the last proxy that we do know, which is safe (strangers share one key instead of choosing
theirs) and flagged, because it is unfair to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

from msgspec import Struct

from standpipe.policy.address import Address, forwarded, listed, parse

Lines = Callable[[bytes], Sequence[str]]
"""All lines of a request header, by its name in lower case, in order."""


class ClientKey(Struct, frozen=True, order=True):
    """One client. `share` is a sub-share's id: one of several people behind the same address, see `shares`."""

    address: str
    block: str
    share: str | None = None


UNIX = ClientKey("unix", "unix")
"""Whoever is at the other end of a UNIX socket."""

UNKNOWN = ClientKey("unknown", "unknown")
"""A peer whose address we cannot read. Sockets do not give such; it is one client all the same."""


PEER = "peer"
"""Where the address came from, if from the socket; else the header's name."""


class Suspicion(StrEnum):
    """What an operator should look into."""

    UNTRUSTED = "untrusted"
    """Forwarding headers came from a peer that is not trusted. They were not read."""
    UNUSABLE = "unusable"
    """A trusted proxy sent nothing that tells its client."""


class Identity(Struct, frozen=True):
    """Who asks, what tells (`PEER`, or the header's name in lower case), and what is odd about it."""

    key: ClientKey
    via: str
    suspicion: Suspicion | None = None


class Trust(Struct, frozen=True):
    """Whose forwarding headers count. Each network is (version, prefix, bits behind the prefix).

    `header` is the one header to read the client's address from, in lower case.
    """

    networks: tuple[tuple[int, int, int], ...] = ()
    unix: bool = False
    header: bytes = b"x-forwarded-for"

    @classmethod
    def parse(cls, texts: Iterable[str], header: str = "X-Forwarded-For") -> Trust:
        """From addresses, networks in CIDR form and the word `unix`. Raises ValueError that names the wrong one."""
        names = tuple(texts)
        networks = tuple(_network(name) for name in names if name != "unix")
        return cls(networks, "unix" in names, header.strip().lower().encode("latin-1"))

    def includes(self, address: Address) -> bool:
        """Whether this is the address of a trusted proxy."""
        version, value = address.version, address.value
        return any(version == v and value >> bits == prefix for v, prefix, bits in self.networks)

    @property
    def unread(self) -> bool:
        """Whether a header was named that nobody is trusted to write."""
        return self.header != Trust().header and not self.unix and not self.networks


class Identities:
    """Identifies clients under one trust. Remembers the keys of the `remember` addresses seen last, for speed only."""

    def __init__(self, trust: Trust, remember: int = 8192) -> None:
        self.trust = trust
        self._via = trust.header.decode("latin-1")
        self._hops = forwarded if trust.header == b"forwarded" else listed
        self._remember = remember
        self._peers: dict[str, tuple[ClientKey, bool]] = {}

    def identify(self, peer: str | None, lines: Lines) -> Identity:
        """Who asks. `peer` is the socket's other end without port, None for a UNIX socket."""
        if peer is None:
            key, trusted = UNIX, self.trust.unix
        else:
            key, trusted = self._peers.get(peer) or self._learn(peer)
        if trusted:
            return self._vouched(key, lines)
        if lines(self.trust.header) or lines(b"x-forwarded-for") or lines(b"forwarded"):
            return Identity(key, PEER, Suspicion.UNTRUSTED)
        return Identity(key, PEER)

    def _learn(self, peer: str) -> tuple[ClientKey, bool]:
        address = parse(peer)
        known = (UNKNOWN, False) if address is None else (client_key(address), self.trust.includes(address))
        if len(self._peers) >= self._remember:
            del self._peers[next(iter(self._peers))]
        self._peers[peer] = known
        return known

    def _vouched(self, proxy: ClientKey, lines: Lines) -> Identity:
        """Whom a trusted proxy vouches for: from it outwards, the first hop that is not trusted."""
        values = lines(self.trust.header)
        if not values:
            return Identity(proxy, PEER, Suspicion.UNUSABLE)
        nearest = proxy
        for address in self._hops(values):
            if address is None:
                return Identity(nearest, self._via, Suspicion.UNUSABLE)
            nearest = client_key(address)
            if not self.trust.includes(address):
                break
        return Identity(nearest, self._via)

    def __repr__(self) -> str:
        return f"<Identities {len(self.trust.networks)} trusted networks, {len(self._peers)} peers remembered>"


def client_key(address: Address) -> ClientKey:
    """The client that an address belongs to."""
    value = address.value
    if address.version == 4:
        return ClientKey(str(IPv4Address(value)), f"{IPv4Address(value & ~0xFF)}/24")
    return ClientKey(f"{IPv6Address(value >> 64 << 64)}/64", f"{IPv6Address(value >> 80 << 80)}/48")


def masked(key: ClientKey) -> str:
    """The client's address as it may be shown: `203.0.113.x`, `2001:db8:1:2::/64`."""
    if "." in key.address:
        return key.address.rpartition(".")[0] + ".x"
    return key.address


def _network(text: str) -> tuple[int, int, int]:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is not an address, a network such as 10.0.0.0/8, or the word unix: {error}"
        ) from None
    version = 4 if isinstance(network, IPv4Network) else 6
    value, bits = int(network.network_address), network.max_prefixlen - network.prefixlen
    plain = parse(str(network.network_address))
    if version == 6 and plain is not None and plain.version == 4 and bits <= 32:
        version, value = 4, plain.value
    if bits >= (32 if version == 4 else 128):
        raise ValueError(f"{text!r} trusts the whole internet, so anyone could forge an address")
    return version, value >> bits, bits
