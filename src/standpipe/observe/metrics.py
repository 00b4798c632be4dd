"""Metrics in Prometheus's form. No label names a client: cardinality stays small and nobody is identifiable.

Counting is plain arithmetic on the way of every ask; Prometheus's own objects are made when somebody scrapes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from math import inf

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from standpipe.observe.hooks import Record

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

Gauges = Callable[[], Mapping[str, tuple[str, float]]]
"""Gives name -> (help, value)."""


class _Histogram:
    """Seconds, sorted into `_SECONDS`."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_SECONDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(_SECONDS, seconds)] += 1
        self._sum += seconds

    def family(self, name: str, help_text: str) -> HistogramMetricFamily:
        """Cumulative, as Prometheus counts."""
        buckets, total = [], 0
        for bound, count in zip((*_SECONDS, inf), self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == inf else str(bound), float(total)))
        return HistogramMetricFamily(name, help_text, buckets=buckets, sum_value=self._sum)


class Metrics(Collector):
    """The hook that counts, and the page that is scraped."""

    def __init__(self, gauges: Gauges) -> None:
        """`gauges` is read whenever somebody scrapes, so that nothing is pushed twice."""
        self._gauges = gauges
        self._asks: Counter[tuple[str, int]] = Counter()
        self._failures: Counter[str] = Counter()
        self._prompt_tokens = self._completion_tokens = self._retries = 0
        self._waited = _Histogram()
        self._first_token = _Histogram()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def __call__(self, record: Record) -> None:
        self._asks[record.dialect, record.status] += 1
        self._waited.observe(record.waited)
        if record.first_token is not None:
            self._first_token.observe(record.first_token)
        self._prompt_tokens += record.prompt_tokens or 0
        self._completion_tokens += record.completion_tokens or 0
        if record.failure is not None:
            self._failures[record.failure] += 1
        if record.attempts > 1:
            self._retries += record.attempts - 1

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """As Prometheus's registry asks for it."""
        asks = CounterMetricFamily("standpipe_asks", "Asks, by dialect and status", labels=("dialect", "status"))
        for (dialect, status), count in self._asks.items():
            asks.add_metric((dialect, str(status)), count)
        failures = CounterMetricFamily("standpipe_failures", "Failed asks, by kind", labels=("kind",))
        for kind, count in self._failures.items():
            failures.add_metric((kind,), count)
        tokens = CounterMetricFamily("standpipe_tokens", "Tokens, by direction", labels=("direction",))
        tokens.add_metric(("prompt",), self._prompt_tokens)
        tokens.add_metric(("completion",), self._completion_tokens)
        yield from (asks, failures, tokens)
        yield CounterMetricFamily("standpipe_retries", "Attempts beyond the first", value=self._retries)
        yield self._waited.family("standpipe_waited_seconds", "Time until a slot")
        yield self._first_token.family("standpipe_first_token_seconds", "Time until the first token")
        for name, (help_text, value) in self._gauges().items():
            yield GaugeMetricFamily(name, help_text, value=value)

    def page(self) -> bytes:
        """The page in text form."""
        return generate_latest(self._registry)
