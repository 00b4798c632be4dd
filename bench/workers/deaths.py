"""What is lost when a process ends or is replaced, and how connections are shared out: real kills, every byte checked.

The fleet, its engine and its crowd are those of `tests/chaos`, which plays the same at length. What is added here is
when the engine was asked: every few milliseconds it tells what it has seen.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

from bench.workers.findings import Finding
from tests.chaos.clients import Crowd, Outcome, Result, ask
from tests.chaos.engine import Mode
from tests.chaos.fleet import Fleet

SLOTS = 16
CLIENTS = 40
"""So most of them wait in line at any time."""
_LOOK = 0.01
"""Seconds between two looks at the engine."""
_PATIENCE = 60.0
_NOBODYS = "socket:[0]"
"""What has not been accepted yet."""
_OPEN = 256
"""Connections that are shared out."""
_WORKERS = 4
_LONG = 6
"""Long streams in a rolling restart; the rest of the slots is for the crowd."""
_GAP = 0.01
"""Seconds between two words of theirs."""


class Watch:
    """What the engine had seen, and when."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int, int]] = []
        """(instant, asks until then, asks that run)."""

    async def look(self, fleet: Fleet) -> None:
        """Until cancelled."""
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                counts = await fleet.counts(0)
                self.seen.append((time.monotonic(), counts.asks, counts.running))
            await asyncio.sleep(_LOOK)

    def pause(self, since: float, until: float) -> float:
        """The longest time between two looks that found new asks, in seconds."""
        part = [(at, asks) for at, asks, _ in self.seen if since <= at <= until]
        rises = [at for (_, before), (at, asks) in pairwise(part) if asks > before]
        return max((later - at for at, later in pairwise(rises)), default=float("nan"))

    def refilled(self, since: float) -> float:
        """Seconds until as many asks run as did before `since`, after some were lost. NaN if none were, or never."""
        full = statistics.median(running for at, _, running in self.seen if since - 1.0 <= at < since)
        after = [(at, running) for at, _, running in self.seen if at >= since]
        low = next((at for at, running in after if running < full - 1), float("nan"))
        return next((at for at, running in after if at > low and running >= full), float("nan")) - since


@asynccontextmanager
async def _watched(fleet: Fleet) -> AsyncIterator[Watch]:
    watch = Watch()
    looking = asyncio.create_task(watch.look(fleet))
    try:
        yield watch
    finally:
        looking.cancel()
        await asyncio.wait((looking,))


def connections(port: int) -> set[str]:
    """The accepted connections to this port, as a process names its sockets."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{line[9]}]" for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "01"} - {
        _NOBODYS
    }


def held(pid: int, port: int) -> set[str]:
    """Those that a process holds."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            sockets.add(str(descriptor.readlink()))
    return sockets & connections(port)


async def _until(condition: Callable[[], bool]) -> None:
    """Raises TimeoutError."""
    for _ in range(round(_PATIENCE / _LOOK)):
        if condition():
            return
        await asyncio.sleep(_LOOK)
    raise TimeoutError


def _told(results: Iterable[Result]) -> str:
    counted = Counter(result.outcome for result in results)
    return ", ".join(f"{counted[outcome]} {outcome}" for outcome in Outcome if counted[outcome])


def _lost(results: Iterable[Result]) -> int:
    return sum(result.outcome is not Outcome.WHOLE for result in results)


async def keeper_ends(seconds: float) -> list[Finding]:
    """`kill -9` of the keeper while most clients wait."""
    async with Fleet(1, "--workers=2", slots=SLOTS) as fleet, _watched(fleet) as watch:
        crowd = Crowd(fleet.port, CLIENTS, seed=1)
        asking = asyncio.create_task(crowd.run(seconds))
        await asyncio.sleep(seconds / 2)
        killed = time.monotonic()
        fleet.end("keeper 0")
        await asking
    pause, usual = watch.pause(killed - 0.1, killed + seconds / 2), watch.pause(killed - seconds / 3, killed)
    return [
        Finding("keeper killed: asks cut, refused or lost", _lost(crowd.results), 0, 0, note=_told(crowd.results)),
        Finding("keeper killed: seconds without grants", pause, 0.6, note=f"without a kill {usual:.2f}"),
    ]


async def worker_ends(seconds: float) -> list[Finding]:
    """`kill -9` of a worker. It and the keeper are stopped while its connections are counted: those on their way to it
    are its own as well, and those that are closed meanwhile count as its own."""
    async with Fleet(1, "--workers=2", slots=SLOTS) as fleet, _watched(fleet) as watch:
        crowd = Crowd(fleet.port, CLIENTS, seed=2)
        asking = asyncio.create_task(crowd.run(seconds))
        await asyncio.sleep(seconds / 2)
        worker, keeper, other = (fleet.processes[name] for name in ("worker 0", "keeper 0", "worker 1"))
        os.kill(keeper, signal.SIGSTOP)
        os.kill(worker, signal.SIGSTOP)
        own = len(connections(fleet.port) - held(other, fleet.port) - held(keeper, fleet.port))
        os.kill(worker, signal.SIGKILL)
        os.kill(keeper, signal.SIGCONT)
        killed = time.monotonic()
        await asking
    lost = [result for result in crowd.results if result.outcome is not Outcome.WHOLE]
    others = _lost(result for result in lost if result.outcome is not Outcome.BROKEN)
    note = f"it had {own}; {_told(crowd.results)}"
    return [
        Finding("worker killed: connections reset beyond its own", max(0, len(lost) - others - own), 0, 0, note=note),
        Finding("worker killed: asks of others cut or refused", others, 0, 0),
        Finding("worker killed: seconds until its slots are used", watch.refilled(killed), note="0.25 of them held"),
    ]


async def replaced(seconds: float) -> list[Finding]:
    """SIGUSR2 while long streams of so many seconds run and a crowd waits for the other slots."""
    async with Fleet(1, "--workers=2", slots=SLOTS) as fleet:
        await fleet.tell(0, Mode(gap=_GAP))
        words = round(seconds / _GAP)
        long = [
            asyncio.create_task(ask(fleet.port, 1000 + n, f"long{n}", words, stream=True, patience=seconds * 10))
            for n in range(_LONG)
        ]
        crowd = Crowd(fleet.port, CLIENTS, seed=3)
        asking = asyncio.create_task(crowd.run(seconds))
        await asyncio.sleep(seconds / 4)
        begun, before = time.monotonic(), dict(fleet.processes)
        fleet.signal(signal.SIGUSR2)
        await _until(lambda: any(event["event"] == "processes replaced" for event in fleet.log))
        took, running = time.monotonic() - begun, sum(not task.done() for task in long)
        await asking
        streams = [await task for task in long]
        renewed = sum(fleet.processes[name] != pid for name, pid in before.items())
    note = (
        f"{len(streams)} of {seconds:g} s, {running} still running when {renewed} processes were new, {took:.1f} s on"
    )
    return [
        Finding("SIGUSR2: long streams cut", _lost(streams), 0, 0, note=note),
        Finding("SIGUSR2: others cut, refused or lost", _lost(crowd.results), 0, 0, note=_told(crowd.results)),
    ]


async def shared_out() -> list[Finding]:
    """How evenly open connections lie with the workers."""
    async with Fleet(1, f"--workers={_WORKERS}", slots=SLOTS) as fleet:
        opened: Sequence[socket.socket] = []
        try:
            opened = [socket.create_connection(("127.0.0.1", fleet.port), 5) for _ in range(_OPEN)]
            pids = [pid for name, pid in fleet.processes.items() if name.startswith("worker")]
            await _until(lambda: sum(len(held(pid, fleet.port)) for pid in pids) == _OPEN)
            shares = [len(held(pid, fleet.port)) for pid in pids]
        finally:
            for sock in opened:
                sock.close()
    note = f"{_OPEN} connections: {', '.join(map(str, shares))}"
    return [Finding("connections of a worker, worst / mean", max(shares) / statistics.mean(shares), 1.05, note=note)]


async def findings(seconds: float, long: float) -> list[Finding]:
    """All of it: `seconds` of each load, `long` of each long stream."""
    found = await keeper_ends(seconds) + await worker_ends(seconds)
    return found + await replaced(long) + await shared_out()
