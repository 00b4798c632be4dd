"""Who asks: the address of a socket's peer, or of whom a trusted proxy vouches for, to a client's key.

A key is an IPv4 address or an IPv6 /64, because that is what one household or one machine holds; its block is the /24
or /48 around it, because that is what one can rent. Knows no HTTP: the caller passes a look-up of header lines.

One forwarding header counts, and only from a peer that is trusted: X-Forwarded-For, or the one that the operator names.
Proxies pass on what they do not know, so a second header that is read as well would be one that visitors write: what
`Forwarded`, `X-Real-IP` or any other says beside it is not looked at, neither followed nor compared. Nor is whichever
happens to be there followed: where the proxy writes another header than the one that is read, nobody is named, which is
seen at once (`alarm`), and never a visitor believed.

Platforms that publish no addresses of their proxies are trusted by number instead: whoever connects is the nearest of
so many *hops*, each of which has added whom it saw, so the client is that many entries from the right. What is shorter
came another way, and its client is whoever connected.

Hops are read from the right, over all lines of the header, because proxies append; those that are trusted are passed
over, and the first that is not is the client. A hop that cannot be read (`unknown`, an obfuscated id) is somebody we do
not know: the client is then the last proxy that we do know, which is safe (strangers share one key instead of choosing
theirs) and flagged, because it is unfair to them.

A *tier* is another Standpipe in front of this one. It is trusted as a proxy is, and has paced its clients itself. It
names them in X-Forwarded-For, by pseudonyms: addresses that nobody has, and that tell only who is one client and which
clients are one block.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from standpipe.policy.address import Address, forwarded, listed, parse

Lines = Callable[[bytes], Sequence[str]]
"""All lines of a request header, by its name in lower case, in order."""


class ClientKey(Struct, frozen=True, order=True):
    """One client. `share` is a sub-share's id: one of several people behind the same address, see `shares`. `paced`
    tells that a tier in front has done that."""

    address: str
    block: str
    share: str | None = None
    paced: bool = False


UNIX = ClientKey("unix", "unix")
"""Whoever is at the other end of a UNIX socket."""

UNKNOWN = ClientKey("unknown", "unknown")
"""A peer whose address we cannot read. Sockets do not give such; it is one client all the same."""


PEER = "peer"
"""Where the address came from, if from the socket; else the header's name."""

FORWARDED_FOR = b"x-forwarded-for"
_PURPOSE = b"standpipe pseudonym v1\0"
"""Keeps these hashes apart from others that may be made with the same key."""


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


Networks = tuple[tuple[int, int, int], ...]
"""Each is (version, prefix, bits behind the prefix)."""


class Trust(Struct, frozen=True):
    """Whose forwarding headers count: those of proxies, and of tiers.

    `header` is the one header to read the client's address from, in lower case; a tier's is always X-Forwarded-For.
    """

    proxies: Networks = ()
    unix: bool = False
    header: bytes = FORWARDED_FOR
    tiers: Networks = ()
    unix_tier: bool = False
    hops: int = 0
    """If it is not 0, every peer is the nearest of so many proxies, whatever its address."""

    @classmethod
    def parse(
        cls, proxies: Iterable[str], header: str = "X-Forwarded-For", tiers: Iterable[str] = (), hops: int = 0
    ) -> Trust:
        """From addresses, networks in CIDR form and the word `unix`. Raises ValueError that names the wrong one."""
        proxies, tiers = tuple(proxies), tuple(tiers)
        name = header.strip().lower().encode("latin-1")
        unix = "unix" in proxies or hops > 0
        return cls(_networks(proxies), unix, name, _networks(tiers), "unix" in tiers, hops)

    def includes(self, address: Address) -> bool:
        """Whether this is the address of a trusted proxy or of a tier."""
        return self.hops > 0 or _within(address, self.proxies) or _within(address, self.tiers)

    def is_tier(self, address: Address) -> bool:
        return _within(address, self.tiers)

    @property
    def unread(self) -> bool:
        """Whether a header was named that nobody is trusted to write."""
        return self.header != FORWARDED_FOR and not self.unix and not self.proxies


class Identities:
    """Identifies clients under one trust. Remembers the keys of the `remember` addresses seen last, for speed only."""

    def __init__(self, trust: Trust, remember: int = 8192) -> None:
        self.trust = trust
        self._unix = replace(UNIX, paced=trust.unix_tier)
        self._hops = forwarded if trust.header == b"forwarded" else listed
        self._remember = remember
        self._peers: dict[str, tuple[ClientKey, bool]] = {}

    def identify(self, peer: str | None, lines: Lines) -> Identity:
        """Who asks. `peer` is the socket's other end without port, None for a UNIX socket."""
        trust = self.trust
        if peer is None:
            key, trusted = self._unix, trust.unix or trust.unix_tier
        else:
            key, trusted = self._peers.get(peer) or self._learn(peer)
        if trusted:
            return self._vouched(key, lines)
        if lines(trust.header) or lines(FORWARDED_FOR) or lines(b"forwarded"):
            return Identity(key, PEER, Suspicion.UNTRUSTED)
        return Identity(key, PEER)

    def _learn(self, peer: str) -> tuple[ClientKey, bool]:
        address = parse(peer)
        known = (UNKNOWN, False)
        if address is not None:
            known = (client_key(address, paced=self.trust.is_tier(address)), self.trust.includes(address))
        if len(self._peers) >= self._remember:
            del self._peers[next(iter(self._peers))]
        self._peers[peer] = known
        return known

    def _vouched(self, proxy: ClientKey, lines: Lines) -> Identity:
        """Whom a trusted proxy or tier vouches for: from it outwards, the first hop that is not trusted."""
        header, hops = (FORWARDED_FOR, listed) if proxy.paced else (self.trust.header, self._hops)
        values = lines(header)
        if not values:
            return Identity(proxy, PEER, Suspicion.UNUSABLE)
        via, nearest = header.decode("latin-1"), proxy
        if self.trust.hops and not proxy.paced:
            named = next(islice(hops(values), self.trust.hops - 1, None), None)
            return Identity(proxy, via, Suspicion.UNUSABLE) if named is None else Identity(client_key(named), via)
        for address in hops(values):
            if address is None:
                return Identity(nearest, via, Suspicion.UNUSABLE)
            # Whom a tier names it has paced, and itself it need not be.
            nearest = client_key(address, paced=nearest.paced or self.trust.is_tier(address))
            if not self.trust.includes(address):
                break
        return Identity(nearest, via)

    def __repr__(self) -> str:
        return f"<Identities {len(self.trust.proxies)} trusted networks, {len(self._peers)} peers remembered>"


def client_key(address: Address, *, paced: bool = False) -> ClientKey:
    """The client that an address belongs to."""
    value = address.value
    if address.version == 4:
        return ClientKey(str(IPv4Address(value)), f"{IPv4Address(value & ~0xFF)}/24", paced=paced)
    return ClientKey(f"{IPv6Address(value >> 64 << 64)}/64", f"{IPv6Address(value >> 80 << 80)}/48", paced=paced)


def pseudonym(client: ClientKey, key: bytes) -> str:
    """An address for a client that only tells it from others, for the tier below: of a /48 that stands for its block
    (40 bits, as RFC 4193 has them drawn), and of a /64 in it. Two of one block may happen to be one, which costs them a
    place; `key` is at least 32 random bytes."""
    block = hmac.digest(key, _PURPOSE + b"block\0" + client.block.encode(), "sha256")[:5]
    address = hmac.digest(key, _PURPOSE + b"address\0" + client.address.encode(), "sha256")[:2]
    return str(IPv6Address(b"\xfd" + block + address + b"\0" * 7 + b"\1"))


def masked(key: ClientKey) -> str:
    """The client's address as it may be shown: `203.0.113.x`, `2001:db8:1:2::/64`."""
    if "." in key.address:
        return key.address.rpartition(".")[0] + ".x"
    return key.address


def _within(address: Address, networks: Networks) -> bool:
    version, value = address.version, address.value
    return any(version == v and value >> bits == prefix for v, prefix, bits in networks)


def _networks(names: Iterable[str]) -> Networks:
    return tuple(_network(name) for name in names if name != "unix")


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
