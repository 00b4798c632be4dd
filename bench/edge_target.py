"""What the hostile bench and the soak aim at: the edge with the smallest handlers that stream.

    python -m bench.edge_target      serves on a port of the system's choice, and prints it

`/first` answers with one chunk at once and then ends; `/stream` goes on for ever, at a settable pace, held back by
its reader; `/flood` does so as fast as its reader takes it; `/echo` gives a body back. The caps per client are the
defaults: attackers that want to be many must come from many addresses, and on loopback they have as many as they like.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import signal
import sys
import time
from collections import Counter

import uvloop

from bench.turns import TracedLoop
from standpipe.edge.config import EdgeConfig
from standpipe.edge.listen import open_tcp
from standpipe.edge.seam import BodyTooLarge, BodyTooSlow, Refusal, Reply, Request
from standpipe.edge.server import Server
from standpipe.policy.identity import Trust

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"x" * 200 + b'"}}]}\n\n'
STREAM = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"))


class Gate:
    """A stream's source, which waits while its reader is behind."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    def pause(self) -> None:
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        await self._open.wait()


class Pulse:
    """How long the loop is busy at a stretch, in processor time: what a newcomer waits for whatever else the machine
    does."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turns: Counter[int] = Counter()
        """By tenths of a millisecond."""
        self._beat(time.thread_time())

    def _beat(self, since: float) -> None:
        now = time.thread_time()
        self._turns[math.ceil((now - since) * 1e4)] += 1
        self._loop.call_later(0.002, self._beat, now)

    def __str__(self) -> str:
        left = self._turns.total() / 100
        for within in sorted(self._turns, reverse=True):
            left -= self._turns[within]
            if left < 0:
                break
        return f"turns of the loop: 99 % within {within / 10:.1f} ms, longest {max(self._turns) / 10:.1f} ms"


class Handler:
    """The paths."""

    def __init__(self, pause: float) -> None:
        """`pause`: seconds between two events of a stream."""
        self._pause = pause

    async def __call__(self, request: Request, reply: Reply) -> None:
        if request.path in {"/stream", "/flood"}:
            flood = request.path == "/flood"
            await self._stream(reply, EVENT * 32 if flood else EVENT, 0.0 if flood else self._pause)
            return
        try:
            body = await request.body(262_144)
        except (BodyTooLarge, BodyTooSlow) as error:
            body, status = str(error).encode(), 413 if isinstance(error, BodyTooLarge) else 408
        else:
            status = 200
        reply.start(status, STREAM)
        reply.write(body or EVENT)
        reply.end()

    async def _stream(self, reply: Reply, events: bytes, pause: float) -> None:
        gate = Gate()
        reply.start(200, STREAM)
        reply.throttle(gate)
        while True:
            reply.write(events)
            await asyncio.sleep(pause)
            await gate.passed()


def refuse(status: int, reason: str) -> Refusal:
    """A refusal in a few bytes."""
    return Refusal(status, ((b"content-type", b"text/plain"),), reason.encode())


async def serve(pause: float, config: EdgeConfig) -> None:
    """Serve until SIGTERM, then drain, and print what happened."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)  # as the real server does
    pulse = Pulse()
    server = Server(Handler(pause), refuse, config, Trust())
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    (sock,) = open_tcp("127.0.0.1", 0)
    server.start([sock])
    print(sock.getsockname()[1], flush=True)
    await stop.wait()
    print(server.statistics(), pulse, sep="\n", flush=True)
    await server.drain(1.0)
    print(f"left: {len(asyncio.all_tasks()) - 1} tasks, {server.statistics().connections} connections", flush=True)


def main() -> int:
    """Serve."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two events of a stream")
    parser.add_argument("--write-timeout", type=float, default=EdgeConfig().write_timeout)
    parser.add_argument("--loop", choices=["uvloop", "asyncio", "traced"], default="uvloop")
    options = parser.parse_args()
    config = EdgeConfig(write_timeout=options.write_timeout)
    if options.loop == "traced":
        with asyncio.Runner(loop_factory=TracedLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, TracedLoop)
            loop.add_signal_handler(signal.SIGUSR1, setattr, loop, "keeps", True)
            loop.add_signal_handler(signal.SIGUSR2, setattr, loop, "keeps", False)
            runner.run(serve(options.pause, config))
        print(loop.told())
        return 0
    run = uvloop.run if options.loop == "uvloop" else asyncio.run
    run(serve(options.pause, config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
