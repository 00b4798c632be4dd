"""Metrics: plain arithmetic on the way of every ask. `observe.prometheus` makes the page of them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping

from standpipe.observe.hooks import Record

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""The upper bounds of a histogram's buckets; one more holds the rest."""

Gauges = Callable[[], Mapping[str, tuple[str, float]]]
"""Gives name -> (help, value)."""

Counters = Callable[[], Mapping[str, tuple[str, str, Mapping[str, float]]]]
"""Gives name -> (help, label, count by the label's value). What only grows."""


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

    def __init__(self, gauges: Gauges, counters: Counters) -> None:
        """Both are read whenever somebody scrapes, so that nothing is pushed twice."""
        self.gauges = gauges
        self.counters = counters
        self.asks: Counter[tuple[str, int]] = Counter()
        """By dialect and status."""
        self.failures: Counter[str] = Counter()
        """By kind."""
        self.prompt_tokens = self.completion_tokens = self.retries = 0
        self.waited = Histogram()
        self.first_token = Histogram()

    def __call__(self, record: Record) -> None:
        self.asks[record.dialect, record.status] += 1
        self.waited.observe(record.waited)
        if record.first_token is not None:
            self.first_token.observe(record.first_token)
        self.prompt_tokens += record.prompt_tokens or 0
        self.completion_tokens += record.completion_tokens or 0
        if record.failure is not None:
            self.failures[record.failure] += 1
        if record.attempts > 1:
            self.retries += record.attempts - 1
