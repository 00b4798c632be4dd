"""Several processes beside one: scripts/bench workers [--quick] [--only costs|deaths] [--rounds N] [--long SECONDS]

Prints the machine with its cores, what was found, and what is aimed at; writes the same to
artifacts/bench/workers.json. Exits 1 where an aim is missed. On a busy machine trust CPU and ratios, not times.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version

import msgspec

from bench.overhead.measure import RUN, Stand
from bench.overhead.native import ROOT, CannotBuild
from bench.overhead.processes import Children, machine
from bench.workers import costs, deaths
from bench.workers.findings import Finding, table

OUT = ROOT / "artifacts" / "bench" / "workers.json"


def _costs(rounds: int, duration: int) -> list[Finding]:
    shutil.rmtree(RUN, ignore_errors=True)
    with Children(RUN) as children:
        measured = costs.Costs(Stand(children, spread=True))
        measured.run(rounds, duration)
    return costs.findings(measured.laps, measured.memory, len(os.sched_getaffinity(0)))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench workers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, under a minute")
    parser.add_argument("--only", choices=["costs", "deaths"], help="half of it")
    parser.add_argument("--rounds", type=int, help="rounds of each load (5; quick: 1)")
    parser.add_argument("--long", type=float, help="seconds of the long streams of a rolling restart (60; quick: 6)")
    given = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every process is ended then, too
    rounds, long = given.rounds or (1 if given.quick else 5), given.long or (6.0 if given.quick else 60.0)
    when, busy = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), os.getloadavg()[0]
    print(
        f"{when}  {machine()}\nStandpipe {version('standpipe')}, load average {busy:.1f}, {rounds} rounds", flush=True
    )
    found: list[Finding] = []
    try:
        if given.only != "deaths":
            found += _costs(rounds, 1000 if given.quick else 3000)
        if given.only != "costs":
            found += asyncio.run(deaths.findings(4.0 if given.quick else 12.0, long))
    except CannotBuild as error:
        print(error, file=sys.stderr)
        return 1
    print("Costs are times one process's; the keeper's CPU is times a worker's.\n\n" + table(found))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    return 0 if all(one.reached for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
