"""Limits as a client sees them: the rate limit's headers on every answer, and `GET /api/limits`, which explains them.

A client learns what it is known as (masked), its own rate limit and queued requests, and the operator's caps; never
anything of others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import msgspec
from msgspec import Struct

from standpipe.policy.identity import ClientKey, Identity, masked
from standpipe.policy.pace import MICROSECONDS, Peek, Rate
from standpipe.serve.exchange import Exchange, Header
from standpipe.serve.ticket import Admits


class OperatorLimits(Struct, frozen=True):
    """The operator's settings of these names, and how many requests of one client may run at a time."""

    max_tokens: int
    body_limit: int
    wait_limit: float
    queue_per_client: int
    queue_per_block: int
    client_slots: int


class KnownAs(Struct, frozen=True):
    """A client as it is told apart from others. `seen_in` is where its address came from."""

    address: str
    seen_in: str
    share: str | None


class OwnRateLimit(Struct, frozen=True):
    """`remaining` requests are accepted now; one that is sent in `free_in_seconds` would not have to wait."""

    interval_seconds: float
    free_in_seconds: float
    remaining: int


class OwnRequest(Struct, frozen=True):
    """A request in the queue: 1 is next. `eta_seconds` is None where it is not known."""

    position: int
    eta_seconds: float | None
    waited_seconds: float


class ClientLimits(Struct, frozen=True):
    """What the server knows of a client. `requests` are in order of arrival; no rate limit is None."""

    client: KnownAs
    rate_limit: OwnRateLimit | None
    requests: tuple[OwnRequest, ...]
    caps: OperatorLimits


class Limits:
    """Tells clients of their limits."""

    def __init__(self, admission: Admits, identify: Callable[[Exchange], Identity], caps: OperatorLimits) -> None:
        self._admission = admission
        self._identify = identify
        self._caps = caps

    def headers(self, client: ClientKey | None, now: float) -> list[Header]:
        """What is left of a client's pace at this instant of the loop's time; nothing while it is not known."""
        if client is None or (rate := self._admission.rate_of(client)) is None:
            return []
        instant = int(now * MICROSECONDS)
        peek = self._admission.paces.peek(client, instant, rate)
        return pace_headers(peek, instant, rate)

    async def why(self, exchange: Exchange) -> None:
        """The handler of GET /api/limits."""
        identity = self._identify(exchange)
        now = asyncio.get_running_loop().time()
        known = KnownAs(masked(identity.key), identity.via, identity.key.share)
        requests = tuple(
            OwnRequest(position, None if eta is None else round(eta, 3), round(waited, 3))
            for position, eta, waited in await self._admission.own(identity.key)
        )
        limits = ClientLimits(known, self._rate_limit(identity.key, now), requests, self._caps)
        exchange.send(200, msgspec.json.encode(limits), headers=((b"cache-control", b"no-store"),))

    def _rate_limit(self, client: ClientKey, now: float) -> OwnRateLimit | None:
        rate = self._admission.rate_of(client)
        if rate is None:
            return None
        instant = int(now * MICROSECONDS)
        peek = self._admission.paces.peek(client, instant, rate)
        free_in = max(0, peek.free_at - instant)
        return OwnRateLimit(rate.interval / MICROSECONDS, free_in / MICROSECONDS, peek.remaining)


def pace_headers(peek: Peek, now: int, rate: Rate) -> list[Header]:
    """What is left of a client's rate limit, as OpenAI's clients read it. `now` is in microseconds, on its clock."""
    wait = max(0, peek.free_at - now)
    return [
        (b"x-ratelimit-limit-requests", str(rate.max_waiting + 1).encode()),
        (b"x-ratelimit-remaining-requests", str(peek.remaining).encode()),
        (b"x-ratelimit-reset-requests", _duration(wait).encode()),
    ]


def _duration(microseconds: int) -> str:
    """As OpenAI writes it: `500ms`, `1.5s`."""
    if microseconds < MICROSECONDS:
        return f"{math.ceil(microseconds / 1000)}ms"
    return f"{microseconds / MICROSECONDS:.3f}".rstrip("0").rstrip(".") + "s"
