"""Shares: `POST /api/share` gives a signed note that makes its sender one of several behind the same address.

A note buys no larger part of anything; see `policy.shares`. With `work`, it costs a small proof of work first: a GET
gives the challenge, a POST brings its solution. Nothing is stored; the key lives in memory and dies with the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec.structs import replace

from standpipe.chat.errors import InvalidAsk
from standpipe.policy import shares
from standpipe.policy.identity import Identity
from standpipe.serve.exchange import Exchange

HEADER = b"x-standpipe-share"
_BODY_LIMIT = 4096


class Work(Protocol):
    """What may have to be done for a note; see `serve.work`."""

    def challenge(self) -> bytes: ...

    def solved(self, payload: bytes) -> bool: ...


Identify = Callable[[Exchange], Identity]


class Shares:
    """Issues notes and reads them.

    Args:
        key: signs notes; at least 32 random bytes.
        clock: Unix seconds.
        random_bytes: as `secrets.token_bytes`.
        work: makes and checks challenges; None when notes are free.
    """

    def __init__(
        self, key: bytes, clock: Callable[[], float], random_bytes: Callable[[int], bytes], work: Work | None
    ) -> None:
        self._key = key
        self._clock = clock
        self._random_bytes = random_bytes
        self._work = work

    def apply(self, identity: Identity, exchange: Exchange) -> Identity:
        """The same client, as the share that its note stands for. A note that does not count changes nothing."""
        note = exchange.request.headers.get(HEADER)
        if note is None:
            return identity
        share = shares.verify(self._key, identity.key, int(self._clock()), note)
        return identity if share is None else replace(identity, key=replace(identity.key, share=share))

    async def challenge(self, exchange: Exchange) -> None:
        """The handler of GET /api/share: what is to be done for a note."""
        body = b'{"work":null}' if self._work is None else self._work.challenge()
        exchange.send(200, body, headers=((b"cache-control", b"no-store"),))

    async def issue(self, exchange: Exchange, identify: Identify) -> None:
        """Answer POST /api/share with a note. Raises InvalidAsk when the work is missing or wrong."""
        if self._work is not None:
            solution = await exchange.body(_BODY_LIMIT)
            if not self._work.solved(solution):
                raise InvalidAsk("The proof of work is missing, wrong or too old. GET this path for a challenge.")
        client = identify(exchange).key
        note = shares.issue(self._key, client, int(self._clock()), self._random_bytes(shares.ID_BYTES))
        body = {"header": HEADER.decode(), "share": note, "expires_in": shares.LIFETIME}
        exchange.send(200, msgspec.json.encode(body), headers=((b"cache-control", b"no-store"),))
