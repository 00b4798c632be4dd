"""The same cases through every engine: scripts/matrix [ENGINE ...] [--install] [--only CASE,...] [--keep]

Starts each engine, puts a Standpipe before it, and judges what a client of the public API gets. With --keep the results
go into results.json beside this, and the table in docs/engines.md is written anew. Exits 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import signal
import sys

from tests.matrix import table
from tests.matrix.engines import RECIPES, install, version
from tests.matrix.play import ALL, Found, Result, play


def main() -> bool:
    """Give whether nothing was wrong."""
    parser = argparse.ArgumentParser(prog="scripts/matrix", description=__doc__)
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help=", ".join(RECIPES))
    parser.add_argument("--install", action="store_true", help="make their environments in build/matrix first")
    parser.add_argument("--only", type=lambda text: tuple(text.split(",")), default=(), metavar="CASE,...")
    parser.add_argument("--keep", action="store_true", help="write results.json and the table of docs/engines.md")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and what was started is ended
    well = True
    for name in given.engines or RECIPES:
        if given.install:
            install(name)
        results: dict[str, Result] = {}

        def report(case: str, result: Result, results: dict[str, Result] = results) -> None:
            results[case] = result
            print(f"{result.found:6}{case:40}{result.remark}", flush=True)

        print(f"\n{name} {version(name)}", flush=True)
        play(name, RECIPES[name], report, given.only or ALL)
        well = well and not any(result.found is Found.WRONG for result in results.values())
        if given.keep:
            table.keep(name, version(name), results)
    return well


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
