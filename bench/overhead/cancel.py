"""How long an engine goes on working after the client has left: before the first byte, in mid-stream, and in an answer
that is not streamed. The mock engine notes when its connection was closed; both sides read the same clock.
"""

from __future__ import annotations

import http.client
import itertools
import random
import socket
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Struct

from bench.overhead.gateways import Gateway, Place
from bench.overhead.workloads import EVENT_TEXT

TRIES = 10
PATIENCE = 1.0
"""Seconds after which we say never."""
LISTEN = 5.0
"""Seconds that a gateway gets to hand on the first text."""


class Cancelled(Struct, frozen=True):
    """One request that the engine saw cancelled: after how many chunks, and when (us, monotonic)."""

    nonce: int
    sent: int
    at_us: int


class Stats(Struct, frozen=True):
    """What the mock engine has seen (see mock.c)."""

    requests: int
    finished: int
    active: int
    peak: int
    bad: int
    cancelled_before: int
    cancelled_after: int
    cpu_seconds: float
    cancels: list[Cancelled]


class Phase(Struct, frozen=True):
    """When the client leaves: after the first text (`chunks` of it 20 ms apart), or while there is none for 5 s."""

    name: str
    stream: bool
    chunks: int
    first: int


PHASES = (
    Phase("before_ms", stream=True, chunks=1, first=5000),
    Phase("after_ms", stream=True, chunks=250, first=0),
    Phase("whole_ms", stream=False, chunks=1, first=5000),
)


def stats(engine: int) -> Stats:
    """Ask the mock engine at this port."""
    connection = http.client.HTTPConnection("127.0.0.1", engine, timeout=5)
    try:
        connection.request("GET", "/stats")
        return msgspec.json.decode(connection.getresponse().read(), type=Stats)
    finally:
        connection.close()


def request(place: Place, gateway: Gateway, phase: Phase, nonce: int) -> bytes:
    """The whole request, as bytes."""
    work = f"bench:{phase.chunks},20,{phase.first},{EVENT_TEXT},{nonce};"
    ask = {"model": "bench", "messages": [{"role": "user", "content": work}], "stream": phase.stream}
    body = msgspec.json.encode(ask)
    lines = (
        f"POST {gateway.path} HTTP/1.1",
        f"Host: 127.0.0.1:{place.port}",
        "Authorization: Bearer sk-bench",
        "Content-Type: application/json",
        *gateway.headers(place),
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def _leave(place: Place, gateway: Gateway, phase: Phase, nonce: int, engine: int) -> float | None:
    """Ask, leave in this phase, and tell after how many ms the engine knew; None if it did not."""
    with socket.create_connection(("127.0.0.1", place.port), timeout=LISTEN) as client:
        seen = stats(engine).requests
        client.sendall(request(place, gateway, phase, nonce))
        if phase.first:
            _until(lambda: stats(engine).requests > seen)
            time.sleep(0.02)
        else:
            received = b""
            while b" 00001 " not in received and (some := client.recv(65536)):
                received += some
        left = time.monotonic()
    noted = _until(lambda: next((one for one in stats(engine).cancels if one.nonce == nonce), None))
    return None if noted is None else max(noted.at_us / 1000 - left * 1000, 0.0)


Seen = TypeVar("Seen")


def _until(look: Callable[[], Seen]) -> Seen:
    """Look every few ms until something true is seen, or patience ends; what was seen last."""
    deadline = time.monotonic() + PATIENCE
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return seen


def measure_cancel(place: Place, gateway: Gateway, engine: int) -> dict[str, float]:
    """The median of each phase in ms, and how many tries the engine never heard of."""
    values: dict[str, float] = {}
    nonces = itertools.count(random.randrange(1 << 23))
    for phase in PHASES:
        times = [_leave(place, gateway, phase, next(nonces), engine) for _ in range(TRIES)]
        heard = [one for one in times if one is not None]
        values[phase.name.replace("_ms", "_never")] = float(len(times) - len(heard))
        if len(heard) > TRIES / 2:
            values[phase.name] = statistics.median(heard)
            values[phase.name.replace("_ms", "_max_ms")] = max(heard)
    return values
