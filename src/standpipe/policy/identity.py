"""Who asks (first form): a client is an address inside a block."""

from __future__ import annotations

from msgspec import Struct


class ClientKey(Struct, frozen=True, order=True):
    """One client. `address` is an IPv4 address or an IPv6 /64, `block` its /24 or /48, `share` a sub-share's id."""

    address: str
    block: str
    share: str | None = None
