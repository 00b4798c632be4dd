"""Figures: from what happened in a world to the numbers that are held against targets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import median

from bench.fairness.world import Tally, World


def quantile(values: Sequence[float], part: float) -> float:
    """The value that this part of them do not exceed; not a number if there are none."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else float("nan")


def first_tokens(tally: Tally) -> list[float]:
    """Seconds from ask to first token."""
    return [job.first - job.asked for job in tally.jobs if job.first is not None]


def waits(tally: Tally) -> list[float]:
    """Seconds from ask to slot."""
    return [job.start - job.asked for job in tally.jobs if job.start is not None]


def served(tally: Tally, begin: int, end: int) -> float:
    """Weighted tokens between two instants, in whole seconds."""
    return tally.served_at[end - 1] - (tally.served_at[begin - 1] if begin else 0.0)


def jain(values: Sequence[float]) -> float:
    """Jain's index: 1 when all got the same, 1/n when one got all."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values)) if any(values) else 1.0


def jain_windows(tallies: Sequence[Tally], window: int, seconds: int) -> list[float]:
    """The index of each whole window."""
    return [
        jain([served(tally, begin, begin + window) for tally in tallies])
        for begin in range(0, seconds - window + 1, window)
    ]


def gap(tallies: Sequence[Tally], seconds: int) -> float:
    """The largest service gap within any pair over any stretch of time, for clients that wait all the time."""
    worst = 0.0
    for one, other in combinations(tallies, 2):
        leads = [one.served_at[second] - other.served_at[second] for second in range(seconds)]
        worst = max(worst, max(leads) - min(leads))
    return worst


def windowed_difference(tallies: Sequence[Tally], demands: Sequence[float], window: int, seconds: int) -> float:
    """The mean over windows of the largest min(most served - own, own demand - own): what the worst served client
    missed although it asked for it. `demands` is weighted tokens a second, infinite for who always waits."""
    worst = []
    for begin in range(0, seconds - window + 1, window):
        got = [served(tally, begin, begin + window) for tally in tallies]
        top = max(got)
        worst.append(
            max(max(0.0, min(top - own, demand * window - own)) for own, demand in zip(got, demands, strict=True))
        )
    return sum(worst) / len(worst)


def throughput(world: World) -> float:
    """Weighted tokens a second, all together."""
    return world.total / world.now


def eta_error(world: World) -> tuple[float, float, int]:
    """Of those who waited at least half a second: median error of the wait predicted when they joined, in seconds and
    as a part of the wait; and how many."""
    errors = [
        (abs(job.predicted - (job.start - job.asked)), job.start - job.asked)
        for tally in world.tallies
        for job in tally.jobs
        if job.predicted is not None and job.start is not None and job.start - job.asked >= 0.5
    ]
    if not errors:
        return float("nan"), float("nan"), 0
    return median(error for error, _ in errors), median(error / wait for error, wait in errors), len(errors)
