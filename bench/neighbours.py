"""One polite client beside eight flooding processes, on the real API with the real embedded engine.

    scripts/bench neighbours [--seconds 60] [--flooders 8] [--engine embedded]

Every process comes from a loopback address of its own (127.0.x.1), so each is a client in a block of its own. The
polite one asks every 6 seconds; a flooder always has as many asks open as it may. Prints the polite client's
first-token times alone, under first-come order and under the fair line. Bounded in time; ends what it started.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

ROOT = Path(__file__).parent.parent
POLITE_EVERY = 6.0
"""Seconds. Whoever asks for more than a ninth of what the engine can do is not polite: a line of its own would grow
under any order."""
TOKENS = 32
OPEN = 8
"""Asks that a flooder has open at a time: what one client may have waiting."""


async def first_token(url: str, source: str) -> float | None:
    """Seconds from the ask to its first token; None when it was refused."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, local_addr=(source, 0))
    said = {"role": "user", "content": f"Tell me of the number {time.monotonic_ns() % 9973}."}
    body = json.dumps({"messages": [said], "max_tokens": TOKENS}).encode()
    head = f"POST /api HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    began = time.perf_counter()
    first = None
    try:
        writer.write(head.encode() + body)
        async for line in reader:
            if first is None and line.startswith(b"data: ") and _says_something(line):
                first = time.perf_counter() - began
    except ConnectionError:
        pass
    finally:
        writer.close()
    return first


def _says_something(line: bytes) -> bool:
    """Whether a frame has text: heartbeats and the opening frame have none."""
    try:
        choices = json.loads(line[6:]).get("choices", ())
    except (ValueError, AttributeError):
        return False
    return any(choice["delta"].get("content") for choice in choices)


async def be_polite(url: str, seconds: float) -> list[float | None]:
    """Ask at a steady pace, whatever the answers take."""
    tasks = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        tasks.append(asyncio.create_task(first_token(url, "127.0.200.1")))
        await asyncio.sleep(POLITE_EVERY)
    return list(await asyncio.gather(*tasks))


async def flood(url: str, source: str, seconds: float) -> int:
    """Always have OPEN asks under way. Gives how many were answered."""
    end = time.monotonic() + seconds

    async def again_and_again() -> int:
        answered = 0
        while time.monotonic() < end:
            if await first_token(url, source) is None:
                await asyncio.sleep(0.5)
            else:
                answered += 1
        return answered

    return sum(await asyncio.gather(*(again_and_again() for _ in range(OPEN))))


def serve(module: str, engine: str, *more: str) -> tuple[subprocess.Popen[str], str]:
    """A server, by the module that starts it, and its address."""
    command = [sys.executable, "-m", module, "serve", "--port=0", "--admin-port=0", "--log-format=json"]
    flags = [f"--engine={engine}", "--wait-limit=600", "--grace=0", *more]
    server = subprocess.Popen(
        [*command, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert server.stderr is not None
    for said in server.stderr:
        if found := re.search(r'"address":"([^"]+)"', said):
            return server, found.group(1)
    raise RuntimeError("the server did not start")


def _scene(module: str, engine: str, seconds: float, flooders: int) -> tuple[list[float | None], list[int]]:
    server, url = serve(module, engine)
    command = [sys.executable, "-m", "bench.neighbours", "--flood", url, "--seconds", str(seconds + 5)]
    others: list[subprocess.Popen[str]] = []
    try:
        for number in range(1, flooders + 1):
            source = f"127.0.{number}.1"
            others.append(subprocess.Popen([*command, "--source", source], stdout=subprocess.PIPE, text=True, cwd=ROOT))
        time.sleep(5 if flooders else 0)  # the flood is standing when the polite client comes
        firsts = asyncio.run(be_polite(url, seconds))
        answered = [int(other.communicate(timeout=seconds + 600)[0] or 0) for other in others]
    finally:
        for process in (*others, server):
            process.kill()
            process.wait()
    return firsts, answered


def _row(name: str, firsts: Sequence[float | None], answered: Sequence[int]) -> str:
    known = sorted(first for first in firsts if first is not None)
    refused = len(firsts) - len(known)
    p99 = known[min(len(known) - 1, int(len(known) * 0.99))] if known else float("nan")
    middle = median(known) if known else float("nan")
    floods = f"{min(answered)} to {max(answered)}" if answered else "-"
    return f"{name:<14}{len(firsts):>6}{refused:>9}{middle:>12.2f}{p99:>12.2f}   {floods}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--flooders", type=int, default=8)
    parser.add_argument("--engine", default="embedded")
    parser.add_argument("--flood", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--source", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.flood:
        print(asyncio.run(flood(given.flood, given.source, given.seconds)))
        return
    print(f"polite client, one ask of {TOKENS} tokens every {POLITE_EVERY:g} s for {given.seconds:g} s, {given.engine}")
    print(f"{'':<14}{'asks':>6}{'refused':>9}{'first p50 s':>12}{'p99 s':>12}   answers per flooder")
    for name, module, flooders in (
        ("alone", "standpipe", 0),
        ("fifo", "bench.fairness.turns", given.flooders),
        ("fair", "standpipe", given.flooders),
    ):
        firsts, answered = _scene(module, given.engine, given.seconds, flooders)
        print(_row(name, firsts, answered), flush=True)


if __name__ == "__main__":
    main()
