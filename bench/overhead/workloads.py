"""The rows of the comparison: which load each one is, what is read from it, and what Standpipe aims at.

A stream's event is 256 bytes, a whole answer 1 KiB, as the mock engine sends them. Peers that are far too slow for a
row's load get the smaller one in `slow`, or sit out where that says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

EVENT_TEXT = 44
"""Characters of text that make the mock's event 256 bytes long."""
WHOLE_TEXT = 734
"""Characters of text that make the mock's whole answer 1,024 bytes long."""


class Metric(Struct, frozen=True):
    """One number of a row. `target` is what we aim at."""

    name: str
    title: str
    digits: int = 1
    more_is_better: bool = False
    target: float | None = None


class Row(Struct, frozen=True):
    """One row. `load` are options of the generator; `unit` is what CPU is divided by. Times in ms."""

    name: str
    about: str
    metrics: tuple[Metric, ...]
    load: Mapping[str, int] = {}
    slow: Mapping[str, int] | None = {}
    """What slow peers get instead; None: they sit out."""
    quick: bool = True
    """Whether the quick mode has it."""

    @property
    def unit(self) -> str:
        return "chunk" if self.load.get("chunks", 1) > 1 else "request"


class Sample(Struct, frozen=True):
    """One gateway in one row, once. `values` are named as the row's metrics are, and more of them."""

    gateway: str
    row: str
    values: dict[str, float]
    errors: int = 0
    unfinished: int = 0
    first_error: str = ""


_STREAM = {"stream": 1, "text": EVENT_TEXT}
_PACED = {**_STREAM, "chunks": 100, "interval": 20}

ROWS = (
    Row(
        name="plain",
        about="whole answer of 1 KiB, 32 connections",
        load={"connections": 32, "text": WHOLE_TEXT},
        metrics=(
            Metric("cpu_us", "us/request", target=75),
            Metric("per_second", "request/s", 0, more_is_better=True),
        ),
    ),
    Row(
        name="short",
        about="stream of one chunk, 32 connections",
        load={**_STREAM, "connections": 32},
        slow={"connections": 8},
        metrics=(
            Metric("cpu_us", "us/stream", target=95),
            Metric("per_second", "stream/s", 0, more_is_better=True),
        ),
    ),
    Row(
        name="burst",
        about="200 chunks without delay, 32 connections",
        load={**_STREAM, "connections": 32, "chunks": 200},
        slow={"connections": 4},
        metrics=(
            Metric("cpu_us", "us/chunk", 2, target=8),
            Metric("per_second", "chunk/s", 0, more_is_better=True),
        ),
    ),
    Row(
        name="paced",
        about="500 streams of 50 chunks/s",
        load={**_PACED, "connections": 500, "ramp": 1000},
        slow={"connections": 10},
        metrics=(
            Metric("cpu_us", "us/chunk", target=28),
            Metric("transit_p50_ms", "transit p50 ms", 2),
            Metric("transit_p99_ms", "p99"),
        ),
    ),
    Row(
        name="gentle",
        about="100 short streams/s, open loop: first text later than direct",
        load={**_STREAM, "chunks": 5, "interval": 20, "rate": 100, "connections": 400, "settle": 500},
        slow={"rate": 20},
        metrics=(
            Metric("first_p50_ms", "first p50 ms", 2),
            Metric("added_p50_ms", "added p50 ms", 2, target=0.7),
            Metric("added_p99_ms", "p99 ms", 2, target=3),
        ),
    ),
    Row(
        name="saturation",
        about="2,000 streams of 50 chunks/s: 100,000 chunks/s are offered",
        load={**_PACED, "connections": 2000, "ramp": 2000, "settle": 1000, "duration": 9000},
        slow=None,
        quick=False,
        metrics=(
            Metric("per_second", "chunk/s", 0, more_is_better=True, target=60_000),
            Metric("cpu_us", "us/chunk"),
            Metric("first_p50_ms", "first p50 ms", 0),
            Metric("first_p99_ms", "p99 ms", 0, target=500),
            Metric("transit_p99_ms", "transit p99 ms", 0),
        ),
    ),
    Row(
        name="memory",
        about="2,000 open streams of one chunk/s",
        load={**_STREAM, "chunks": 60, "interval": 1000, "connections": 2000, "ramp": 2000, "duration": 8000},
        slow={"connections": 50, "ramp": 4000},
        metrics=(Metric("kib_per_stream", "KiB/stream", target=8),),
    ),
    Row(
        name="cancel",
        about="the client leaves: until the engine's connection is closed (-: never, within 1 s)",
        slow={},
        metrics=(
            Metric("before_ms", "before 1st byte ms", target=20),
            Metric("after_ms", "mid-stream ms", target=20),
            Metric("whole_ms", "not streamed ms", target=20),
        ),
    ),
    Row(
        name="start",
        about="cold start to the first answered ask, and memory then",
        slow={},
        metrics=(
            Metric("cold_s", "cold s", 2, target=0.4),
            Metric("idle_mib", "idle MiB", 0, target=40),
        ),
    ),
)


def options(row: Row, slow: bool, duration: int) -> dict[str, int]:
    """The generator's options for this row, `duration` in ms after the ramp."""
    settle = row.load.get("settle", 0)
    return {"duration": duration + settle, **row.load, **((row.slow or {}) if slow else {})}
