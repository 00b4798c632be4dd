"""What was counted, as the page that Prometheus scrapes. No label names a client.

Loaded with the first scrape: most small taps have nobody who scrapes, and the library brings three megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from standpipe.observe.metrics import SECONDS, Histogram, Metrics

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


def page(metrics: Metrics) -> bytes:
    """The page in Prometheus's text form."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(metrics))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        """As Prometheus's registry asks for it."""
        metrics = self._metrics
        asks = CounterMetricFamily("standpipe_asks", "Asks, by dialect and status", labels=("dialect", "status"))
        for (dialect, status), count in metrics.asks.items():
            asks.add_metric((dialect, str(status)), count)
        failures = CounterMetricFamily("standpipe_failures", "Failed asks, by kind", labels=("kind",))
        for kind, count in metrics.failures.items():
            failures.add_metric((kind,), count)
        tokens = CounterMetricFamily("standpipe_tokens", "Tokens, by direction", labels=("direction",))
        tokens.add_metric(("prompt",), metrics.prompt_tokens)
        tokens.add_metric(("completion",), metrics.completion_tokens)
        yield from (asks, failures, tokens)
        yield CounterMetricFamily("standpipe_retries", "Attempts beyond the first", value=metrics.retries)
        yield _histogram("standpipe_waited_seconds", "Time until a slot", metrics.waited)
        yield _histogram("standpipe_first_token_seconds", "Time until the first token", metrics.first_token)
        for name, (help_text, label, counts) in metrics.counters().items():
            family = CounterMetricFamily(name, help_text, labels=(label,))
            for counted, times in counts.items():
                family.add_metric((counted,), times)
            yield family
        for name, (help_text, value) in metrics.gauges().items():
            yield GaugeMetricFamily(name, help_text, value=value)


def _histogram(name: str, help_text: str, histogram: Histogram) -> HistogramMetricFamily:
    """Cumulative, as Prometheus counts."""
    buckets, total = [], 0
    for bound, count in zip((*SECONDS, inf), histogram.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == inf else str(bound), float(total)))
    return HistogramMetricFamily(name, help_text, buckets=buckets, sum_value=histogram.sum)
