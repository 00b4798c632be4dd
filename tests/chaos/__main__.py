"""Chaos, judged byte by byte: scripts/chaos [SECONDS] [--workers N] [--only NAME,...] [-- flags of standpipe serve]

Plays every scenario for its part of the time (each at least 3 s) with 50 clients on three engines, and prints a row for
each. With workers, those that end, replace and reload Standpipe's own processes. Exits 1 where an answer was wrong, an
ask was refused, or one failed before its first word.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.chaos.clients import Outcome
from tests.chaos.scenarios import MAY_BE_CUT, MAY_BREAK, SCENARIOS, WITH_WORKERS, Verdict, play


def _names(text: str) -> list[str]:
    return text.split(",")


def faults(verdict: Verdict) -> list[str]:
    """What a verdict finds, in words; nothing when all is well."""
    found = [
        f"{verdict.outcomes[outcome]} {outcome}"
        for outcome in (Outcome.WRONG, Outcome.REFUSED, Outcome.FAILED)
        if verdict.outcomes.get(outcome)
    ]
    if verdict.outcomes.get(Outcome.BROKEN) and verdict.name not in MAY_BREAK:
        found.append(f"{verdict.outcomes[Outcome.BROKEN]} broken")
    if verdict.outcomes.get(Outcome.CUT) and verdict.name not in MAY_BE_CUT:
        found.append(f"{verdict.outcomes[Outcome.CUT]} cut")
    return found + ([f"{verdict.leaked} leaked"] if verdict.leaked else [])


async def main(seconds: float, names: list[str], flags: list[str], seed: int) -> bool:
    """Play them. Gives whether all is well."""
    well = True
    for name in names:
        verdict = await play(name, max(3.0, seconds / len(names)), *flags, seed=seed)
        print(verdict.line(), flush=True)  # a command
        for fault in verdict.faults if faults(verdict) else ():
            print(f"    {fault.outcome} {fault.status} {fault.detail[:300]}")
        well = well and not faults(verdict)
    return well


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=120.0, help="in all, shared by the scenarios (120)")
    parser.add_argument("--workers", type=int, default=1, help="processes beside the keeper (1: one in all)")
    parser.add_argument("--only", type=_names, metavar="NAME,...")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("flags", nargs="*", help="flags of standpipe serve, after --")
    given = parser.parse_args()
    names = given.only or list(SCENARIOS if given.workers == 1 else WITH_WORKERS)
    if given.workers > 1:
        given.flags.append(f"--workers={given.workers}")
    sys.exit(0 if asyncio.run(main(given.seconds, names, given.flags, given.seed)) else 1)
