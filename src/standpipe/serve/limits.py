"""Limits, as a client sees them: headers of every answer, and `GET /api/limits`, which tells why one is limited.

A client learns what it is known as (masked), its own pace and asks, and the operator's caps; never anything of others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import msgspec
from msgspec import Struct

from standpipe.policy.identity import ClientKey, Identity, masked
from standpipe.policy.pace import MICROSECONDS, Peek, Rate
from standpipe.serve.admission import Admission
from standpipe.serve.exchange import Exchange, Header


class Caps(Struct, frozen=True):
    """The operator's numbers, as they are told. `client_slots` is how many asks of one client may run at a time."""

    max_tokens: int
    body_bytes: int
    wait_seconds: float
    asks_in_line: int
    asks_in_line_per_network: int
    client_slots: int


class Client(Struct, frozen=True):
    """What the client is known as."""

    address: str
    seen_in: str
    share: str | None


class OwnPace(Struct, frozen=True):
    """What is left of the client's rate."""

    interval_seconds: float
    free_in_seconds: float
    remaining: int


class OwnAsk(Struct, frozen=True):
    """One of the client's requests in the queue."""

    position: int
    eta_seconds: float | None
    waited_seconds: float


class WhyLimited(Struct, frozen=True):
    """What GET /api/limits tells. `asks` in order of joining."""

    client: Client
    pace: OwnPace | None
    asks: tuple[OwnAsk, ...]
    caps: Caps


class Limits:
    """Tells clients of their limits. `draft` adds the two headers of draft-ietf-httpapi-ratelimit-headers."""

    def __init__(
        self, admission: Admission, identify: Callable[[Exchange], Identity], caps: Caps, *, draft: bool
    ) -> None:
        self._admission = admission
        self._identify = identify
        self._caps = caps
        self._draft = draft

    def headers(self, client: ClientKey | None, now: float) -> list[Header]:
        """What is left of a client's pace at this instant of the loop's time; nothing while it is not known."""
        rate = self._admission.rate
        if client is None or rate is None:
            return []
        instant = int(now * MICROSECONDS)
        peek = self._admission.paces.peek(client, instant, rate)
        return pace_headers(peek, instant, rate, self._caps.client_slots if self._draft else None)

    async def why(self, exchange: Exchange) -> None:
        """The handler of GET /api/limits."""
        identity = self._identify(exchange)
        now = asyncio.get_running_loop().time()
        why = WhyLimited(
            Client(masked(identity.key), identity.via, identity.key.share),
            self._pace(identity.key, now),
            tuple(self._asks(identity.key, now)),
            self._caps,
        )
        exchange.send(200, msgspec.json.encode(why), headers=((b"cache-control", b"no-store"),))

    def _pace(self, client: ClientKey, now: float) -> OwnPace | None:
        rate = self._admission.rate
        if rate is None:
            return None
        instant = int(now * MICROSECONDS)
        peek = self._admission.paces.peek(client, instant, rate)
        return OwnPace(rate.interval / MICROSECONDS, max(0, peek.free_at - instant) / MICROSECONDS, peek.remaining)

    def _asks(self, client: ClientKey, now: float) -> list[OwnAsk]:
        line = self._admission.line
        found = []
        for place in line.asks(client):
            forecast = line.forecast(place, now)
            eta = None if forecast.wait is None else round(forecast.wait, 3)
            found.append(OwnAsk(forecast.position, eta, round(now - place.joined_at, 3)))
        return found


def pace_headers(peek: Peek, now: int, rate: Rate, client_slots: int | None) -> list[Header]:
    """What is left of a client's pace. `now` is in microseconds, on the pace's clock.

    OpenAI's three headers always; with `client_slots`, the asks of one client that may run at a time, the draft's too.
    """
    wait = max(0, peek.free_at - now)
    found: list[Header] = [
        (b"x-ratelimit-limit-requests", str(rate.max_waiting + 1).encode()),
        (b"x-ratelimit-remaining-requests", str(peek.remaining).encode()),
        (b"x-ratelimit-reset-requests", _duration(wait).encode()),
    ]
    if client_slots is not None:
        window = max(1, math.ceil(rate.interval / MICROSECONDS))
        quota = max(1, window * MICROSECONDS // rate.interval)
        policy = f'"pace";q={quota};w={window}, "inflight";q={client_slots};qu="concurrent-requests"'
        found += [
            (b"ratelimit-policy", policy.encode()),
            (b"ratelimit", f'"pace";r={peek.remaining};t={math.ceil(wait / MICROSECONDS)}'.encode()),
        ]
    return found


def _duration(microseconds: int) -> str:
    """As OpenAI writes it: `500ms`, `1.5s`."""
    if microseconds < MICROSECONDS:
        return f"{math.ceil(microseconds / 1000)}ms"
    return f"{microseconds / MICROSECONDS:.3f}".rstrip("0").rstrip(".") + "s"
