"""From samples to tables: medians of rounds, ratios to Standpipe, targets. Pure: no clock, no file, no process."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from bench.overhead.workloads import Metric, Row, Sample

Medians = Mapping[tuple[str, str], Mapping[str, float]]
"""(gateway, row) to the medians of that row's values."""


class Report(Struct, frozen=True):
    """All that a run found out, as it is written to disk."""

    when: str
    machine: str
    busy: float
    """The system's load average of one minute before the run; 0 is a quiet machine."""
    mode: str
    versions: dict[str, str]
    skipped: dict[str, str]
    samples: list[Sample]


def with_added(samples: Sequence[Sample], row: str = "gentle") -> list[Sample]:
    """Samples with the delay that each gateway adds to the direct run of the same round (rounds come in order)."""
    direct = [one.values for one in samples if one.row == row and one.gateway == "direct"]
    rounds: dict[str, int] = defaultdict(int)
    result = []
    for one in samples:
        if one.row == row and one.gateway != "direct" and rounds[one.gateway] < len(direct):
            base = direct[rounds[one.gateway]]
            rounds[one.gateway] += 1
            added = {
                f"added_{q}_ms": one.values[f"first_{q}_ms"] - base[f"first_{q}_ms"]
                for q in ("p50", "p99")
                if f"first_{q}_ms" in one.values and f"first_{q}_ms" in base
            }
            result.append(Sample(one.gateway, one.row, one.values | added, one.errors, one.unfinished, one.first_error))
        else:
            result.append(one)
    return result


def medians(samples: Iterable[Sample]) -> Medians:
    """The median of every value over the rounds."""
    seen: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in samples:
        for name, value in one.values.items():
            seen[one.gateway, one.row][name].append(value)
    return {key: {name: statistics.median(values) for name, values in by_name.items()} for key, by_name in seen.items()}


def ratio(metric: Metric, ours: float, theirs: float) -> float:
    """How many times better we are than they: above 1 is ours, below 1 theirs. NaN where one is not positive."""
    if ours <= 0 or theirs <= 0:
        return math.nan
    return ours / theirs if metric.more_is_better else theirs / ours


def layout(lines: Sequence[Sequence[str]]) -> str:
    """Columns under each other, the first to the left, the rest to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = []
    for line in lines:
        first, *rest = line
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        rows.append("  ".join(cells).rstrip())
    return "\n".join(rows)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def _ratio_text(metric: Metric, ours: float | None, theirs: float | None) -> str:
    if ours is None or theirs is None or math.isnan(times := ratio(metric, ours, theirs)):
        return "-"
    return f"{times:,.0f}x" if times >= 10 else f"{times:.2f}x"


def row_table(row: Row, gateways: Sequence[str], slow: Iterable[str], found: Medians, base: str) -> str:
    """One row: a line for each gateway, its numbers, and (`x`) how many times better `base` is."""
    ours = found.get((base, row.name), {})
    head = ["", *(metric.title for metric in row.metrics), *(f"x {metric.title}" for metric in row.metrics)]
    lines = [head]
    for name in gateways:
        theirs = found.get((name, row.name))
        if theirs is None:
            continue
        small = "~" if name in slow and row.slow else ""
        numbers = [_number(theirs.get(metric.name), metric.digits) for metric in row.metrics]
        times = [
            "" if name == base else _ratio_text(metric, ours.get(metric.name), theirs.get(metric.name))
            for metric in row.metrics
        ]
        lines.append([name + small, *numbers, *times])
    return f"{row.name}: {row.about}\n{layout(lines)}"


def target_table(rows: Sequence[Row], variants: Sequence[str], found: Medians) -> str:
    """Each target and what each of our variants reached."""
    lines = [["target", "wanted", *variants]]
    for row in rows:
        for metric in row.metrics:
            if metric.target is None:
                continue
            cells = []
            for name in variants:
                value = found.get((name, row.name), {}).get(metric.name)
                cells.append(_judged(metric, value, metric.target))
            sign = ">=" if metric.more_is_better else "<="
            lines.append([f"{row.name} {metric.title}", f"{sign} {_number(metric.target, metric.digits)}", *cells])
    return layout(lines)


def reached(metric: Metric, value: float, wanted: float) -> bool:
    return value >= wanted if metric.more_is_better else value <= wanted


def _judged(metric: Metric, value: float | None, wanted: float) -> str:
    if value is None:
        return "-"
    return f"{_number(value, metric.digits)} {'ok' if reached(metric, value, wanted) else 'MISSED'}"


def faults(samples: Iterable[Sample]) -> str:
    """What came back wrong or did not end, one line for each gateway and row."""
    seen: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for one in samples:
        if one.errors or one.unfinished:
            seen[one.gateway, one.row].append(one)
    lines = []
    for (gateway, row), bad in seen.items():
        errors, unfinished = sum(one.errors for one in bad), sum(one.unfinished for one in bad)
        first = next((one.first_error for one in bad if one.first_error), "")
        lines.append(f"{gateway} {row}: {errors} wrong, {unfinished} unfinished{': ' + first if first else ''}")
    return "\n".join(lines)


def own_cost(rows: Iterable[Row], found: Medians) -> str:
    """What the mock engine and the generator themselves need, which is how far they are from being what is measured."""
    lines = [["direct", "unit/s", "mock us", "generator us"]]
    for row in rows:
        values = found.get(("direct", row.name), {})
        if "engine_us" in values and "generator_us" in values:
            names = ("per_second", "engine_us", "generator_us")
            digits = (0, 2, 2)
            cells = [_number(values.get(name), places) for name, places in zip(names, digits, strict=True)]
            lines.append([f"{row.name}, per {row.unit}", *cells])
    return layout(lines) if len(lines) > 1 else ""
