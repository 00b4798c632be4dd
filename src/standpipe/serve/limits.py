"""Limits, as a client sees them: the headers of every answer, and `GET /api/limits`, which tells why one is limited.

A client learns what it is known as (masked), its own pace and asks, and the operator's caps; never anything of others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import msgspec
from msgspec import Struct

from standpipe.policy.identity import Identity, masked
from standpipe.policy.line import Line
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


def headers(peek: Peek, now: int, rate: Rate, *, draft: bool, client_slots: int) -> list[Header]:
    """What is left of a client's pace. `now` is in microseconds, on the pace's clock.

    OpenAI's three headers always; with `draft`, the IETF draft's two as well (draft-ietf-httpapi-ratelimit-headers).
    """
    wait = max(0, peek.free_at - now)
    found: list[Header] = [
        (b"x-ratelimit-limit-requests", str(rate.max_waiting + 1).encode()),
        (b"x-ratelimit-remaining-requests", str(peek.remaining).encode()),
        (b"x-ratelimit-reset-requests", _duration(wait).encode()),
    ]
    if draft:
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


class WhyLimited:
    """The handler of GET /api/limits."""

    def __init__(self, admission: Admission, identify: Callable[[Exchange], Identity], caps: Caps) -> None:
        self._admission = admission
        self._identify = identify
        self._caps = caps

    async def __call__(self, exchange: Exchange) -> None:
        identity = self._identify(exchange)
        now = asyncio.get_running_loop().time()
        body = {
            "client": {"address": masked(identity.key), "seen_in": identity.via, "share": identity.key.share},
            "pace": self._pace(identity, now),
            "asks": _asks(self._admission.line, identity, now),
            "caps": self._caps,
        }
        exchange.send(200, msgspec.json.encode(body), headers=((b"cache-control", b"no-store"),))

    def _pace(self, identity: Identity, now: float) -> dict[str, float] | None:
        rate = self._admission.rate
        if rate is None:
            return None
        instant = int(now * MICROSECONDS)
        peek = self._admission.paces.peek(identity.key, instant, rate)
        return {
            "interval_seconds": rate.interval / MICROSECONDS,
            "free_in_seconds": max(0, peek.free_at - instant) / MICROSECONDS,
            "remaining": peek.remaining,
        }


def _asks(line: Line, identity: Identity, now: float) -> list[dict[str, float | None]]:
    """The client's own asks in line, in order of joining."""
    found: list[dict[str, float | None]] = []
    for place in line.asks(identity.key):
        forecast = line.forecast(place, now)
        waited = round(now - place.joined_at, 3)
        eta = None if forecast.wait is None else round(forecast.wait, 3)
        found.append({"position": forecast.position, "eta_seconds": eta, "waited_seconds": waited})
    return found
