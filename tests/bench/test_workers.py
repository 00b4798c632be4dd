"""What `scripts/bench workers` makes of what it measured."""

from __future__ import annotations

import math

from bench.workers.costs import LOADS, ONE, TWO, WORKER, Lap, findings
from bench.workers.deaths import Watch
from bench.workers.findings import Finding, table


def _lap(rate: float, **cpu: float) -> Lap:
    return Lap(rate, 10.0 / rate, {name.replace("_", " "): used for name, used in cpu.items()}, wrong=0)


def test_costs_are_told_by_one_process_and_the_keepers_by_a_worker() -> None:
    laps = {(ONE, row.name): [Lap(100.0, 1.0, {ONE: 200.0}, wrong=0)] for row in LOADS}
    several = {WORKER: _lap(100.0, worker_0=150.0, keeper_0=30.0, supervisor=5.0)}
    several[TWO] = _lap(170.0, worker_0=75.0, worker_1=75.0, keeper_0=30.0, supervisor=5.0)
    laps |= {(tap, row.name): [lap] for tap, lap in several.items() for row in LOADS}
    parts = {"worker 0": 90, "worker 1": 110, "keeper 0": 160, "supervisor": 50}
    found = {one.name: one for one in findings(laps, {ONE: {ONE: 100}, TWO: parts}, count=2)}
    assert found["CPU of a worker per plain ask, 2 workers"].value == 0.75
    assert found["CPU of the keeper per plain ask, 1 worker"].value == 0.2
    assert not found["CPU of the keeper per plain ask, 1 worker"].reached
    assert found["plain asks/s, 2 workers"].value == 1.7
    assert found["plain asks/s, 2 workers"].reached  # two cores are no place for that aim
    assert found["memory (PSS) of a worker"].value == 1.0
    assert not found["memory (PSS) of the keeper"].reached


def test_a_pause_lies_between_looks_that_found_new_asks() -> None:
    watch = Watch()
    watch.seen = [(0.0, 1, 4), (0.1, 2, 4), (0.2, 2, 4), (0.7, 3, 4), (0.8, 4, 4)]
    assert math.isclose(watch.pause(0.0, 1.0), 0.6)
    assert math.isnan(watch.pause(0.15, 0.7))


def test_slots_are_in_use_again_when_as_many_run_as_before() -> None:
    watch = Watch()
    watch.seen = [(9.5, 0, 8), (9.9, 0, 8), (10.0, 0, 8), (10.1, 0, 4), (10.2, 0, 6), (10.4, 0, 8)]
    assert math.isclose(watch.refilled(10.0), 0.4)
    watch.seen = [(9.5, 0, 8), (10.1, 0, 8)]
    assert math.isnan(watch.refilled(10.0))


def test_what_is_missed_or_no_number_is_told() -> None:
    told = table([Finding("a", 1.2, 1.0), Finding("b", math.nan, 1.0), Finding("c", 2.0, 1.8, at_least=True)])
    assert [line.split()[-1] for line in told.splitlines()[1:]] == ["MISSED", "MISSED", "ok"]
