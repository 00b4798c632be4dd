"""One measurement: a gateway under one row's load, and what that cost.

CPU is what the gateway's whole process tree used from before the load to after it, divided by the requests or chunks
that came back right. Everything that came back wrong is counted and told.
"""

from __future__ import annotations

import http.client
import random
import subprocess
import time
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from bench.overhead import accounting
from bench.overhead.cancel import Stats, measure_cancel, stats
from bench.overhead.gateways import Gateway, Place
from bench.overhead.native import BUILD, build
from bench.overhead.processes import Child, Children, DidNotStart, cores, free_port, pinned
from bench.overhead.workloads import EVENT_TEXT, WHOLE_TEXT, Row, Sample, options

WARM_UP = (
    {"connections": 32, "text": WHOLE_TEXT},
    {"connections": 10, "stream": 1, "chunks": 100, "text": EVENT_TEXT},
)
RUN = BUILD / "run"


class Quantiles(Struct, frozen=True):
    """Of a number of microseconds."""

    count: int
    p50: int
    p90: int
    p99: int
    max: int


class Load(Struct, frozen=True):
    """What the generator prints (see load.c)."""

    requests: int
    chunks: int
    errors: int
    unfinished: int
    reconnects: int
    peak: int
    seconds: float
    steady_seconds: float
    steady_requests: int
    steady_chunks: int
    cpu_seconds: float
    first_error: str
    first_us: Quantiles
    whole_us: Quantiles
    transit_us: Quantiles
    lag_us: Quantiles


class Running(Struct, frozen=True):
    """A gateway that listens; `child` is None for the engine itself."""

    gateway: Gateway
    place: Place
    child: Child | None = None

    @property
    def use(self) -> accounting.Use:
        return accounting.use(self.child.pid) if self.child else accounting.Use(0, 0)


class Stand:
    """The test stand: the mock engine, the generator, and the gateways between them."""

    def __init__(self, children: Children, *, spread: bool = False) -> None:
        """`spread`: gateways of several processes use all cores, and so does everything else."""
        self._children = children
        self._load = build("load")
        pinned_to: tuple[int | None, int | None] = (None, None) if spread else cores()
        self._gateway_core, self._other_core = pinned_to
        self._engine = children.start("mock", [str(build("mock")), str(port := free_port())], self._other_core, port)
        self._engine.wait_ready("/stats", 5)

    def start(self, gateway: Gateway) -> Running:
        """Start a gateway and wait until it answers. Raises DidNotStart."""
        if gateway.command is None:
            return Running(gateway, Place(self._engine.port, self._engine.port, RUN))
        running = self._spawn(gateway, scripted=False)
        assert running.child is not None
        running.child.wait_ready(gateway.probe, gateway.patience)
        self._first_answer(running)
        return running

    def end(self, running: Running) -> None:
        if running.child:
            self._children.end(running.child)

    def _spawn(self, gateway: Gateway, *, scripted: bool) -> Running:
        command = gateway.scripted if scripted and gateway.scripted else gateway.command
        assert command is not None
        place = Place(free_port(), self._engine.port, RUN / gateway.name)
        place.folder.mkdir(parents=True, exist_ok=True)
        words = command(place)
        child = self._children.start(gateway.name, words, self._gateway_core, place.port, gateway.environ)
        return Running(gateway, place, child)

    def _first_answer(self, running: Running) -> None:
        """Ask until one ask is answered. Raises DidNotStart."""
        assert running.child is not None
        headers = dict(line.split(": ", 1) for line in running.gateway.headers(running.place))
        headers |= {"Content-Type": "application/json", "Authorization": "Bearer sk-bench"}
        ask = msgspec.json.encode({"model": "bench", "messages": [{"role": "user", "content": "Hi"}], "stream": False})
        deadline, told = time.monotonic() + running.gateway.patience, b""
        while time.monotonic() < deadline:
            running.child.check_alive()
            connection = http.client.HTTPConnection("127.0.0.1", running.place.port, timeout=5)
            try:
                connection.request("POST", running.gateway.path, ask, headers)
                response = connection.getresponse()
                told = response.read()
                if response.status == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass  # it does not listen yet
            finally:
                connection.close()
            time.sleep(0.002)
        raise DidNotStart(f"{running.gateway.name} answered no ask: {told[:300]!r}\n{running.child.last_words()}")

    def engine_stats(self) -> Stats:
        return stats(self._engine.port)

    def _command(self, running: Running, wanted: Mapping[str, int]) -> list[str]:
        gateway = running.gateway
        values = {"port": running.place.port, "exact": int(gateway.exact), "nonce": random.randrange(1 << 24), **wanted}
        words = [f"{name}={value}" for name, value in values.items()] + [f"path={gateway.path}"]
        words += [f"header={line}" for line in gateway.headers(running.place)]
        return pinned(self._other_core, [str(self._load), *words])

    def load(self, running: Running, wanted: Mapping[str, int]) -> Load:
        """Run the generator to its end."""
        limit = (wanted.get("ramp", 0) + wanted["duration"] + wanted.get("grace", 3000)) / 1000 + 20
        done = subprocess.run(self._command(running, wanted), check=True, stdout=subprocess.PIPE, timeout=limit)
        return msgspec.json.decode(done.stdout, type=Load)

    def warm_up(self, running: Running) -> None:
        """Let it open its connections, fill its pools, and compile what it compiles."""
        for wanted in WARM_UP:
            self.load(running, wanted | {"duration": 3000 if running.gateway.slow else 500, "grace": 15000})

    def measure(self, running: Running, row: Row, duration: int) -> Sample:
        """One load row, `duration` in ms."""
        slow = running.gateway.slow
        wanted = options(row, slow, duration) | ({"grace": 15000} if slow else {})
        before, engine_before = running.use, self.engine_stats()
        load = self.load(running, wanted)
        after, engine_after = running.use, self.engine_stats()
        engine_cpu = engine_after.cpu_seconds - engine_before.cpu_seconds
        values = _values(row, load, after.cpu - before.cpu, engine_cpu)
        if running.child is None:
            values.pop("cpu_us", None)
        return Sample(running.gateway.name, row.name, values, load.errors, load.unfinished, load.first_error)

    def measure_memory(self, gateway: Gateway, row: Row, duration: int) -> Sample:
        """Resident memory for each of many open streams, in a gateway that was just started."""
        running = self.start(gateway)
        try:
            self.warm_up(running)
            time.sleep(0.3)
            before = running.use.rss
            wanted = options(row, gateway.slow, duration)
            generator = subprocess.Popen(self._command(running, wanted), stdout=subprocess.PIPE)
            try:
                streams = self._wait_for_streams(wanted["connections"], (wanted["ramp"] + wanted["duration"]) / 1000)
                rss = running.use.rss
                generator.terminate()
                output, _ = generator.communicate(timeout=30)
            finally:
                generator.kill()
                generator.wait()
        finally:
            self.end(running)
        load = msgspec.json.decode(output, type=Load)
        values = {"kib_per_stream": (rss - before) / max(streams, 1) / 1024, "streams": float(streams)}
        missing = wanted["connections"] - streams
        why = load.first_error or (f"only {streams} streams were open" if missing else "")
        return Sample(gateway.name, row.name, values, load.errors + missing, 0, why)

    def _wait_for_streams(self, wanted: int, limit: float) -> int:
        """Until so many streams are open, or `limit` seconds are nearly over; how many are open a little later."""
        deadline = time.monotonic() + limit * 0.9
        while self.engine_stats().active < wanted and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.3)
        return self.engine_stats().active

    def cancel(self, running: Running, row: Row) -> Sample:
        """How long the engine works on after its client has left."""
        values = measure_cancel(running.place, running.gateway, self._engine.port)
        return Sample(running.gateway.name, row.name, values)

    def measure_start(self, gateway: Gateway, row: Row) -> Sample:
        """From the start of the process to its first answer, and its memory a little later."""
        begun = time.monotonic()
        running = self._spawn(gateway, scripted=True)
        try:
            self._first_answer(running)
            cold = time.monotonic() - begun
            time.sleep(0.3)
            idle = running.use.rss
        finally:
            self.end(running)
        return Sample(gateway.name, row.name, {"cold_s": cold, "idle_mib": idle / 2**20})


def _values(row: Row, load: Load, cpu: float, engine_cpu: float) -> dict[str, float]:
    """Everything that one run of the generator tells, in the units of the metrics."""
    count, steady = (load.chunks, load.steady_chunks) if row.unit == "chunk" else (load.requests, load.steady_requests)
    values = {"per_second": steady / load.steady_seconds}
    if count:
        values["cpu_us"] = cpu / count * 1e6
        values["engine_us"] = engine_cpu / count * 1e6
        values["generator_us"] = load.cpu_seconds / count * 1e6
    timed = {"first": load.first_us, "whole": load.whole_us, "transit": load.transit_us, "lag": load.lag_us}
    for name, times in timed.items():
        if times.count:
            values |= {f"{name}_p50_ms": times.p50 / 1000, f"{name}_p99_ms": times.p99 / 1000}
    return values
