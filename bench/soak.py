"""Good and bad clients for a long time, and then: is anything left?

    python -m bench.soak [--minutes 10]

Every client of a mixed crowd does its kind of thing again and again: the good ones check every byte of what they get,
the bad ones leave in mid-stream, never read, send half a body, nonsense or a reset. Once all have gone, the server
must be as it was after its first seconds: no connection, no descriptor and no task more, and no memory that grew with
time. Exits 1 if that is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from bench.edge_target import EVENT
from bench.hostile import resident

HEAD = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
CROWD = 40
"""Clients of each kind."""
MAY_GROW = 8.0
"""MiB between the first measurement and the last."""
SETTLE = 4.0
"""Seconds from the last client's end to the last look."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Kind = Callable[[Streams, random.Random], Awaitable[None]]


async def good(streams: Streams, rng: random.Random) -> None:
    """Ask some times over one connection, and check the echo."""
    reader, writer = streams
    for _ in range(rng.randint(1, 20)):
        body = rng.randbytes(rng.randint(1, 20_000))
        writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        size = int(await reader.readuntil(b"\r\n"), 16)
        assert await reader.readexactly(size) == body
        assert await reader.readexactly(7) == b"\r\n0\r\n\r\n"


async def listener(streams: Streams, rng: random.Random) -> None:
    """Listen to a stream for a while, and leave."""
    reader, writer = streams
    writer.write(HEAD % b"/stream")
    await reader.readuntil(b"\r\n\r\n")
    for _ in range(rng.randint(1, 20)):
        assert await reader.readexactly(len(CHUNK)) == CHUNK


async def resetter(streams: Streams, rng: random.Random) -> None:
    """Leave a stream with a reset."""
    await listener(streams, rng)
    sock = streams[1].get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


async def staller(streams: Streams, rng: random.Random) -> None:
    """Ask for streams and read none of them, until cut."""
    reader, writer = streams
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that also reads
    writer.write(HEAD % b"/stream" * 3)
    await asyncio.sleep(rng.uniform(1, 8))
    reader.feed_eof()


async def loris(streams: Streams, rng: random.Random) -> None:
    """Send a head byte by byte, and give up at some time."""
    _, writer = streams
    writer.write(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(rng.randint(1, 150)):
        if writer.transport.is_closing():
            return
        writer.write(b"x")
        await asyncio.sleep(0.1)


async def half(streams: Streams, rng: random.Random) -> None:
    """Send half a body, and leave or wait for what comes."""
    reader, writer = streams
    writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)
    if rng.random() < 0.5:
        await asyncio.sleep(rng.uniform(0, 0.5))
    else:
        await reader.read()


async def nonsense(streams: Streams, rng: random.Random) -> None:
    """Send bytes that are no request, more and more of them, and read the refusal."""
    reader, writer = streams
    writer.write(
        rng.choice(
            [b"", b"GET / HTTP/1.1\r\n", b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"]
        )
    )
    writer.write(rng.randbytes(1000 * rng.randint(1, 50)))
    await reader.read()


KINDS: tuple[Kind, ...] = (good, listener, resetter, staller, loris, half, nonsense)


async def live(port: int, kind: Kind, number: int, until: float, tally: Counter[str]) -> None:
    """One client's life: connect from an address of its own, do its thing, leave, again."""
    rng = random.Random(number)
    source = (f"127.{10 + number // 200}.{number % 20}.{1 + number % 200}", 0)
    while time.monotonic() < until:
        streams = await asyncio.open_connection("127.0.0.1", port, local_addr=source)
        try:
            await kind(streams, rng)
        except (ConnectionError, asyncio.IncompleteReadError):
            tally[f"{kind.__name__}, cut"] += 1
            assert kind is not good, "a good client was cut"
        else:
            tally[kind.__name__] += 1
        finally:
            streams[1].transport.abort()


async def crowd(port: int, seconds: float) -> Counter[str]:
    """All kinds, for so long. Gives back how often each did its thing."""
    tally: Counter[str] = Counter()
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(CROWD * len(KINDS)):
            group.create_task(live(port, KINDS[number % len(KINDS)], number, until, tally))
    return tally


def look(pid: int) -> tuple[int, float]:
    """How many descriptors a process has open, and its memory in MiB."""
    return len(os.listdir(f"/proc/{pid}/fd")), resident(pid)  # noqa: PTH208  # names alone are wanted


def main() -> int:
    """Run a crowd for a little, look, run it for long, look again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    options = parser.parse_args()
    command = [
        sys.executable,
        "-m",
        "bench.edge_target",
        "--pause",
        "0.01",
        "--write-timeout",
        "3",
        "--loop",
        options.loop,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            tally = asyncio.run(crowd(port, options.minutes * 6))  # a tenth of the time, to warm up
            time.sleep(SETTLE)
            files, memory = look(server.pid)
            print(f"after warming up: {files} descriptors, {memory:.1f} MiB", flush=True)
            tally += asyncio.run(crowd(port, options.minutes * 54))
            time.sleep(SETTLE)
            files_after, memory_after = look(server.pid)
            print(f"after {options.minutes:g} minutes: {files_after} descriptors, {memory_after:.1f} MiB")
        finally:
            server.send_signal(signal.SIGTERM)
            words = server.stdout.read()
    print(", ".join(f"{name} {count}" for name, count in sorted(tally.items())))
    print(words, end="")
    clean = files_after == files and memory_after - memory < MAY_GROW and "left: 0 tasks, 0 connections" in words
    print("nothing is left" if clean else "SOMETHING IS LEFT")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
