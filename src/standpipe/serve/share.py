"""Shares: `POST /api/share` gives a signed note that makes its sender one of several behind the same address.

A note buys no larger part of anything; see `policy.shares`. It costs nothing, therefore, and nothing about it is
stored: the key lives in memory and dies with the process.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from standpipe.policy import shares
from standpipe.policy.identity import Identity
from standpipe.serve.exchange import Exchange

HEADER = b"x-standpipe-share"

Identify = Callable[[Exchange], Identity]


class Shares:
    """Issues notes and reads them.

    Args:
        key: signs notes; at least 32 random bytes.
        clock: Unix seconds.
        random_bytes: as `secrets.token_bytes`.
    """

    def __init__(self, key: bytes, clock: Callable[[], float], random_bytes: Callable[[int], bytes]) -> None:
        self._key = key
        self._clock = clock
        self._random_bytes = random_bytes

    def apply(self, identity: Identity, exchange: Exchange) -> Identity:
        """The same client, as the share that its note stands for. A note that does not count changes nothing."""
        note = exchange.request.headers.get(HEADER)
        if note is None:
            return identity
        share = shares.verify(self._key, identity.key, int(self._clock()), note)
        return identity if share is None else replace(identity, key=replace(identity.key, share=share))

    async def issue(self, exchange: Exchange, identify: Identify) -> None:
        """Answer POST /api/share with a note."""
        client = identify(exchange).key
        note = shares.issue(self._key, client, int(self._clock()), self._random_bytes(shares.ID_BYTES))
        body = {"header": HEADER.decode(), "share": note, "expires_in": shares.LIFETIME}
        exchange.send(200, msgspec.json.encode(body), headers=((b"cache-control", b"no-store"),))
