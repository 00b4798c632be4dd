"""Metrics: plain arithmetic for every request, and the page that Prometheus scrapes. No label names a client.

The library that writes the page brings three megabytes, and most small servers have nobody who scrapes: it is loaded
with the first scrape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from standpipe.edge.server import EdgeStatistics
from standpipe.observe.about import EngineCounts, EngineState
from standpipe.observe.hooks import Record
from standpipe.policy.line import LineStatistics

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""The upper bounds of a histogram's buckets; one more holds the rest."""


_GROWING = {"counter", "histogram"}

Sample = tuple[str, tuple[tuple[str, str], ...]]
"""A name and its labels."""


class Now(Struct, frozen=True):
    """How things stand when somebody scrapes. `edge` is None where another server holds the connections."""

    queue: LineStatistics
    engines: tuple[EngineState, ...]
    proxy_warnings: int
    log_lines_dropped: int
    edge: EdgeStatistics | None
    counts: tuple[EngineCounts, ...] = ()


class Histogram:
    """Seconds, sorted into `SECONDS`."""

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.sum += seconds


class Metrics:
    """The hook that counts."""

    def __init__(self, now: Callable[[], Now]) -> None:
        """`now` is asked at every scrape, so that nothing is counted twice."""
        self._now = now
        self._requests: Counter[tuple[str, int]] = Counter()
        """By dialect and status."""
        self._failures: Counter[str] = Counter()
        """By kind."""
        self._prompt_tokens = self._completion_tokens = self._retries = self._continued = 0
        self._waited = Histogram()
        self._first_token = Histogram()
        self._engine_tokens: Counter[tuple[str, str]] = Counter()
        """By engine and direction."""
        self._engine_first: dict[str, Histogram] = {}
        self.former: dict[Sample, float] = {}
        """What was counted before our start, by others whom we follow: our counters go on from there."""
        self.on_page: Callable[[], None] = lambda: None
        """Called before anybody is told."""

    def counted(self) -> dict[Sample, float]:
        """All that only ever grows, as it stands; but for what the server in front counts, which outlives us."""
        return {
            (sample.name, tuple(sample.labels.items())): sample.value
            for family in self._all(edge=False)
            if family.type in _GROWING
            for sample in family.samples
        }

    def __call__(self, record: Record) -> None:
        self._requests[record.dialect, record.status] += 1
        self._waited.observe(record.waited)
        if record.first_token is not None:
            self._first_token.observe(record.first_token)
        self._prompt_tokens += record.prompt_tokens or 0
        self._completion_tokens += record.completion_tokens or 0
        if (engine := record.engine) is not None:
            self._engine_tokens[engine, "prompt"] += record.prompt_tokens or 0
            self._engine_tokens[engine, "completion"] += record.completion_tokens or 0
            if record.first_token is not None:
                self._engine_first.setdefault(engine, Histogram()).observe(max(0.0, record.first_token - record.waited))
        if record.failure is not None:
            self._failures[record.failure] += 1
        if record.attempts > 1:
            self._retries += record.attempts - 1
        self._continued += record.continued

    def page(self) -> bytes:
        """Everything in Prometheus's text form."""
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415  # see the module

        self.on_page()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Family]:
        """As Prometheus's registry asks for it."""
        return self._all(edge=True)

    def _all(self, *, edge: bool) -> Iterator[Family]:
        for family in self._own(edge=edge):
            if self.former and family.type in _GROWING:
                _go_on(family, self.former)
            yield family

    def _own(self, *, edge: bool) -> Iterator[Family]:
        now = self._now()
        requests = (((dialect, str(status)), count) for (dialect, status), count in self._requests.items())
        tokens = {"prompt": self._prompt_tokens, "completion": self._completion_tokens}
        yield _counter("requests", "Requests, by dialect and status", ("dialect", "status"), requests)
        yield _counter("failures", "Failed requests, by kind", ("kind",), _by_name(self._failures))
        yield _counter("tokens", "Tokens, by direction", ("direction",), _by_name(tokens))
        yield _counter("retries", "Retries: attempts beyond the first", (), [((), self._retries)])
        yield _counter("continued", "Streams that another engine went on with", (), [((), self._continued)])
        yield _histogram("queue_wait_seconds", "Time spent in the queue", self._waited)
        yield _histogram("first_token_seconds", "Time until the first token", self._first_token)
        yield _counter("engine_tokens", "An engine's tokens", ("engine", "direction"), self._engine_tokens.items())
        yield _histograms(
            "engine_time_to_first_token_seconds", "Time from a slot to the first token", self._engine_first
        )
        yield from _queue(now.queue)
        yield from _engines(now.engines)
        yield from _counts(now.counts)
        yield _gauge("proxy_warnings", "Signs of a misconfigured proxy (see the log)", now.proxy_warnings)
        yield _counter("log_lines_dropped", "Log lines that could not be written", (), [((), now.log_lines_dropped)])
        if edge and now.edge is not None:
            yield from _edge(now.edge)


def _queue(queue: LineStatistics) -> Iterator[Family]:
    yield _gauge("queue_waiting", "Requests that wait in the queue", queue.waiting)
    yield _gauge("queue_clients", "Clients with a request in the queue", queue.clients)
    yield _gauge("queue_bytes", "Request bytes that wait in the queue", queue.bytes)
    yield _gauge("running", "Requests that hold a slot", queue.running)
    yield _gauge("slots", "Slots of all engines", queue.slots)
    yield _counter("queue_refused", "Requests that found the queue full, by limit", ("bound",), _by_name(queue.refused))
    yield _counter("queue_shed", "Queued requests dropped under overload", (), [((), queue.shed)])


def _engines(engines: tuple[EngineState, ...]) -> Iterator[Family]:
    yield _gauge("engine_up", "Whether an engine is up", {engine.name: engine.up for engine in engines})
    yield _gauge("engine_slots", "Slots of an engine", {engine.name: engine.slots for engine in engines})
    yield _gauge("engine_busy_slots", "Slots in use", {engine.name: engine.busy for engine in engines})


def _counts(counts: tuple[EngineCounts, ...]) -> Iterator[Family]:
    attempts = (((engine.name,), engine.attempts) for engine in counts)
    outcomes = (((engine.name, kind), count) for engine in counts for kind, count in engine.outcomes.items())
    first = {engine.name: engine.first_token for engine in counts if engine.first_token is not None}
    held = {engine.name: max(0.0, engine.held_off) for engine in counts}
    yield _counter("engine_attempts", "Attempts at an engine", ("engine",), attempts)
    yield _counter("engine_outcomes", "Attempts that are over, by how they ended", ("engine", "outcome"), outcomes)
    yield _gauge("engine_first_token_seconds", "Usual time until an engine's first token", first)
    yield _gauge("engine_held_off_seconds", "Time for which an engine is still left alone", held)
    alone = (((engine.name,), engine.left_alone) for engine in counts)
    yield _counter("engine_left_alone_seconds", "Time for which an engine was left alone, in all", ("engine",), alone)


def _edge(edge: EdgeStatistics) -> Iterator[Family]:
    yield _gauge("connections", "Open connections", edge.connections)
    yield _gauge("connections_by_phase", "Open connections, by what they are doing", edge.phases, "phase")
    yield _counter("connections_refused", "Connections refused over a limit", ("cap",), _by_name(edge.refused))
    yield _counter("connections_displaced", "Connections closed for a neighbor's", (), [((), edge.displaced)])
    yield _counter("connections_overdue", "Connections closed by a timeout", ("deadline",), _by_name(edge.overdue))
    yield _counter("http_requests", "HTTP requests that were parsed, of any path", (), [((), edge.requests)])
    yield _counter(
        "requests_rejected", "Requests rejected before they were parsed", ("status",), _by_name(edge.rejected)
    )


def _go_on(family: Family, former: Mapping[Sample, float]) -> None:
    """Add what was counted before, of labels that have not been seen since as well."""
    here = [(sample.name, tuple(sample.labels.items())) for sample in family.samples]
    family.samples = [
        sample._replace(value=sample.value + former.get(key, 0.0))
        for key, sample in zip(here, family.samples, strict=True)
    ]
    names = {f"{family.name}{suffix}" for suffix in ("_total", "_bucket", "_count", "_sum")}
    for name, labels in former.keys() - set(here):
        if name in names:
            family.add_sample(name, dict(labels), former[name, labels])


Counts = Iterable[tuple[tuple[str, ...], float]]
"""The values of the labels, and how often they were counted."""


def _by_name(counts: Mapping[Any, int]) -> Counts:
    return (((str(name),), count) for name, count in counts.items())


def _counter(name: str, help_text: str, labels: tuple[str, ...], counts: Counts) -> CounterMetricFamily:
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415  # see the module

    family = CounterMetricFamily(f"standpipe_{name}", help_text, labels=labels)
    for values, count in counts:
        family.add_metric(values, count)
    return family


def _gauge(name: str, help_text: str, value: float | Mapping[str, float], label: str = "engine") -> GaugeMetricFamily:
    """One number, or one for each value of a label."""
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415  # see the module

    if not isinstance(value, Mapping):
        return GaugeMetricFamily(f"standpipe_{name}", help_text, value=value)
    family = GaugeMetricFamily(f"standpipe_{name}", help_text, labels=(label,))
    for one, number in value.items():
        family.add_metric((one,), number)
    return family


def _histogram(name: str, help_text: str, histogram: Histogram) -> HistogramMetricFamily:
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415  # see the module

    return HistogramMetricFamily(f"standpipe_{name}", help_text, buckets=_buckets(histogram), sum_value=histogram.sum)


def _histograms(name: str, help_text: str, histograms: Mapping[str, Histogram]) -> HistogramMetricFamily:
    """One for each engine."""
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415  # see the module

    family = HistogramMetricFamily(f"standpipe_{name}", help_text, labels=("engine",))
    for engine, histogram in histograms.items():
        family.add_metric((engine,), _buckets(histogram), histogram.sum)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus counts."""
    buckets, total = [], 0
    for bound, count in zip((*SECONDS, inf), histogram.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == inf else str(bound), float(total)))
    return buckets
