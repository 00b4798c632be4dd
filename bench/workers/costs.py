"""What it costs: one process, one worker with its keeper, and two, under the same loads in interleaved rounds.

All taps run at the same time, and one of them is loaded at a time, so that a busy moment hits none alone. Nothing is
pinned: what several processes gain is what the kernel makes of the cores that there are. CPU is each process's own.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, structs

from bench.overhead import accounting
from bench.overhead.gateways import Gateway, standpipe
from bench.overhead.measure import Running, Stand
from bench.overhead.processes import Child, cores
from bench.overhead.workloads import EVENT_TEXT, ROWS, Metric, Row, options
from bench.workers.findings import Finding

ONE, WORKER, TWO = "one process", "1 worker", "2 workers"
TAPS = {ONE: "1", WORKER: "auto", TWO: "2"}
"""Their `--workers`; `auto` is one worker where two cores are allowed."""
_CHUNKS = Row(
    name="chunks",
    about="100 streams of 50 chunks/s",
    load={"stream": 1, "text": EVENT_TEXT, "chunks": 100, "interval": 20, "connections": 100, "ramp": 1000},
    metrics=(Metric("cpu_us", "us/chunk"),),
)
LOADS = (*(row for row in ROWS if row.name in {"plain", "gentle"}), _CHUNKS)
_PATIENCE = 30.0


class Lap(Struct, frozen=True):
    """One tap under one load. `cpu` is by process, in us for each ask or chunk that came back right."""

    per_second: float
    first_p50: float
    """Milliseconds; NaN where nobody streams."""
    cpu: Mapping[str, float]
    wrong: int


Laps = Mapping[tuple[str, str], Sequence[Lap]]
"""(tap, load) to its rounds."""


def _gateway(name: str) -> Gateway:
    gateway = standpipe(name.replace(" ", "-"), "uvloop", f"--workers={TAPS[name]}")
    if name != WORKER:
        return gateway
    command, two = gateway.command, ",".join(map(str, cores()))
    assert command is not None
    return structs.replace(gateway, command=lambda place: ["taskset", "-c", two, *command(place)])


def processes(child: Child, workers: str) -> dict[str, int]:
    """The pids of a tap by name, as its log tells them; of a single process, its own as `ONE`."""
    if workers == "1":
        return {ONE: child.pid}
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        child.check_alive()
        events = [json.loads(line) for line in child.log.read_text().splitlines() if line.startswith("{")]
        if any(event["event"] == "all processes serve" for event in events):
            told = {event["process"]: event["pid"] for event in events if event["event"] == "process serves"}
            return {"supervisor": child.pid, **told}
        time.sleep(0.02)
    raise TimeoutError(child.last_words())


class Costs:
    """The taps, and what they were measured at."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._running: dict[str, tuple[Running, dict[str, int]]] = {}
        self.laps: defaultdict[tuple[str, str], list[Lap]] = defaultdict(list)
        self.memory: dict[str, dict[str, int]] = {}
        """By tap and process, in bytes, each tap alone."""

    def run(self, rounds: int, duration: int) -> None:
        """Everything; `duration` of one load in ms."""
        for name in TAPS:
            running, pids = self._start(name)
            time.sleep(0.5)
            self.memory[name] = {process: accounting.proportional(pid) for process, pid in pids.items()}
            self._stand.end(running)
        self._running = {name: self._start(name) for name in TAPS}
        for number in range(rounds):
            for row in LOADS:
                print(f"{row.name} {number + 1}/{rounds} ...", file=sys.stderr)
                for name in TAPS:
                    self.laps[name, row.name].append(self._lap(name, row, duration))
        for running, _ in self._running.values():
            self._stand.end(running)

    def _start(self, name: str) -> tuple[Running, dict[str, int]]:
        running = self._stand.start(_gateway(name))
        assert running.child is not None
        pids = processes(running.child, TAPS[name])
        self._stand.warm_up(running)
        return running, pids

    def _lap(self, name: str, row: Row, duration: int) -> Lap:
        running, pids = self._running[name]
        before = {process: accounting.cpu(pid) for process, pid in pids.items()}
        load = self._stand.load(running, options(row, slow=False, duration=duration))
        used = {process: accounting.cpu(pid) - before[process] for process, pid in pids.items()}
        count = load.chunks if row.unit == "chunk" else load.requests
        return Lap(
            per_second=load.steady_requests / load.steady_seconds,
            first_p50=load.first_us.p50 / 1000 if load.first_us.count else float("nan"),
            cpu={process: seconds / max(count, 1) * 1e6 for process, seconds in used.items()},
            wrong=load.errors + load.unfinished,
        )


def _cpu(laps: Laps, tap: str, row: str, role: str) -> float:
    """The median of what all of this role in this tap needed."""
    return statistics.median(
        sum(used for process, used in lap.cpu.items() if process.startswith(role)) for lap in laps[tap, row]
    )


def _times(laps: Laps, tap: str, row: str, value: Callable[[Lap], float]) -> float:
    """The median of the rounds' ratios to the one process's round beside it."""
    pairs = zip(laps[tap, row], laps[ONE, row], strict=True)
    return statistics.median(value(one) / value(base) for one, base in pairs)


def findings(laps: Laps, memory: Mapping[str, Mapping[str, int]], count: int) -> list[Finding]:
    """The costs beside their aims, on a machine of so many cores."""
    plain, chunk = _cpu(laps, ONE, "plain", ONE), _cpu(laps, ONE, "chunks", ONE)
    found = []
    for tap in (WORKER, TWO):
        parts = [_cpu(laps, tap, "plain", role) for role in ("worker", "keeper", "supervisor")]
        note = "us: {:.0f}; one process {:.0f}, keeper {:.0f}, supervisor {:.0f}".format(parts[0], plain, *parts[1:])
        found.append(Finding(f"CPU of a worker per plain ask, {tap}", parts[0] / plain, 1.0, note=note))
        found.append(Finding(f"CPU of the keeper per plain ask, {tap}", parts[1] / parts[0], 0.18))
        parts = [_cpu(laps, tap, "chunks", role) for role in ("worker", "keeper", "supervisor")]
        note = "us: {:.1f}; one process {:.1f}, keeper {:.1f}, supervisor {:.1f}".format(parts[0], chunk, *parts[1:])
        found.append(Finding(f"CPU of a worker per chunk, {tap}", parts[0] / chunk, note=note))
        found.append(Finding(f"CPU of the keeper per chunk, {tap}", parts[1] / parts[0], 0.06))
    first = [statistics.median(lap.first_p50 for lap in laps[tap, "gentle"]) for tap in (WORKER, ONE)]
    note = "ms: {:.2f}; one process {:.2f}".format(*first)
    found.append(
        Finding("first text p50, 1 worker", _times(laps, WORKER, "gentle", lambda lap: lap.first_p50), 1.3, note=note)
    )
    rates = [statistics.median(lap.per_second for lap in laps[tap, "plain"]) for tap in (WORKER, TWO, ONE)]
    note = "asks/s: 1 worker {:,.0f}, 2 workers {:,.0f}, one process {:,.0f}".format(*rates)
    aim = 1.8 if count >= 2 + 1 + 1 else None  # workers, keeper, and the engine with its clients
    rate = _times(laps, TWO, "plain", lambda lap: lap.per_second)
    found.append(Finding("plain asks/s, 2 workers", rate, aim, at_least=True, note=note))
    alone, two = memory[ONE][ONE], memory[TWO]
    worker = statistics.mean(two[name] for name in two if name.startswith("worker"))
    note = "MiB: {:.0f}; one process {:.0f}, keeper {:.0f}, supervisor {:.0f}".format(
        *(size / 2**20 for size in (worker, alone, two["keeper 0"], two["supervisor"]))
    )
    found.append(Finding("memory (PSS) of a worker", worker / alone, 1.1, note=note))
    found.append(Finding("memory (PSS) of the keeper", two["keeper 0"] / alone, 1.5))
    found.append(Finding("wrong or unfinished answers", sum(lap.wrong for many in laps.values() for lap in many), 0, 0))
    return found
