"""A polite client beside one that sends poison: small asks that would keep an embedded engine computing for ever.

Part of `bench.hostile`. One address keeps six such asks open at a time, on the real API with the real embedded engine;
the polite client asks from another one. Printed are its first-token times alone and beside them, what became of the
poison, and how often the engine's process ended.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from bench.neighbours import first_token, serve

OPEN = 6
"""Poisoned asks that are open at a time."""
POLITE_EVERY = 2.0
"""Seconds between two polite asks."""
WARM_UP = 10.0
"""Seconds before anything is measured: at its start the engine is probed."""
_SOURCE, _POLITE = "127.0.66.1", "127.0.200.1"
_COUNTS = [{"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": k, "maxItems": k} for k in range(1, 9)]
_NESTED = {"$defs": {"a": {"anyOf": _COUNTS}}, "$ref": "#/$defs/a"}
_PATTERN = {"type": "object", "properties": {"a": {"type": "string", "pattern": f"^a{'+' * 100}"}}, "required": ["a"]}


def poisons() -> list[bytes]:
    """Each schema as a format and as the parameters of a tool that must be called."""
    said = {"messages": [{"role": "user", "content": "x"}]}
    found = []
    for schema in (_NESTED, _PATTERN):
        form = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}
        tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
        found += [said | {"response_format": form}, said | {"tools": [tool], "tool_choice": "required"}]
    return [json.dumps(body).encode() for body in found]


async def poison(url: str, body: bytes) -> str:
    """What became of one poisoned ask: its status, or `cut`."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, local_addr=(_SOURCE, 0))
    head = f"POST /api HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    try:
        writer.write(head.encode() + body)
        answer = await reader.read()
        return answer[9:12].decode() or "cut"
    except ConnectionError:
        return "cut"
    finally:
        writer.close()


async def be_bad(url: str, until: float, seen: Counter[str]) -> None:
    """Keep one poisoned ask open."""
    bodies = poisons()
    while time.monotonic() < until:
        for body in bodies:
            seen[await poison(url, body)] += 1
        await asyncio.sleep(0.05)


async def measure(url: str, seconds: float, seen: Counter[str] | None) -> list[float | None]:
    """The polite client's seconds to a first token; None for an ask that failed. Beside poison if `seen` counts it."""
    end = time.monotonic() + seconds
    bad = [asyncio.create_task(be_bad(url, end, seen)) for _ in range(OPEN)] if seen is not None else []
    polite = []
    while time.monotonic() < end:
        polite.append(asyncio.create_task(first_token(url, _POLITE)))
        await asyncio.sleep(POLITE_EVERY)
    firsts = list(await asyncio.gather(*polite))
    for task in bad:
        task.cancel()
    await asyncio.gather(*bad, return_exceptions=True)
    return firsts


def _row(name: str, firsts: Sequence[float | None]) -> float:
    known = sorted(first for first in firsts if first is not None)
    p99 = known[len(known) * 99 // 100] if known else float("nan")
    p50 = median(known) if known else float("nan")
    failed = len(firsts) - len(known)
    print(
        f"{name:<28}{len(firsts):>4} asks, {failed} failed   first token p50 {p50:.2f} s   p99 {p99:.2f} s", flush=True
    )
    return p99


def run(seconds: float, engine: str) -> None:
    """Measure alone, then beside poison, on one server."""
    seen: Counter[str] = Counter()
    server, url = serve("standpipe", engine, "--pace-interval=0")
    try:
        asyncio.run(measure(url, WARM_UP, None))
        alone = _row("polite client alone", asyncio.run(measure(url, seconds, None)))
        beside = _row(f"beside {OPEN} poisoned asks", asyncio.run(measure(url, seconds, seen)))
        told: dict[str, Any] = dict(seen.most_common())
        print(f"p99 ratio {beside / alone:.2f}   the poison got {told}")
    finally:
        server.terminate()
        try:
            _, log = server.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            _, log = server.communicate()
    ended = sum("is gone" in line for line in log.splitlines())
    print(f"the engine's process ended {ended} times")
