"""Metrics in Prometheus's form. No label names a client: cardinality stays small and nobody is identifiable."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from standpipe.observe.hooks import Record

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class _Gauges(Collector):
    """Reads the house's own statistics at scrape time, so that nothing is pushed twice."""

    def __init__(self, read: Callable[[], Mapping[str, tuple[str, float]]]) -> None:
        self._read = read

    def collect(self) -> list[GaugeMetricFamily]:
        return [GaugeMetricFamily(name, help_text, value=value) for name, (help_text, value) in self._read().items()]


class Metrics:
    """The hook that counts, and the page that is scraped."""

    def __init__(self, gauges: Callable[[], Mapping[str, tuple[str, float]]]) -> None:
        """`gauges` gives name -> (help, value) whenever somebody scrapes."""
        self._registry = CollectorRegistry()
        self._asks = Counter(
            "standpipe_asks", "Asks, by dialect and status", ("dialect", "status"), registry=self._registry
        )
        self._failures = Counter("standpipe_failures", "Failed asks, by kind", ("kind",), registry=self._registry)
        self._tokens = Counter("standpipe_tokens", "Tokens, by direction", ("direction",), registry=self._registry)
        self._retries = Counter("standpipe_retries", "Attempts beyond the first", registry=self._registry)
        self._waited = Histogram(
            "standpipe_waited_seconds", "Time until a slot", buckets=_SECONDS, registry=self._registry
        )
        self._first = Histogram(
            "standpipe_first_token_seconds", "Time until the first token", buckets=_SECONDS, registry=self._registry
        )
        self._prompt = self._tokens.labels("prompt")
        self._completion = self._tokens.labels("completion")
        self._by_outcome: dict[tuple[str, int], Counter] = {}
        self._registry.register(_Gauges(gauges))

    def __call__(self, record: Record) -> None:
        outcome = (record.dialect, record.status)
        counter = self._by_outcome.get(outcome)
        if counter is None:
            counter = self._by_outcome[outcome] = self._asks.labels(record.dialect, str(record.status))
        counter.inc()
        self._waited.observe(record.waited)
        if record.first_token is not None:
            self._first.observe(record.first_token)
        if record.prompt_tokens:
            self._prompt.inc(record.prompt_tokens)
        if record.completion_tokens:
            self._completion.inc(record.completion_tokens)
        if record.failure is not None:
            self._failures.labels(record.failure).inc()
        if record.attempts > 1:
            self._retries.inc(record.attempts - 1)

    def page(self) -> bytes:
        """The page in text form."""
        return generate_latest(self._registry)
