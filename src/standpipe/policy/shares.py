"""Shares: signed notes by which several people behind one address are fair to each other.

A note says "I am this share of my network until then". It is made of numbers and a keyed hash, so nothing about it is
stored, and it counts only inside the block it was given to. It buys no larger part of the line: an address keeps its
one place among addresses and its one cap, and its shares divide it among themselves, so that collecting notes gains
nothing over the neighbours. Pure: the key, the time and the randomness are arguments.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from struct import Struct as Layout

from standpipe.policy.identity import ClientKey

LIFETIME = 3600
"""Seconds for which a note counts."""

ID_BYTES = 8
_MAC_BYTES = 16
_LAYOUT = Layout(f">I{ID_BYTES}s{_MAC_BYTES}s")
_TEXT = (_LAYOUT.size * 8 + 5) // 6
_PURPOSE = b"standpipe share v1\0"
"""Keeps these hashes apart from others that may be made with the same key."""


def issue(key: bytes, client: ClientKey, now: int, share: bytes) -> str:
    """A note for this client's block. `now` is Unix seconds; `share` is `ID_BYTES` of the caller's randomness."""
    expires = now + LIFETIME
    return urlsafe_b64encode(_LAYOUT.pack(expires, share, _sign(key, client, expires, share))).rstrip(b"=").decode()


def verify(key: bytes, client: ClientKey, now: int, note: str) -> str | None:
    """The share that a note stands for, or None: not ours, not for this block, or too old."""
    if len(note) != _TEXT:
        return None
    try:
        raw = urlsafe_b64decode(note + "=" * (-_TEXT % 4))
    except (ValueError, Error):
        return None
    if len(raw) != _LAYOUT.size:
        return None
    expires, share, mac = _LAYOUT.unpack(raw)
    genuine = hmac.compare_digest(mac, _sign(key, client, expires, share))
    return share.hex() if genuine and now < expires <= now + LIFETIME else None


def _sign(key: bytes, client: ClientKey, expires: int, share: bytes) -> bytes:
    message = _PURPOSE + expires.to_bytes(4, "big") + share + client.block.encode()
    return hmac.digest(key, message, "sha256")[:_MAC_BYTES]
