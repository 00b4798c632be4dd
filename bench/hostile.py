"""A polite client beside thousands of bad ones: what it notices of them, and what they cost.

    python -m bench.hostile [--only connections|bodies|poison] [--loris 5000] [--stalled 1000] [--seconds 20]
                            [--realtime]

First those who hold connections. Two kinds of bad clients, each from an address of its own, so that no cap per client
spares the server: slow loris sends a request's head byte by byte, a stalled reader asks for a stream that comes as fast
as it is read, and never reads it. Both come back when they are cut. They do not keep step with each other, as strangers
don't. The polite client asks for a first chunk 50 times a second, first alone, then beside them. Printed are its
first-chunk times in both, their ratio, and how the server's memory grew. Then those who send megabytes, or promise
them (`bench.large_bodies`), and those who send poison to an embedded engine (`bench.poison`).
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
import time
from itertools import count
from multiprocessing.synchronize import Event
from pathlib import Path

from bench import large_bodies, poison

HEAD = b"GET /first HTTP/1.1\r\nHost: x\r\n"
POLITE_PAUSE = 0.02
RAMP = 8.0
"""Seconds in which the bad clients come, one after the other."""
TURNS = 500
"""Into so many parts of a second what they do is spread."""
WARM_UP = 5.0
"""Seconds between the first bad client and the first measurement beside them."""
Times = list[float]


def source(number: int) -> tuple[str, int]:
    """One of many addresses of this machine, at most 100 in one /24."""
    return f"127.{1 + number // 25_000}.{number // 100 % 250}.{1 + number % 100}", 0


def knock(port: int, number: int) -> socket.socket:
    """A connection from an address of its own, with as little kernel memory for what comes in as can be had."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.bind(source(number))
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


def loris(port: int, many: int, ready: Event) -> None:
    """Keep `many` heads growing by one byte a second."""
    step_back()
    numbers = count()
    heads: list[socket.socket] = []
    for turn in range(1 << 30):
        begun = time.monotonic()
        for _ in range(newcomers(len(heads), many, ready)):
            heads.append(knock(port, next(numbers) % 200_000))
            heads[-1].send(HEAD)
        for place in range(turn % TURNS, len(heads), TURNS):
            try:
                heads[place].send(b"x")
            except OSError:
                heads[place].close()
                heads[place] = knock(port, next(numbers) % 200_000)
                heads[place].send(HEAD)
        time.sleep(max(0.0, begun + 1 / TURNS - time.monotonic()))


def stalled(port: int, many: int, ready: Event) -> None:
    """Keep `many` streams unread."""
    step_back()
    numbers = count(200_000)
    watch = select.poll()
    streams: dict[int, socket.socket] = {}
    while True:
        for _ in range(newcomers(len(streams), many, ready)):
            sock = knock(port, next(numbers) % 400_000)
            sock.send(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
            streams[sock.fileno()] = sock
            watch.register(sock, 0)  # only what cannot be masked: that it was cut
        time.sleep(1 / TURNS)
        for descriptor, _ in watch.poll(0):
            watch.unregister(descriptor)
            streams.pop(descriptor).close()


def step_back() -> None:
    """What bad clients cost their own machine is not to be measured: they run when the polite one does not."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def newcomers(here: int, many: int, ready: Event) -> int:
    """How many come in this turn, so that all come within the ramp."""
    if here >= many:
        ready.set()
    return min(many - here, math.ceil(many / RAMP / TURNS))


def polite(port: int, seconds: float) -> Times:
    """Seconds from each request to its first chunk, sorted."""
    times: Times = []
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for turn in range(int(seconds / POLITE_PAUSE)):
            if turn % 500 == 499:  # stay well within the asks of one connection
                sock.close()
                sock = socket.create_connection(("127.0.0.1", port))  # noqa: PLW2901  # closed by the next turn
            begun = time.monotonic()
            sock.sendall(HEAD + b"\r\n")
            answer = sock.recv(65_536)
            times.append(time.monotonic() - begun)
            while not answer.endswith(b"0\r\n\r\n"):
                answer += sock.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 ")
            time.sleep(POLITE_PAUSE)
    return sorted(times)


def resident(pid: int) -> float:
    """MiB of memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def busy(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def told(times: Times) -> str:
    """Median and 99th percentile, in milliseconds."""
    return f"p50 {times[len(times) // 2] * 1e3:6.2f} ms   p99 {times[len(times) * 99 // 100] * 1e3:6.2f} ms"


def measure(port: int, pid: int, options: argparse.Namespace) -> None:
    """Alone, then beside them; print both."""
    alone = polite(port, options.seconds)
    before = resident(pid)
    print(f"polite client alone                {told(alone)}   server {before:.1f} MiB", flush=True)
    context = multiprocessing.get_context("fork")
    attacks = [(loris, options.loris), (stalled, options.stalled)]
    events = [context.Event() for _ in attacks]
    bad = [
        context.Process(target=kind, args=(port, many, event), daemon=True)
        for (kind, many), event in zip(attacks, events, strict=True)
    ]
    for process in bad:
        process.start()
    try:
        for event in events:
            event.wait(60)
        time.sleep(WARM_UP)
        used, begun = busy(pid), time.monotonic()
        if options.loop == "traced":
            os.kill(pid, signal.SIGUSR1)
        beside = polite(port, options.seconds)
        if options.loop == "traced":
            os.kill(pid, signal.SIGUSR2)
        share = (busy(pid) - used) / (time.monotonic() - begun)
        after = resident(pid)
    finally:
        for process in bad:
            process.terminate()
            process.join()
    ratio = beside[len(beside) * 99 // 100] / alone[len(alone) * 99 // 100]
    print(f"beside {options.loris} loris, {options.stalled} stalled     {told(beside)}   server {after:.1f} MiB")
    print(f"p99 ratio {ratio:.2f}   memory grew by {after - before:.1f} MiB   server used {share:.0%} of a core")


def main() -> int:
    """Run one measurement against a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["connections", "bodies", "poison"], help="one of the parts")
    parser.add_argument("--engine", default="embedded", help="the engine that gets the poison")
    parser.add_argument("--loop", choices=["uvloop", "asyncio", "traced"], default="uvloop")
    parser.add_argument("--loris", type=int, default=5000, help="connections with a head that never ends")
    parser.add_argument("--stalled", type=int, default=1000, help="readers that never read")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of the two measurements")
    parser.add_argument(
        "--realtime", action="store_true", help="server and polite client before all else on this machine (needs root)"
    )
    options = parser.parse_args()
    if options.only in {None, "connections"}:
        _connections(options)
    if options.only in {None, "bodies"}:
        large_bodies.run(options.seconds)
    if options.only in {None, "poison"}:
        poison.run(options.seconds, options.engine)
    return 0


def _connections(options: argparse.Namespace) -> None:
    cores = os.sched_getaffinity(0)
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    command = [sys.executable, "-m", "bench.edge_target", "--loop", options.loop]
    first, *others = sorted(cores)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        if others:  # the server has one core, all clients have the rest
            os.sched_setaffinity(server.pid, {first})
            os.sched_setaffinity(0, others)
        try:
            measure(int(server.stdout.readline()), server.pid, options)
        finally:
            server.send_signal(signal.SIGTERM)
            print(server.stdout.read(), end="")
            os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    sys.exit(main())
