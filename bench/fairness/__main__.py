"""scripts/bench fairness: prints every figure of docs/fairness.md beside its target, and draws the plots.

    scripts/bench fairness                              all workloads, line speed, clients who leave
    scripts/bench fairness --only quiet,sybil           some of them
    scripts/bench fairness --plots DIR                  draw the plots, too (needs matplotlib)
    scripts/bench fairness --schedules 1000000          the bound over so many random schedules, and nothing else;
                                                        with --kind late, lost or workers: charges that lag,
                                                        lines that are lost, or both at once
    scripts/bench fairness --leave 100000               that many clients who leave in each phase, and nothing else

Everything runs on virtual time and the same seeds: the figures are the same on every machine, but for the speed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, process_time

import msgspec

from bench.fairness import phases, plots, schedules, speed
from bench.fairness.replicas import Failing, Lagging, Workers
from bench.fairness.watch import Broken
from bench.fairness.workloads import WORKLOADS, Row

NAMES = [*WORKLOADS, "speed", "leave"]
KINDS = {"plain": schedules.Schedule, "late": Lagging, "lost": Failing, "workers": Workers}


def main(words: Sequence[str] | None = None) -> int:
    """Returns 1 if a target was missed."""
    given = _arguments(words)
    if given.schedules:
        return _invariant(given.schedules, given.steps, given.seed, given.kind)
    rows: list[Row] = []
    begin = process_time()
    for name in ["leave"] if given.leave else given.only or NAMES:
        for row in _rows(name, given.leave or 10_000):
            rows.append(row)
            _print(row)
    print(f"\n{process_time() - begin:.0f} s of processor time, {sys.version.split()[0]}")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    if given.plots:
        try:
            for path in plots.draw(given.plots):
                print(path)
        except plots.CannotPlot as error:
            print(error, file=sys.stderr)
            return 2
    missed = [row for row in rows if row.met is False]
    for row in missed:
        print(f"MISSED: {row.workload}, {row.order}: {row.figure} {row.value}, wanted {row.target}", file=sys.stderr)
    return 1 if missed else 0


def _rows(name: str, leaves: int) -> Iterator[Row]:
    if name == "speed":
        return speed.rows()
    return _leave(leaves) if name == "leave" else WORKLOADS[name]()


def _leave(times: int) -> Iterator[Row]:
    for phase in phases.PHASES:
        remains = phases.leave(phase, times)
        value = f"{remains.leaked} leaked, charges wrong by {remains.wrong:g} tokens at most"
        met = remains.leaked == 0 and remains.wrong <= 2
        yield Row(f"{times} clients leave", "fair", phase, value, "0, and <= 2 tokens", met)


def _print(row: Row) -> None:
    verdict = {True: "met", False: "MISSED", None: ""}[row.met]
    print(
        f"{row.workload:38} {row.order:17} {row.figure:44} {row.value:40} {row.target:19} {verdict}".rstrip(),
        flush=True,
    )


def _invariant(count: int, steps: int, seed: int, kind: str) -> int:
    """The bound, under the watch, over `count` random schedules of this kind, of `steps` events each."""
    begin = monotonic()
    worst: list[float] = []
    for number in range(count):
        try:
            worst.append(schedules.run(seed + number, steps, KINDS[kind]))
        except Broken as broken:
            print(f"BROKEN with seed {seed + number}: {broken}", file=sys.stderr)
            return 1
        done = number + 1
        if done % max(1, count // 100) == 0:
            left = (monotonic() - begin) / done * (count - done)
            print(f"\r{done:,} of {count:,} schedules, worst gap {max(worst):.3f} of 2U, {left:.0f} s left ", end="")
            sys.stdout.flush()
    worst.sort()
    print(
        f"\n{count:,} schedules of {steps} events, seeds {seed} to {seed + count - 1}: no gap above 2U; "
        f"largest {worst[-1]:.3f}, median {worst[count // 2]:.3f} of 2U; {monotonic() - begin:.0f} s"
    )
    return 0


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench fairness", description="The line on virtual time.")
    parser.add_argument("--only", type=_names, metavar="NAME,...", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw the plots into this folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument("--schedules", type=int, metavar="N", help="check the bound over so many random schedules")
    parser.add_argument("--kind", choices=KINDS, default="plain", help="of these schedules (plain)")
    parser.add_argument("--steps", type=int, default=60, help="events of each schedule (60)")
    parser.add_argument("--seed", type=int, default=0, help="the first schedule's seed (0)")
    parser.add_argument("--leave", type=int, metavar="N", help="so many clients leave in each phase")
    given = parser.parse_args(words)
    for name in given.only or ():
        if name not in NAMES:
            parser.error(f"there is no {name}; there is {', '.join(NAMES)}")
    return given


if __name__ == "__main__":
    sys.exit(main())
