"""A polite client beside those that send megabytes, or promise them: what large bodies cost everybody else.

Part of `bench.hostile`. A thousand connections, each from an address of its own, claim 8 MiB and send 2 KiB of it a
second, and come back when they are cut; eight more addresses send 8 MiB of text as fast as they are let. The polite
client asks on the real API with the pretend engine, ten small asks a second, and every other second one of a megabyte.
Printed are its times alone and beside them, and the server's memory.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections import Counter
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

from bench.neighbours import serve

SLOW, FAST = 1000, 8
PAUSE = 0.1
"""Seconds between two polite asks."""
LARGE_EVERY = 20
"""Polite asks from one of a megabyte to the next."""
WARM_UP = 8.0
SIZE = 8_388_000
_SAID = b'{"stream":false,"max_tokens":1,"messages":[{"role":"user","content":"%b"}]}'


def request(size: int) -> bytes:
    """An ask with a body of about so many bytes."""
    body = _SAID % (b"word " * (size // 5))
    return b"POST /api HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def ask(port: int, source: str, data: bytes) -> int:
    """The status of the answer; 0 where there was none."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    except OSError:
        return 0
    try:
        writer.write(data)
        return int((await asyncio.wait_for(reader.readline(), 60)).split()[1])
    except (OSError, IndexError, TimeoutError):
        return 0
    finally:
        writer.close()


async def slow(port: int, number: int, seen: Counter[int]) -> None:
    """Claim much and send little, for ever."""
    source = f"127.{10 + number // 200}.{number % 200}.9"
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            writer.write(b"POST /api HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % SIZE)
            while not reader.at_eof():
                writer.write(b"x" * 2048)
                try:
                    seen[int((await asyncio.wait_for(reader.readline(), 1.0)).split()[1])] += 1
                    break
                except TimeoutError:
                    continue
            writer.close()
        except (OSError, IndexError):
            await asyncio.sleep(1.0)


async def fast(port: int, number: int, seen: Counter[int]) -> None:
    """Send as much as is taken, for ever."""
    data = request(SIZE)
    while True:
        seen[await ask(port, f"127.{100 + number}.1.9", data)] += 1
        await asyncio.sleep(0.5)


async def misbehave(port: int, seconds: float, told: Connection) -> None:
    """All bad clients, in a process of their own that runs when nobody else does; tells what they got."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    seen: Counter[int] = Counter()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for number in range(SLOW):
                group.create_task(slow(port, number, seen))
            for number in range(FAST):
                group.create_task(fast(port, number, seen))
    told.send(dict(seen.most_common()))


def resident(pid: int) -> int:
    """MiB of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


async def measure(port: int, pid: int, seconds: float) -> None:
    """The polite client's times, printed."""
    small: list[float] = []
    large: list[float] = []
    failed = most = 0
    end = time.monotonic() + seconds
    for turn in count():
        if time.monotonic() > end:
            break
        big = turn % LARGE_EVERY == 0
        data, begun = request(1_000_000 if big else 10), time.monotonic()
        failed += await ask(port, "127.0.200.1", data) != 200
        (large if big else small).append(time.monotonic() - begun)
        most = max(most, resident(pid))
        await asyncio.sleep(PAUSE)
    small.sort()
    p50, p99, slowest = small[len(small) // 2], small[len(small) * 99 // 100], max(large)
    print(f"  small p50 {p50 * 1e3:6.1f} ms  p99 {p99 * 1e3:6.1f} ms   1 MB at most {slowest * 1e3:6.0f} ms   ", end="")
    print(f"{failed} failed   server at most {most} MiB", flush=True)


def run(seconds: float) -> None:
    """Measure alone, then beside large bodies, on one server."""
    server, url = serve("standpipe", "scripted:", "--pace-interval=0.05")
    try:
        print("polite client alone")
        port = urlsplit(url).port or 80
        asyncio.run(measure(port, server.pid, seconds))
        here, there = multiprocessing.Pipe()
        bad = multiprocessing.Process(
            target=lambda: asyncio.run(misbehave(port, WARM_UP + seconds, there)), daemon=True
        )
        bad.start()
        time.sleep(WARM_UP)
        print(f"beside {SLOW} that claim 8 MiB and {FAST} that send it")
        asyncio.run(measure(port, server.pid, seconds))
        print(f"  the large bodies got {here.recv() if here.poll(30) else 'nothing'} (0: cut)")
        bad.terminate()
    finally:
        server.terminate()
        server.communicate(timeout=30)
