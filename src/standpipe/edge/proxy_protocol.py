"""PROXY protocol, versions 1 and 2: the line that a proxy in front puts before a connection, to say for whom it speaks.

Pure. Source: the HAProxy project's specification (proxy-protocol.txt, sections 2.1 and 2.2). Who may send it is
decided by `connection`; from anybody else these bytes are just a malformed request.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from msgspec import Struct

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_LONGEST_LINE = 107
_LONGEST_BLOCK = 536
"""The specification's own bound on a version 2 header that must fit one segment, addresses and extensions."""
_FIXED = 16
_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]{2,39}) ([0-9A-Fa-f.:]{2,39}) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_UNKNOWN = re.compile(rb"PROXY UNKNOWN[^\r\n]*\r\n")
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21


class Malformed(Exception):
    """These bytes are no PROXY header."""


class Vouched(Struct, frozen=True):
    """`size` is how many bytes the header took. `address` is None when the proxy speaks for itself."""

    size: int
    address: str | None


def parse(data: bytes) -> Vouched | None:
    """The header that these bytes begin with, or None while more must come. Raises Malformed."""
    if data[: len(_SIGNATURE)] == _SIGNATURE[: len(data)]:
        return _version_2(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _version_1(data)
    raise Malformed("neither version of the PROXY protocol")


def _version_1(data: bytes) -> Vouched | None:
    end = data.find(b"\n", 0, _LONGEST_LINE) + 1
    if not end:
        if len(data) >= _LONGEST_LINE:
            raise Malformed("the line does not end")
        return None
    line = data[:end]
    if _UNKNOWN.fullmatch(line):
        return Vouched(end, None)
    match = _LINE.fullmatch(line)
    if match is None or int(match[4]) > 0xFFFF or int(match[5]) > 0xFFFF:
        raise Malformed("the line is malformed")
    kind = IPv4Address if match[1] == b"TCP4" else IPv6Address
    try:
        address = kind(match[2].decode())
        kind(match[3].decode())
    except AddressValueError:
        raise Malformed("an address is malformed") from None
    return Vouched(end, str(address))


def _version_2(data: bytes) -> Vouched | None:
    if len(data) < _FIXED:
        return None
    command, family = data[12], data[13]
    length = int.from_bytes(data[14:16], "big")
    if length > _LONGEST_BLOCK:
        raise Malformed("the header is too long")
    if len(data) < _FIXED + length:
        return None
    block = data[_FIXED : _FIXED + length]
    if command == _LOCAL:
        return Vouched(_FIXED + length, None)
    if command != _PROXY:
        raise Malformed("an unknown version or command")
    if family == _TCP4 and length >= 12:
        return Vouched(_FIXED + length, str(IPv4Address(block[:4])))
    if family == _TCP6 and length >= 36:
        return Vouched(_FIXED + length, str(IPv6Address(block[:16])))
    if family in {_TCP4, _TCP6}:
        raise Malformed("the addresses are cut short")
    return Vouched(_FIXED + length, None)  # a family without addresses that we could use: it speaks for itself
