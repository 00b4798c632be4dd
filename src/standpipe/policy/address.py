"""Addresses: what a proxy or a socket writes down for one end of a connection, to one number.

The same host always gives the same `Address`, however it was written: with a port, in brackets, with a zone, as an
IPv4 address mapped into IPv6 or translated by NAT64. Whatever is not exactly one address is None: callers treat it as
somebody they do not know. Names no client and trusts nobody.

`Forwarded` (RFC 7239) and `X-Forwarded-For` grow on their right end, and over several lines downwards. Only the right
end was written by somebody whom we may know; what stands left of it may be anything, quotes without end included. So
both are read from the right, one hop at a time, and only as far as the caller asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from msgspec import Struct

_LONGEST = 128
"""Characters: an IPv6 address with zone, brackets, port and quotes has room to spare."""

_PORT = re.compile(r":(?:[0-9]{1,5}|_[A-Za-z0-9._-]+)\Z")
"""A port, or the obfuscated one of RFC 7239, section 6."""

_MAPPED = 0xFFFF
_NAT64 = 0x64_FF9B << 64
"""An IPv6 address without its last 32 bits, in ::ffff:0:0/96 (RFC 4291) and in 64:ff9b::/96 (RFC 6052)."""


class Address(Struct, frozen=True):
    """One host's address: `value` as a number of 32 bits where `version` is 4, of 128 bits where it is 6."""

    version: int
    value: int


def parse(text: str) -> Address | None:
    """An address alone, its zone dropped: what a socket reports."""
    if len(text) > _LONGEST:
        return None
    try:
        if ":" in text:
            return _plain(int(IPv6Address(text.partition("%")[0])))
        return Address(4, int(IPv4Address(text)))
    except AddressValueError:
        return None


def parse_node(text: str) -> Address | None:
    """An address with what proxies put around it: brackets and a port, both optional; what forwarding headers hold."""
    text = text.strip(" \t")
    if len(text) > _LONGEST:
        return None
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in inside or (rest and not _port(rest)):
            return None
        return parse(inside)
    if text.count(":") == 1:
        host, _, _ = text.partition(":")
        return parse(host) if _port(text[len(host) :]) else None
    return parse(text)


def _port(text: str) -> bool:
    return _PORT.match(text) is not None and (text[1] == "_" or int(text[1:]) <= 0xFFFF)


def _plain(value: int) -> Address:
    """An IPv6 address, or the IPv4 address that it stands for."""
    high = value >> 32
    if high in {_MAPPED, _NAT64}:
        return Address(4, value & 0xFFFF_FFFF)
    return Address(6, value)


def listed(lines: Sequence[str]) -> Iterator[Address | None]:
    """The hops of a header that lists addresses, as X-Forwarded-For does, nearest first; None for what is none."""
    for line in reversed(lines):
        end = len(line)
        while end >= 0:
            comma = line.rfind(",", 0, end)
            yield parse_node(line[comma + 1 : end])
            end = comma


def forwarded(lines: Sequence[str]) -> Iterator[Address | None]:
    """The hops of all Forwarded lines, nearest first; None for one without a `for` that is an address."""
    for line in reversed(lines):
        for element in _split(line, ","):
            yield _hop(element)


def _hop(element: str) -> Address | None:
    """The `for` of one element. Two of them are nobody's."""
    found = [value for name, _, value in (pair.partition("=") for pair in _split(element, ";")) if _is_for(name)]
    if len(found) != 1:
        return None
    value = found[0].strip(" \t")
    if value.startswith('"'):
        if len(value) < 2 or not value.endswith('"'):
            return None
        value = value[1:-1].replace("\\", "")
    return parse_node(value)


def _is_for(name: str) -> bool:
    return name.strip(" \t").lower() == "for"


def _split(text: str, separator: str) -> Iterator[str]:
    """The pieces between separators that stand outside of quotes, rightmost first, read no further than asked."""
    end = at = len(text)
    quoted = False
    while at > 0:
        at -= 1
        char = text[at]
        if char == '"' and not (quoted and _escaped(text, at)):
            quoted = not quoted
        elif char == separator and not quoted:
            yield text[at + 1 : end]
            end = at
    yield text[:end]


def _escaped(text: str, at: int) -> bool:
    """Whether an odd number of backslashes stands before this character."""
    start = at
    while start > 0 and text[start - 1] == "\\":
        start -= 1
    return (at - start) % 2 == 1
