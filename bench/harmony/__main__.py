"""The published figure: `python -m bench.harmony [--splits N] [--seed N]`. Prints a table in Markdown."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.harmony.measure import Outcome, embedded, engines_own, filtered, held, pure, undamaged
from tests.gptoss import tiny
from tests.gptoss.corpus import Damage, load
from tests.gptoss.serving import serving

Row = Mapping[Outcome, int]


def through_engine(model: Path, kinds: Iterable[Damage], *, own_parser: bool) -> dict[str, Outcome]:
    """What becomes of each kind in the real engine."""
    read = engines_own if own_parser else embedded
    with serving(model, own_parser=own_parser) as server:
        return {damage.name: read(server, damage) for damage in kinds}


def table(rows: Mapping[str, Row]) -> str:
    lines = ["| reader | " + " | ".join(Outcome) + " | of |", "|---|" + "---|" * (len(Outcome) + 1)]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[one]:,}" for one in Outcome) + f" | {sum(row.values()):,} |")
    return "\n".join(lines)


def report(kinds: list[Damage], splits: int, seed: int, model: Path) -> bool:
    """Print one table for these kinds; whether our readers got all of them right."""
    ours = through_engine(model, kinds, own_parser=False)
    theirs = through_engine(model, kinds, own_parser=True)
    rows: dict[str, Row] = {
        f"our parser, {splits:,} random splits of each": sum((pure(kind, splits, seed) for kind in kinds), Counter()),
        "our filter, all of it leaked as the answer": sum((filtered(kind, splits, seed) for kind in kinds), Counter()),
        "real engine, our parser": Counter(ours.values()),
        "real engine, its own parser": Counter(theirs.values()),
    }
    print(table(rows) + "\n")
    for outcome in (Outcome.FAILED, Outcome.LEAKED, Outcome.WRONG):
        for whose, outcomes in (("our parser", ours), ("its own parser", theirs)):
            if names := [name for name, one in outcomes.items() if one is outcome]:
                print(f"{outcome} with {whose}: {', '.join(names)}\n")
    return all(sum(row.values()) == row[Outcome.RIGHT] for name, row in rows.items() if "its own" not in name)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.harmony", description=__doc__)
    parser.add_argument("--splits", type=int, default=1000, help="random splits of each kind (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="of the splits (default 1)")
    options = parser.parse_args()
    kinds = load()
    clean = undamaged(kinds[0])
    with tempfile.TemporaryDirectory() as folder:
        model = tiny.write(Path(folder) / "tiny.gguf")
        print(f"## Damaged: {len(kinds)} kinds\n")
        repaired = report(kinds, options.splits, options.seed, model)
        print(f"## Undamaged: {len(clean)} turns\n")
        kept = report(clean, options.splits, options.seed, model)
    most = max(held(turn) for turn in clean if not turn.expect.tool_calls)
    print(f"Most characters of an undamaged turn's text held back, fed one by one: {most}.")
    return 0 if repaired and kept else 1


if __name__ == "__main__":
    sys.exit(main())
