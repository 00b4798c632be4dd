"""Trying a great many bytes on whatever reads bytes of strangers.

A `Target` is such a reader: samples of what it reads, words that confuse it, and a check of what must hold for any
bytes in any pieces. Rooms say what must hold (`tests/*/fuzzing.py`); here is how bytes are changed, cut and tried.
Everything follows from one seed. What fails is kept as a file, so that no finding depends on what a terminal shows.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import AnyStr, NamedTuple

FINDINGS = Path(__file__).parents[1] / "artifacts" / "fuzz"
"""Where bytes that broke a property are kept, to be put into the corpus."""


class Target(NamedTuple):
    """`check(data, cuts)` asserts what must hold for these bytes when they are cut at these places (see `cut`)."""

    name: str
    corpus: tuple[bytes, ...]
    words: tuple[bytes, ...]
    check: Callable[[bytes, list[int]], None]


def load(folder: Path, ending: str) -> tuple[bytes, ...]:
    """The samples with this file name ending, in the order of their names."""
    found = tuple(path.read_bytes() for path in sorted(folder.glob(f"*{ending}")))
    assert found, f"no {ending} in {folder}"
    return found


def cut(data: AnyStr, cuts: list[int]) -> list[AnyStr]:
    """The same bytes or text in pieces, none of them empty."""
    edges = [0, *sorted({place % (len(data) + 1) for place in cuts}), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def tries(target: Target, rng: random.Random) -> Iterator[tuple[bytes, list[int]]]:
    """Arguments for a target's check, for ever."""
    while True:
        data = mutate(rng.choice(target.corpus), target, rng)
        yield data, [rng.randint(0, 4096) for _ in range(rng.randint(0, 6))]


def mutate(data: bytes, target: Target, rng: random.Random) -> bytes:
    """A few changes of the kinds that confuse parsers."""
    for _ in range(rng.randint(0, 4)):
        place, other = rng.randint(0, len(data)), rng.randint(0, len(data))
        low, high = min(place, other), max(place, other)
        match rng.randint(0, 5):
            case 0:
                data = data[:place] + rng.choice(target.words) + data[place:]
            case 1:
                data = data[:place] + data[place + rng.randint(1, 3) :]
            case 2:
                data = data[:place] + bytes([rng.randint(0, 255)]) + data[place + 1 :]
            case 3:
                data = data[:high] + data[low:high] + data[high:]
            case 4:
                data = data[:low] + data[high:]
            case _:
                data += rng.choice(target.corpus)
    return data


def keep(name: str, data: bytes) -> Path:
    """Write what was found to a file of its own; the same bytes go to the same file."""
    FINDINGS.mkdir(parents=True, exist_ok=True)
    path = FINDINGS / f"{name.replace(' ', '-')}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return path


def main(*targets: Target) -> int:
    """Try mutations of the corpus for some seconds. A failure keeps the bytes that show it, and prints them last."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randint(0, 1 << 32)
    end, tried = time.monotonic() + options.seconds, Counter[str]()
    sources = [(target, tries(target, random.Random(f"{seed} {target.name}"))) for target in targets]
    while time.monotonic() < end:
        for target, source in sources:
            data, cuts = next(source)
            try:
                target.check(data, cuts)
            except BaseException as error:  # the interruption of a check that hangs is a finding too
                error.add_note(f"seed {seed}, {target.name} {tried[target.name]}: check({data!r}, {cuts!r})")
                error.add_note(f"kept in {keep(target.name, data)}")
                raise
            tried[target.name] += 1
    print(f"seed {seed}: {', '.join(f'{many} {name}' for name, many in tried.items())} tried, nothing found")
    return 0
