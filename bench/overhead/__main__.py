"""The benchmark's walk: start the stand and the gateways, run each row in interleaved rounds, print, write, end all.

scripts/bench overhead [--quick] [--only ROW,...] [--gateways NAME,...] [--peers NAME,...|none] [--install NAME,...]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.overhead import report
from bench.overhead.gateways import DIRECT, STANDPIPES, Gateway
from bench.overhead.measure import RUN, Stand
from bench.overhead.native import ROOT, CannotBuild
from bench.overhead.peers import PEER_TABLE
from bench.overhead.processes import Children, cores, machine
from bench.overhead.walk import Plan, Walk
from bench.overhead.workloads import ROWS, Row

FULL, QUICK = 3000, 1000
"""Duration of one load in ms."""
BUSY = 0.7
"""Load average above which times are not to be trusted."""


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    rows, ours = [row.name for row in ROWS], [one.name for one in STANDPIPES]
    peers = [peer.gateway.name for peer in PEER_TABLE]
    parser = argparse.ArgumentParser(prog="scripts/bench overhead", description=report.__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, our default loop only, under a minute")
    parser.add_argument("--only", type=_names, metavar="ROW,...", help=f"of {', '.join(rows)}")
    parser.add_argument("--gateways", type=_names, metavar="NAME,...", help=f"of {', '.join(ours)}")
    parser.add_argument(
        "--peers",
        type=_names,
        metavar="NAME,...",
        help=f"of {', '.join(peers)}, or none; default: all that are installed",
    )
    parser.add_argument(
        "--install", type=_names, default=[], metavar="NAME,...", help="get these peers into build/bench first"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each row (3; quick: 1)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "artifacts" / "bench" / "overhead.json", help="where the JSON goes"
    )
    given = parser.parse_args(words)
    for chosen, known in (
        (given.only, rows),
        (given.gateways, ours),
        (given.peers, [*peers, "none"]),
        (given.install, peers),
    ):
        for name in chosen or ():
            if name not in known:
                parser.error(f"there is no {name}; there is {', '.join(known)}")
    if given.gateways is None:
        given.gateways = ours[:1] if given.quick else ours
    if given.peers is None:
        given.peers = ["nginx"] if given.quick else peers
    return given


def _install(names: Iterable[str], skipped: dict[str, str]) -> None:
    for peer in PEER_TABLE:
        if peer.gateway.name in names:
            print(f"installing {peer.gateway.name} ...", file=sys.stderr)
            try:
                peer.install()
            except (subprocess.SubprocessError, OSError) as error:
                skipped[peer.gateway.name] = f"cannot be installed: {error}"


def _choose(given: argparse.Namespace, skipped: dict[str, str]) -> dict[str, tuple[Gateway, str]]:
    """The gateways that take part, with their versions; the others are named in `skipped`."""
    wanted = [one for one in STANDPIPES if one.name in given.gateways]
    wanted += [peer.gateway for peer in PEER_TABLE if peer.gateway.name in given.peers]
    chosen = {DIRECT.name: (DIRECT, "mock engine")}
    for gateway in wanted:
        version = gateway.version()
        if version is None:
            skipped.setdefault(gateway.name, f"not installed (--install {gateway.name})")
        elif gateway.name not in skipped:
            chosen[gateway.name] = (gateway, version)
    return chosen


def _print(found: report.Report, rows: Sequence[Row], slow: Iterable[str]) -> None:
    names = [name for name in found.versions if any(one.gateway == name for one in found.samples)]
    ours = [one for one in names if one.startswith("standpipe")]
    base = ours[0] if ours else names[-1]
    medians = report.medians(found.samples)
    print(f"\n{found.when}  {found.machine}\n{found.mode}")
    if found.busy > BUSY:
        print(f"The machine was busy (load average {found.busy:.1f}): trust CPU and ratios, not times.")
    print("versions: " + ", ".join(f"{name} {version}" for name, version in found.versions.items()))
    print(f"x: how many times better {base} is; below 1, the other one is. ~: measured under a smaller load.\n")
    for row in rows:
        print(report.row_table(row, names, slow, medians, base) + "\n")
    if ours:
        print(report.target_table(rows, ours, medians) + "\n")
    print(report.own_cost(rows, medians))
    if wrong := report.faults(found.samples):
        print("\nwrong or unfinished answers:\n" + wrong)
    for name, why in found.skipped.items():
        print(f"skipped: {name}: {why}")


def _plan(given: argparse.Namespace, gateways: Sequence[Gateway]) -> Plan:
    rows = [row for row in ROWS if (row.name in given.only if given.only else row.quick or not given.quick)]
    return Plan(rows, gateways, given.rounds or (1 if given.quick else 3), QUICK if given.quick else FULL)


def main(words: Sequence[str] | None = None) -> int:
    given = _arguments(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every process is ended then, too
    skipped: dict[str, str] = {}
    _install(given.install, skipped)
    chosen = _choose(given, skipped)
    plan = _plan(given, [gateway for gateway, _ in chosen.values()])
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    busy = os.getloadavg()[0]
    shutil.rmtree(RUN, ignore_errors=True)
    try:
        with Children(RUN) as children:
            walk = Walk(Stand(children), plan)
            walk.run()
    except CannotBuild as error:
        print(error, file=sys.stderr)
        return 1
    ours, others = cores()
    mode = (
        f"{plan.rounds} rounds of {plan.duration} ms, medians; gateway on core {ours}, mock and generator on {others}"
    )
    versions = {name: version for name, (_, version) in chosen.items()}
    found = report.Report(when, machine(), busy, mode, versions, skipped | walk.lost, report.with_added(walk.samples))
    _print(found, plan.rows, [gateway.name for gateway in plan.gateways if gateway.slow])
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    print(f"written: {given.out}")
    return 1 if any(one.errors for one in found.samples) or walk.lost else 0


if __name__ == "__main__":
    sys.exit(main())
